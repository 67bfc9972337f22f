"""``onnxsemi apply``."""

import typer

from onnxsemi import pipeline, report
from onnxsemi.cli import image_options as img
from onnxsemi.cli import options as opt
from onnxsemi.cli import plan_options as plans
from onnxsemi.cli.frame import data_options, end_by, one_line_errors, progress_of, show
from onnxsemi.cli.help import HelpAll
from onnxsemi.settings import Settings


def apply(
    plan: plans.PlanPath,
    out: opt.OutFile,
    model: plans.OptionalModel = None,
    at: plans.At = None,
    profile: opt.ProfileName = Settings.profile,
    align: opt.Align = Settings.align,
    data: plans.OptionalData = None,
    calibration_data: opt.ActivationsData = None,
    calibration: opt.CalibrationName = Settings.calibration,
    calibration_samples: opt.CalibrationSamples = Settings.calibration_samples,
    mean: img.Mean = None,
    std: img.Std = None,
    resize: img.Resize = None,
    crop: img.Crop = None,
    preset: img.PresetName = None,
    classes: img.Classes = None,
    labels: img.Labels = None,
    threads: opt.Threads = None,
    allow_loss: opt.AllowLoss = False,
    strict: opt.Strict = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    help_all: HelpAll = False,
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
    del help_all  # its callback has shown it
    if model is None and not plan.is_dir():
        raise typer.BadParameter("Missing argument 'MODEL': only a run knows its model.")
    with one_line_errors(), progress_of(silent=quiet or as_json) as progress:
        result = pipeline.apply(
            plan,
            model,
            output=out,
            at=at,
            profile=profile,
            align=align,
            data=data,
            calibration_data=calibration_data,
            calibration=calibration,
            calibration_samples=calibration_samples,
            data_options=data_options(mean, std, resize, crop, preset, classes, labels),
            threads=threads,
            allow_loss=allow_loss,
            progress=progress,
        )
    show(report.apply_table(result), report.apply_document(result), as_json, quiet)
    end_by(result, strict=strict)
