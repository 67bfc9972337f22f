"""``onnxsemi inspect``."""

from onnxsemi import pipeline, report
from onnxsemi.cli import options as opt
from onnxsemi.cli import plan_options as plans
from onnxsemi.cli.frame import one_line_errors, show
from onnxsemi.model.read import ReadOptions


def inspect(
    model: plans.AnyFile,
    other: plans.OtherFile = None,
    targets: opt.Targets = ReadOptions.targets,
    exclude: opt.Exclude = None,
    output: opt.OutputName = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Show what a file holds, layer by layer.

    For a float model: which layers 'compress' would quantize, and why not the others. For a
    compressed file: the bitwidths of each layer's channels and the bytes that they take. With two
    files, plans or compressed models: which channels have other bits, and what else differs.

    **Example:** onnxsemi inspect small.onnx

    **Example:** onnxsemi inspect small.plan.json edited.plan.json
    """
    if other is not None:
        with one_line_errors():
            compared = pipeline.compare(model, other)
        show(report.compare_table(compared), report.compare_document(compared), as_json, quiet)
        return
    with one_line_errors():
        options = ReadOptions(targets=targets, exclude=tuple(exclude or ()), output=output)
        result = pipeline.inspect(model, options=options)
    show(report.inspect_table(result), report.inspect_document(result), as_json, quiet)
