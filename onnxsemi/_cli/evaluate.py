"""``onnxsemi evaluate``."""

from onnxsemi import _pipeline as pipeline
from onnxsemi import _report as report
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import Printed
from onnxsemi._settings import EvaluateSettings


def evaluate(
    model: opt.AnyModel,
    data: opt.Images,
    settings: EvaluateSettings,
    printed: Printed,
    reference: opt.Reference = None,
) -> None:
    """Measure accuracy and loss, and the difference from a reference model.

    With --reference: agreement, KL divergence, images broken and fixed, a 95 % interval of the
    change in accuracy and McNemar's p-value. Without labels: agreement and KL divergence.

    **Example:** onnxsemi evaluate small.onnx --reference model.onnx --data test.npz
    """
    with printed.progress() as progress:
        result = pipeline.evaluate(
            model, data, reference=reference, settings=settings, progress=progress
        )
    printed.show(report.evaluate_table(result), report.evaluate_document(result))
