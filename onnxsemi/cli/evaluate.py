"""``onnxsemi evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from onnxsemi import pipeline, report
from onnxsemi.cli import image_options as img
from onnxsemi.cli import options as opt
from onnxsemi.cli.frame import data_options, one_line_errors, progress_of, show
from onnxsemi.cli.help import HelpAll

Reference = Annotated[
    Path | None, typer.Option(help="Compare with this model: the float one, say.")
]


def evaluate(
    model: opt.AnyModel,
    data: opt.DataPath,
    reference: Reference = None,
    output: opt.OutputName = None,
    mean: img.Mean = None,
    std: img.Std = None,
    resize: img.Resize = None,
    crop: img.Crop = None,
    preset: img.PresetName = None,
    classes: img.Classes = None,
    labels: img.Labels = None,
    force: img.Force = False,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    help_all: HelpAll = False,
) -> None:
    """Measure accuracy and loss, and the difference from a reference model.

    With --reference: agreement, KL divergence, images lost and won, a 95 % interval of the change
    in accuracy and McNemar's p-value. Without labels: agreement and KL divergence.

    **Example:** onnxsemi evaluate small.onnx --reference model.onnx --data test.npz
    """
    del help_all  # its callback has shown it
    with one_line_errors(), progress_of(silent=quiet or as_json) as progress:
        result = pipeline.evaluate(
            model,
            data,
            reference=reference,
            output=output,
            data_options=data_options(mean, std, resize, crop, preset, classes, labels),
            force=force,
            threads=threads,
            progress=progress,
        )
    show(report.evaluate_table(result), report.evaluate_document(result), as_json, quiet)
