"""The command line: the only module that prints, and that turns an error into an exit code.

Exit codes: 0 done; 1 the model, the data, the plan or a setting cannot be used, or the accuracy
asked for cannot be held; 2 the command line itself is wrong; 130 interrupted.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from onnxsemi import __about__, pipeline, report
from onnxsemi import options as opt
from onnxsemi.bitwidth import parse_ladder
from onnxsemi.data.load import DataOptions, Preset
from onnxsemi.errors import OnnxSemiError, SettingsError
from onnxsemi.memory import parse_memory
from onnxsemi.model.read import ReadOptions
from onnxsemi.progress import Progress, Silent
from onnxsemi.rounding.ranges import Ranges
from onnxsemi.rounding.settings import Inputs, RoundingMethod, RoundingSettings
from onnxsemi.search.settings import SearchSettings
from onnxsemi.settings import Pin, RunOptions, Settings, parse_duration
from onnxsemi.terminal import LineProgress, LiveProgress

app = typer.Typer(
    help="Make a trained ONNX classifier much smaller without losing accuracy, and without "
    "retraining: mixed-precision quantization by semilayers (Matsumoto et al., PMLR 222, 2024).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxsemi {__about__.VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command()
def compress(
    model: opt.ModelFile,
    data: opt.DataPath,
    out: opt.OutFile,
    profile: opt.ProfileName = Settings.profile,
    align: opt.Align = Settings.align,
    report_data: opt.ReportData = None,
    report_fraction: opt.ReportFraction = Settings.report_fraction,
    method: opt.MethodName = SearchSettings.method,
    bits: opt.Bits = None,
    max_drop: opt.MaxDrop = SearchSettings.max_drop,
    tolerance: opt.Tolerance = SearchSettings.tolerance,
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
    mean: opt.Mean = None,
    std: opt.Std = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    preset: opt.PresetName = None,
    run: opt.RunPath = None,
    resume: opt.Resume = False,
    time_budget: opt.TimeBudget = None,
    max_memory: opt.MaxMemory = None,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Find the bitwidths and write the compressed model, verified.

    Measures what quantizing each channel does to the loss (Δloss) and to the softmax (KL), at every
    bitwidth; looks along the frontier of plans that are predicted to do least harm for the smallest
    that nothing on the search images speaks against; and lowers semilayers, channels of a layer
    that share the sign of Δloss, from there on. --method semilayer is the paper's search instead.
    The written file is read back, compared bit for bit with what was measured, and its accuracy
    measured on images the search never saw. The plan is written beside it, as NAME.plan.json, for
    'apply'.

    Everything measured is kept in a folder, NAME.run: after Ctrl-C or a crash, the same command
    with --resume goes on from there and ends in the same file.

    **Example:** onnxsemi compress model.onnx --data images.npz -o small.onnx
    """
    folder = run or out.with_suffix(".run")
    with _one_line_errors(folder), _progress(silent=quiet or as_json) as progress:
        settings = Settings(
            search=SearchSettings(
                method=method,
                bits=() if bits is None else parse_ladder(bits),
                order=order,
                split=split,
                max_drop=max_drop,
                tolerance=tolerance,
                tries=tries,
            ),
            rounding=_rounding(ranges, rounding, inputs, bias_correction),
            rounding_samples=rounding_samples,
            model=ReadOptions(targets=targets, exclude=tuple(exclude or ()), output=output),
            data=_data_options(mean, std, resize, crop, preset),
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
            seed=seed,
            threads=threads,
            max_memory=None if max_memory is None else parse_memory(max_memory),
            run=RunOptions(
                folder=folder,
                resume=resume,
                time_budget=None if time_budget is None else parse_duration(time_budget),
            ),
        )
        result = pipeline.compress(
            model, data, output=out, report_data=report_data, settings=settings, progress=progress
        )
    _show(report.compress_table(result), report.compress_document(result), as_json, quiet)


