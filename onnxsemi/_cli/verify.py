"""``onnxsemi verify``."""

from onnxsemi import _pipeline as pipeline
from onnxsemi import _report as report
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import Printed


def verify(
    model: opt.WrittenModel,
    printed: Printed,
    plan: opt.PlanToMatch = None,
    run: opt.RunToMatch = None,
) -> None:
    """Check that a written file is whole, and the one of a plan or of a run.

    Compares digests, and runs nothing: of the file with what it says of itself; with --plan of its
    bitwidths and weights with those of the plan; with --run with those of the run's points, and of
    every file of the run with its own. Exit code 1 and one line if anything differs.

    **Example:** onnxsemi verify small.onnx --plan small.plan.json --run small.run
    """
    result = pipeline.verify(model, plan=plan, run=run)
    printed.show(report.verify_table(result), report.verify_document(result))
