"""``onnxsemi report``."""

import typer

from onnxsemi.cli import options as opt
from onnxsemi.cli import plan_options as plans
from onnxsemi.cli.frame import one_line_errors
from onnxsemi.report.page import write_page
from onnxsemi.run.folder import REPORT


def report(run: plans.RunFolder, out: plans.ReportOut = None, quiet: opt.Quiet = False) -> None:
    """Show a run as one HTML page, which opens in any browser and needs no network.

    What became smaller and what it cost, with the interval; every trial of the search; the bits of
    every channel; Δloss and KL; the report images whose answer changed; how to do it again.

    **Example:** onnxsemi report small.run
    """
    with one_line_errors():
        target = out or run / REPORT
        write_page(run, target)
    if not quiet:
        typer.echo(f"Wrote {target}.")
