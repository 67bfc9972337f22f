"""``onnxsemi apply``."""

from pathlib import Path
from typing import Annotated

import typer

from onnxsemi import pipeline, report
from onnxsemi.cli import options as opt
from onnxsemi.cli.frame import data_options, one_line_errors, progress_of, show
from onnxsemi.settings import Settings

PlanPath = Annotated[Path, typer.Argument(help="A plan written by 'compress', edited or not.")]


def apply(
    plan: PlanPath,
    model: opt.ModelFile,
    out: opt.OutFile,
    profile: opt.ProfileName = Settings.profile,
    align: opt.Align = Settings.align,
    data: opt.OptionalData = None,
    calibration_data: opt.CalibrationData = None,
    calibration: opt.CalibrationName = Settings.calibration,
    calibration_samples: opt.CalibrationSamples = Settings.calibration_samples,
    mean: opt.Mean = None,
    std: opt.Std = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    preset: opt.PresetName = None,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Write a model with the bitwidths of a plan, without searching.

    A plan is a JSON file that can be edited: it lists each layer's channels by bitwidth, 1 to 8 or
    32 for float32. It must name every channel of every target layer of the model it was made for.

    **Example:** onnxsemi apply small.plan.json model.onnx -o small.onnx
    """
    with one_line_errors(), progress_of(silent=quiet or as_json) as progress:
        result = pipeline.apply(
            plan,
            model,
            output=out,
            profile=profile,
            align=align,
            data=data,
            calibration_data=calibration_data,
            calibration=calibration,
            calibration_samples=calibration_samples,
            data_options=data_options(mean, std, resize, crop, preset),
            threads=threads,
            progress=progress,
        )
    show(report.apply_table(result), report.apply_document(result), as_json, quiet)
