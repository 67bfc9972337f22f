"""``onnxsemi apply``."""

import typer

from onnxsemi import _pipeline as pipeline
from onnxsemi import _report as report
from onnxsemi._cli import options as opt
from onnxsemi._cli.output import PrintedVerdict
from onnxsemi._settings import ApplySettings


def apply(
    plan: opt.PlanPath,
    out: opt.OutFile,
    settings: ApplySettings,
    printed: PrintedVerdict,
    model: opt.OptionalModel = None,
    data: opt.ImagesOfPlan = None,
    calibration_data: opt.ActivationImages = None,
) -> None:
    """Write a model with the bitwidths of a plan, or of another point of a run, without searching.

    A plan is a JSON file that can be edited: it lists each layer's channels by bitwidth, 1 to 8 or
    32 for float32. It must name every channel of every target layer of the model it was made for.

    A run's folder stands for every point that 'pareto' lists: --at says which. The run knows its
    model, and the images that weights are rounded on, if they are still where they were. The plan
    is written beside the output, as NAME.plan.json.

    **Example:** onnxsemi apply small.plan.json model.onnx -o small.onnx

    **Example:** onnxsemi apply small.run --at 85% -o larger.onnx
    """
    if model is None and plan.is_file():
        raise typer.BadParameter("Missing argument 'MODEL': only a run knows its model.")
    with printed.progress() as progress:
        result = pipeline.apply(
            plan,
            model,
            output=out,
            data=data,
            calibration_data=calibration_data,
            settings=settings,
            progress=progress,
        )
    printed.show(report.apply_table(result), report.apply_document(result))
    printed.end(result)
