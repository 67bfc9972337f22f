"""``onnxsemi pareto``."""

from onnxsemi import _pipeline as pipeline
from onnxsemi import _report as report
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import Printed


def pareto(run: opt.RunFolder, printed: Printed, every: opt.EveryPoint = False) -> None:
    """List what a run could have written: sizes against accuracy.

    Measured points come with their change of accuracy on the calibration images, other points
    of the frontier with the KL that is predicted for them. 'apply RUN --at' writes any of them.

    **Example:** onnxsemi pareto small.run
    """
    kept = pipeline.pareto(run)
    printed.show(report.pareto_table(kept, run, every=every), report.pareto_document(kept, run))
