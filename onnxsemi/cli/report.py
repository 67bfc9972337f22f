"""``onnxsemi report``."""

import typer

from onnxsemi.cli import options as opt
from onnxsemi.cli import plan_options as plans
from onnxsemi.cli.frame import one_line_errors
from onnxsemi.report.page import write_comparison, write_page
from onnxsemi.run.folder import REPORT


def report(runs: plans.RunFolders, out: plans.ReportOut = None, quiet: opt.Quiet = False) -> None:
    """Show a run, or two side by side, as one HTML page, which opens in any browser, offline.

    What to decide by first: accuracy before and after with its interval, the verdict, megabytes,
    speed; accuracy by class; every other size with the command that writes it. Below, folded: the
    evidence, from the bits of every channel to the trials of the search.

    **Example:** onnxsemi report small.run

    **Example:** onnxsemi report small.run smaller.run --out both.html
    """
    if len(runs) > 2:
        raise typer.BadParameter(f"{len(runs)} runs: a page shows one, or two side by side.")
    with one_line_errors():
        if len(runs) == 1:
            target = out or runs[0] / REPORT
            write_page(runs[0], target)
        else:
            if runs[0].resolve() == runs[1].resolve():
                raise typer.BadParameter(f"{runs[1]} is the same run twice.")
            if out is None:
                raise typer.BadParameter(
                    "Two runs: say where to write their page, such as --out both.html."
                )
            target = out
            write_comparison((runs[0], runs[1]), target)
    if not quiet:
        typer.echo(f"Wrote {target}.")
