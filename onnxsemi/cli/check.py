"""``onnxsemi check``."""

from onnxsemi import pipeline
from onnxsemi.cli import image_options as img
from onnxsemi.cli import options as opt
from onnxsemi.cli.frame import data_options, one_line_errors, progress_of, show
from onnxsemi.cli.help import HelpAll
from onnxsemi.memory import parse_memory
from onnxsemi.model.read import ReadOptions
from onnxsemi.report import check_document, check_table
from onnxsemi.search.settings import SearchSettings
from onnxsemi.settings import Settings


def check(
    model: opt.ModelFile,
    data: opt.CalibrationData,
    report_data: img.ReportData = None,
    report_fraction: img.ReportFraction = Settings.report_fraction,
    method: opt.MethodName = SearchSettings.method,
    max_drop: opt.MaxDrop = SearchSettings.max_drop,
    tolerance: opt.Tolerance = SearchSettings.tolerance,
    search_samples: opt.SearchSamples = None,
    targets: opt.Targets = ReadOptions.targets,
    exclude: opt.Exclude = None,
    output: opt.OutputName = None,
    mean: img.Mean = None,
    std: img.Std = None,
    resize: img.Resize = None,
    crop: img.Crop = None,
    preset: img.PresetName = None,
    classes: img.Classes = None,
    labels: img.Labels = None,
    report_labels: img.ReportLabels = None,
    force: img.Force = False,
    max_memory: opt.MaxMemory = None,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    help_all: HelpAll = False,
) -> None:
    """Look at a model and images before compressing, in seconds: what to expect, what is odd.

    Says what the input is, how accurate the float model is on these images, which weights are
    quantized and which stay float32 and why, whether the images can show what is asked, and what a
    run will take. Whatever 'compress' would refuse is refused here.

    **Example:** onnxsemi check model.onnx --data images.npz
    """
    del help_all  # its callback has shown it
    with one_line_errors(), progress_of(silent=quiet or as_json) as progress:
        settings = Settings(
            search=SearchSettings(method=method, max_drop=max_drop, tolerance=tolerance),
            model=ReadOptions(targets=targets, exclude=tuple(exclude or ()), output=output),
            data=data_options(mean, std, resize, crop, preset, classes, labels),
            report_labels=report_labels,
            report_fraction=report_fraction,
            search_samples=search_samples,
            force=force,
            max_memory=None if max_memory is None else parse_memory(max_memory),
            threads=threads,
        )
        result = pipeline.check(
            model, data, report_data=report_data, settings=settings, progress=progress
        )
    show(check_table(result), check_document(result), as_json, quiet)
