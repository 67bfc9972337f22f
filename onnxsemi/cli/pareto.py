"""``onnxsemi pareto``."""

from onnxsemi import pipeline, report
from onnxsemi.cli import options as opt
from onnxsemi.cli.printed import Printed


def pareto(run: opt.RunFolder, printed: Printed, every: opt.EveryPoint = False) -> None:
    """List what a run could have written: sizes against accuracy.

    Measured points come with their change of accuracy on the calibration images, other stops of the
    frontier with the harm that is predicted for them. 'apply RUN --at' writes any of them.

    **Example:** onnxsemi pareto small.run
    """
    kept = pipeline.pareto(run)
    printed.show(report.pareto_table(kept, run, every=every), report.pareto_document(kept, run))