@app.command()
def apply(
    plan: opt.PlanPath,
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
    with _one_line_errors():
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
            data_options=_data_options(mean, std, resize, crop, preset),
            threads=threads,
        )
    _show(report.apply_table(result), report.apply_document(result), as_json, quiet)


@app.command()
def evaluate(
    model: opt.AnyModel,
    data: opt.DataPath,
    reference: opt.Reference = None,
    output: opt.OutputName = None,
    mean: opt.Mean = None,
    std: opt.Std = None,
    resize: opt.Resize = None,
    crop: opt.Crop = None,
    preset: opt.PresetName = None,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure accuracy and loss, and the difference from a reference model.

    With --reference: agreement, KL divergence, images lost and won, and a 95 % interval of the
    change in accuracy.

    **Example:** onnxsemi evaluate small.onnx --reference model.onnx --data test.npz
    """
    with _one_line_errors():
        result = pipeline.evaluate(
            model,
            data,
            reference=reference,
            output=output,
            data_options=_data_options(mean, std, resize, crop, preset),
            threads=threads,
        )
    _show(report.evaluate_table(result), report.evaluate_document(result), as_json, quiet)


@app.command()
def inspect(
    model: opt.AnyModel,
    targets: opt.Targets = ReadOptions.targets,
    exclude: opt.Exclude = None,
    output: opt.OutputName = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Show what a file holds, layer by layer.

    For a float model: which layers 'compress' would quantize, and why not the others. For a
    compressed file: the bitwidths of each layer's channels and the bytes that they take.

    **Example:** onnxsemi inspect small.onnx
    """
    with _one_line_errors():
        options = ReadOptions(targets=targets, exclude=tuple(exclude or ()), output=output)
        result = pipeline.inspect(model, options=options)
    _show(report.inspect_table(result), report.inspect_document(result), as_json, quiet)


@app.command()
def bench(
    models: opt.BenchModels,
    batch: opt.Batches = None,
    threads: opt.BenchThreads = 1,
    rounds: opt.Rounds = 15,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Time models side by side: latency, load time, memory, bytes.

    Every model runs on noise in turn with the others, in a default ONNX Runtime session and as
    onnxsemi.load_session opens it. Times are shown as ratios to the first model.

    **Example:** onnxsemi bench model.onnx small.onnx
    """
    with _one_line_errors(), _progress(silent=quiet or as_json) as progress:
        result = pipeline.bench(
            models, batches=batch or (1, 32), threads=threads, rounds=rounds, progress=progress
        )
    _show(report.bench_table(result), report.bench_document(result), as_json, quiet)


@contextmanager
def _one_line_errors(run: Path | None = None) -> Iterator[None]:
    """A user's mistake: one line on standard error, exit code 1. Ctrl-C: how to go on, 130."""
    try:
        yield
    except KeyboardInterrupt:
        saved = f"; what was measured is in {run}: the same command with --resume goes on from it"
        typer.echo("interrupted" + (saved if run and run.exists() else ""), err=True)
        raise typer.Exit(130) from None
    except OnnxSemiError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _progress(*, silent: bool) -> Iterator[Progress]:
    console = Console(stderr=True)
    if silent:
        yield Silent()
    elif console.is_terminal:
        with LiveProgress(console) as live:
            yield live
    else:
        yield LineProgress(console)


def _show(table: RenderableType, document: dict[str, Any], as_json: bool, quiet: bool) -> None:
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False))
    elif not quiet:
        Console().print(table)


def _data_options(
    mean: str | None, std: str | None, resize: int | None, crop: int | None, preset: Preset | None
) -> DataOptions:
    return DataOptions(
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        resize=resize,
        crop=crop,
        preset=preset,
    )


def _rounding(
    ranges: Ranges, rounding: RoundingMethod, inputs: Inputs, bias_correction: bool
) -> RoundingSettings | None:
    """What was set; None if nothing was."""
    settings = RoundingSettings(
        ranges=ranges, method=rounding, inputs=inputs, bias_correction=bias_correction
    )
    return None if settings == RoundingSettings() else settings


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{flag}: {text!r} is no list of numbers such as 0.5,0.5,0.5") from None
