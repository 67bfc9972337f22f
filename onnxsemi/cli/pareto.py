"""``onnxsemi pareto``."""

from onnxsemi import pipeline, report
from onnxsemi.cli import options as opt
from onnxsemi.cli import plan_options as plans
from onnxsemi.cli.frame import one_line_errors, show


def pareto(
    run: plans.RunFolder,
    every: plans.EveryPoint = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """List what a run could have written: sizes against accuracy.

    Measured points come with their change of accuracy on the calibration images, other stops of the
    frontier with the harm that is predicted for them. 'apply RUN --at' writes any of them.

    **Example:** onnxsemi pareto small.run
    """
    with one_line_errors():
        kept = pipeline.pareto(run)
    table = report.pareto_table(kept, run, every=every)
    show(table, report.pareto_document(kept, run), as_json, quiet)
