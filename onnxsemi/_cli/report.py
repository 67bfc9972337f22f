"""``onnxsemi report``."""

import typer

from onnxsemi._cli import options as opt
from onnxsemi._cli.console import say
from onnxsemi._cli.output import Quiet
from onnxsemi._report.page import write_comparison, write_page
from onnxsemi._run.folder import REPORT


def report(runs: opt.RunFolders, out: opt.PageFile = None, quiet: Quiet = False) -> None:
    """Show a run, or two side by side, as one HTML page, which opens in any browser, offline.

    What to decide by first: accuracy before and after with its interval, the verdict, megabytes,
    speed; accuracy by class; every other size with the command that writes it. Below, folded: the
    evidence, from the bits of every channel to the trials of the search.

    **Example:** onnxsemi report small.run

    **Example:** onnxsemi report small.run smaller.run --out both.html
    """
    if len(runs) > 2:
        raise typer.BadParameter(f"{len(runs)} runs: a page shows one, or two side by side.")
    target = runs[0] / REPORT if out is None else out
    if len(runs) == 1:
        write_page(runs[0], target)
    elif runs[0].resolve() == runs[1].resolve():
        raise typer.BadParameter(f"{runs[1]} is the same run twice.")
    elif out is None:
        raise typer.BadParameter(
            "Two runs: say where to write their page, such as --out both.html."
        )
    else:
        write_comparison((runs[0], runs[1]), target)
    if not quiet:
        say(f"Wrote {target}.")
