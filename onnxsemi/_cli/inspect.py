"""``onnxsemi inspect``."""

from onnxsemi import _pipeline as pipeline
from onnxsemi import _report as report
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import Printed
from onnxsemi._model.reader import ReadOptions


def inspect(
    model: opt.AnyFile, options: ReadOptions, printed: Printed, other: opt.OtherFile = None
) -> None:
    """Show what a file holds, layer by layer.

    For a float model: which layers 'compress' would quantize, and why not the others. For a
    compressed file: the bitwidths of each layer's channels and the bytes that they take. With two
    files, plans or compressed models: which channels have other bits, and what else differs.

    **Example:** onnxsemi inspect small.onnx

    **Example:** onnxsemi inspect small.plan.json edited.plan.json
    """
    if other is not None:
        compared = pipeline.compare(model, other)
        printed.show(report.compare_table(compared), report.compare_document(compared))
        return
    result = pipeline.inspect(model, options=options)
    printed.show(report.inspect_table(result), report.inspect_document(result))
