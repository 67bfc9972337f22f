"""``onnxsemi compress``."""

import typer

from onnxsemi import pipeline
from onnxsemi.bitwidth import parse_ladder
from onnxsemi.cli import image_options as img
from onnxsemi.cli import options as opt
from onnxsemi.cli.frame import data_options, end_by, one_line_errors, progress_of, show
from onnxsemi.cli.help import HelpAll
from onnxsemi.cli.said import command_line
from onnxsemi.memory import parse_memory
from onnxsemi.model.read import ReadOptions
from onnxsemi.report import compress_document, compress_table
from onnxsemi.report.page import check_page, write_page
from onnxsemi.rounding.ranges import Ranges
from onnxsemi.rounding.settings import Inputs, RoundingMethod, RoundingSettings
from onnxsemi.search.settings import SearchSettings
from onnxsemi.settings import Pin, RunOptions, Settings, parse_duration


def compress(
    context: typer.Context,
    model: opt.ModelFile,
    data: opt.CalibrationData,
    out: opt.OutFile,
    profile: opt.ProfileName = Settings.profile,
    align: opt.Align = Settings.align,
    report_data: img.ReportData = None,
    report_fraction: img.ReportFraction = Settings.report_fraction,
    method: opt.MethodName = SearchSettings.method,
    bits: opt.Bits = None,
    max_drop: opt.MaxDrop = SearchSettings.max_drop,
    tolerance: opt.Tolerance = SearchSettings.tolerance,
    guarantee: opt.GuaranteeName = None,
    tries: opt.Tries = SearchSettings.tries,
    ranges: opt.RangesName = RoundingSettings.ranges,
    rounding: opt.RoundingName = RoundingSettings.method,
    inputs: opt.InputsName = RoundingSettings.inputs,
    bias_correction: opt.BiasCorrection = RoundingSettings.bias_correction,
    rounding_samples: opt.RoundingSamples = Settings.rounding_samples,
    order: opt.OrderName = SearchSettings.order,
    split: opt.SplitName = SearchSettings.split,
    scheme: opt.SchemeName = None,
    calibration: opt.CalibrationName = Settings.calibration,
    calibration_samples: opt.CalibrationSamples = Settings.calibration_samples,
    delta_loss: opt.DeltaLoss = Settings.delta_loss,
    kl: opt.Kl = Settings.kl,
    min_agreement: opt.MinAgreement = Settings.min_agreement,
    delta_loss_samples: opt.DeltaLossSamples = None,
    search_samples: opt.SearchSamples = None,
    seed: opt.Seed = Settings.seed,
    targets: opt.Targets = ReadOptions.targets,
    exclude: opt.Exclude = None,
    pin: opt.Pins = None,
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
    run: opt.RunPath = None,
    resume: opt.Resume = False,
    time_budget: opt.TimeBudget = None,
    max_memory: opt.MaxMemory = None,
    threads: opt.Threads = None,
    report: opt.ReportPage = None,
    bench: opt.Bench = False,
    allow_loss: opt.AllowLoss = False,
    strict: opt.Strict = False,
    as_json: opt.AsJson = False,
    verbose: opt.Verbose = False,
    quiet: opt.Quiet = False,
    help_all: HelpAll = False,
) -> None:
    """Find the bitwidths and write the compressed model, verified.

    **Example:** onnxsemi compress model.onnx --data images.npz -o small.onnx

    Measures what quantizing each channel does to the softmax and the loss, and looks for the
    smallest plan of bitwidths that nothing on the calibration images speaks against. The written
    file is read back, compared bit for bit with what was measured, and judged by images that the
    search never saw: the verdict. The plan is written beside it, as NAME.plan.json, for 'apply'.

    Everything measured is kept in a folder, NAME.run: after Ctrl-C or a crash, the same command
    with --resume goes on from there and ends in the same file.

    **For integer kernels:** onnxsemi compress model.onnx --data images.npz -o small.onnx --profile
    int8
    """
    del help_all  # its callback has shown it
    folder = run or out.with_suffix(".run")
    with one_line_errors(folder), progress_of(silent=quiet or as_json) as progress:
        if report is not None:
            check_page(report, folder, (model, data, out, out.with_suffix(".plan.json")))
        settings = Settings(
            search=SearchSettings(
                method=method,
                bits=() if bits is None else parse_ladder(bits),
                order=order,
                split=split,
                max_drop=max_drop,
                tolerance=tolerance,
                guarantee=guarantee,
                tries=tries,
            ),
            rounding=_rounding(ranges, rounding, inputs, bias_correction),
            rounding_samples=rounding_samples,
            model=ReadOptions(targets=targets, exclude=tuple(exclude or ()), output=output),
            data=data_options(mean, std, resize, crop, preset, classes, labels),
            scheme=scheme,
            profile=profile,
            align=align,
            calibration=calibration,
            calibration_samples=calibration_samples,
            pins=tuple(map(Pin.parse, pin or ())),
            delta_loss=delta_loss,
            kl=kl,
            min_agreement=min_agreement,
            delta_loss_samples=delta_loss_samples,
            search_samples=search_samples,
            report_fraction=report_fraction,
            report_labels=report_labels,
            force=force,
            seed=seed,
            threads=threads,
            allow_loss=allow_loss,
            bench=bench,
            max_memory=None if max_memory is None else parse_memory(max_memory),
            run=RunOptions(
                folder=folder,
                resume=resume,
                time_budget=None if time_budget is None else parse_duration(time_budget),
                command=command_line(context),
            ),
        )
        result = pipeline.compress(
            model, data, output=out, report_data=report_data, settings=settings, progress=progress
        )
        if report is not None:
            write_page(folder, report)
    show(compress_table(result, verbose=verbose), compress_document(result), as_json, quiet)
    end_by(result, strict=strict)


def _rounding(
    ranges: Ranges, rounding: RoundingMethod, inputs: Inputs, bias_correction: bool
) -> RoundingSettings | None:
    """What was set; None if nothing was."""
    settings = RoundingSettings(
        ranges=ranges, method=rounding, inputs=inputs, bias_correction=bias_correction
    )
    return None if settings == RoundingSettings() else settings
