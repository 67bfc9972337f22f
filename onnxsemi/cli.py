"""The command line: the only module that prints, and that turns an error into an exit code.

Exit codes: 0 done; 1 the model, the data, the plan or a setting cannot be used, or the accuracy
asked for cannot be held; 2 the command line itself is wrong.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

from onnxsemi import __about__, pipeline, report
from onnxsemi.bitwidth import parse_ladder
from onnxsemi.data.load import DataOptions, Preset
from onnxsemi.errors import OnnxSemiError, SettingsError
from onnxsemi.model.read import ReadOptions
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.progress import Progress, Silent
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.search.ranking import Order
from onnxsemi.search.run import SearchSettings
from onnxsemi.search.semilayers import Split
from onnxsemi.settings import Pin, Settings
from onnxsemi.terminal import LineProgress, LiveProgress

app = typer.Typer(
    help="Make a trained ONNX classifier much smaller without losing accuracy, and without "
    "retraining: mixed-precision quantization by semilayers (Matsumoto et al., PMLR 222, 2024).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_DATA = "Images"
_SEARCH = "Search"
_LAYERS = "Layers"

ModelFile = Annotated[Path, typer.Argument(help="The float ONNX model, opset 7 or newer.")]
OutFile = Annotated[
    Path, typer.Option("--out", "-o", help="Where to write. It appears only once it is verified.")
]
DataPath = Annotated[
    Path,
    typer.Option(
        "--data",
        "-d",
        help="Images: an .npz file with x (uint8 N,H,W,C, or float32 in the model's layout) and "
        "labels y, or a folder with one folder a class. Without labels the float model's own "
        "answers take their place.",
        rich_help_panel=_DATA,
    ),
]
OptionalData = Annotated[
    Path | None,
    typer.Option("--data", "-d", help="Images to measure accuracy on.", rich_help_panel=_DATA),
]
Numbers = str | None
Mean = Annotated[
    Numbers,
    typer.Option(
        help="Mean of the pixels on the scale 0 to 1, such as 0.485,0.456,0.406; for uint8 images "
        "after /255. Replaces what the file says.",
        rich_help_panel=_DATA,
    ),
]
Std = Annotated[Numbers, typer.Option(help="Standard deviation, likewise.", rich_help_panel=_DATA)]
Resize = Annotated[
    int | None,
    typer.Option(
        help="Image files: length of the shorter side after resizing.", rich_help_panel=_DATA
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(
        help="Image files: side of the centred square; the model's input size unless given.",
        rich_help_panel=_DATA,
    ),
]
PresetName = Annotated[
    Preset | None,
    typer.Option(
        help="imagenet: shorter side 256, centre 224, the usual mean and std.",
        rich_help_panel=_DATA,
    ),
]
OutputName = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="The model's output with the class scores, if it has several outputs.",
        rich_help_panel=_LAYERS,
    ),
]
Targets = Annotated[
    TargetPolicy,
    typer.Option(
        help="hidden: the paper's (no stem, no projection shortcut, no classifier); conv: every "
        "convolution; all: Gemm and MatMul too.",
        rich_help_panel=_LAYERS,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave layers as they are; shell pattern of layer names (see 'inspect'). Repeatable.",
        rich_help_panel=_LAYERS,
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="Work done at once; every core by default. Changes no result.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output instead.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


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
    model: ModelFile,
    data: DataPath,
    out: OutFile,
    report_data: Annotated[
        Path | None,
        typer.Option(
            help="Images that the search never sees, to measure the result on. Without it a "
            "seeded, stratified share of --data is kept for that.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    report_fraction: Annotated[
        float,
        typer.Option(help="That share, without --report-data.", rich_help_panel=_DATA),
    ] = Settings.report_fraction,
    bits: Annotated[
        str, typer.Option(help="Bitwidths to use, 2 to 8.", rich_help_panel=_SEARCH)
    ] = ",".join(map(str, SearchSettings.bits)),
    max_drop: Annotated[
        float,
        typer.Option(
            help="Percentage points of top-1 on the search images that may be lost.",
            rich_help_panel=_SEARCH,
        ),
    ] = SearchSettings.max_drop,
    order: Annotated[
        Order,
        typer.Option(
            help="Try the most or the least sensitive semilayer first.", rich_help_panel=_SEARCH
        ),
    ] = SearchSettings.order,
    split: Annotated[
        Split,
        typer.Option(
            help="sign: two semilayers a layer by the sign of Δloss; none: whole layers.",
            rich_help_panel=_SEARCH,
        ),
    ] = SearchSettings.split,
    scheme: Annotated[
        Scheme,
        typer.Option(
            help="asymmetric: minimum to maximum, the paper's; symmetric: centred on zero.",
            rich_help_panel=_SEARCH,
        ),
    ] = Settings.scheme,
    delta_loss_samples: Annotated[
        int,
        typer.Option(
            help="Images for Δloss; the cost of the exact way grows with channels x bitwidths x "
            "images.",
            rich_help_panel=_SEARCH,
        ),
    ] = Settings.delta_loss_samples,
    search_samples: Annotated[
        int | None,
        typer.Option(
            help="Images for KL and accuracy during the search; all by default.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of every sample that is drawn.", rich_help_panel=_SEARCH)
    ] = Settings.seed,
    targets: Targets = ReadOptions.targets,
    exclude: Exclude = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=BITS",
            help="Give layers a bitwidth instead of searching it, such as 'layer3.*=8'. "
            "Repeatable.",
            rich_help_panel=_LAYERS,
        ),
    ] = None,
    output: OutputName = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    preset: PresetName = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the bitwidths and write the compressed model, verified.

    Measures what quantizing each channel does to the loss (Δloss), splits each layer into two
    semilayers by its sign, ranks them by the KL divergence that they cause, and lowers their
    bitwidths while accuracy on the search images holds. The written file is read back, compared
    bit for bit with what was measured, and its accuracy measured on images the search never saw.
    The plan is written beside it, as NAME.plan.json, for 'apply'.

    **Example:** onnxsemi compress model.onnx --data images.npz -o small.onnx
    """
    with _one_line_errors(), _progress(silent=quiet or as_json) as progress:
        settings = Settings(
            search=SearchSettings(
                bits=parse_ladder(bits), order=order, split=split, max_drop=max_drop
            ),
            model=ReadOptions(targets=targets, exclude=tuple(exclude or ()), output=output),
            data=_data_options(mean, std, resize, crop, preset),
            scheme=scheme,
            pins=tuple(map(Pin.parse, pin or ())),
            delta_loss_samples=delta_loss_samples,
            search_samples=search_samples,
            report_fraction=report_fraction,
            seed=seed,
            threads=threads,
        )
        result = pipeline.compress(
            model, data, output=out, report_data=report_data, settings=settings, progress=progress
        )
    _show(report.compress_table(result), report.compress_document(result), as_json, quiet)


@app.command()
def apply(
    plan: Annotated[Path, typer.Argument(help="A plan written by 'compress', edited or not.")],
    model: ModelFile,
    out: OutFile,
    data: OptionalData = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    preset: PresetName = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a model with the bitwidths of a plan, without searching.

    A plan is a JSON file that can be edited: it lists each layer's channels by bitwidth, 2 to 8 or
    32 for float32. It must name every channel of every target layer of the model it was made for.

    **Example:** onnxsemi apply small.plan.json model.onnx -o small.onnx
    """
    with _one_line_errors():
        result = pipeline.apply(
            plan,
            model,
            output=out,
            data=data,
            data_options=_data_options(mean, std, resize, crop, preset),
            threads=threads,
        )
    _show(report.apply_table(result), report.apply_document(result), as_json, quiet)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="An ONNX classifier, float or compressed.")],
    data: DataPath,
    reference: Annotated[
        Path | None, typer.Option(help="Compare with this model: the float one, say.")
    ] = None,
    output: OutputName = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    preset: PresetName = None,
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
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
    model: Annotated[Path, typer.Argument(help="An ONNX classifier, float or compressed.")],
    targets: Targets = ReadOptions.targets,
    exclude: Exclude = None,
    output: OutputName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
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


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """A user's mistake: one line on standard error, exit code 1."""
    try:
        yield
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
    mean: Numbers, std: Numbers, resize: int | None, crop: int | None, preset: Preset | None
) -> DataOptions:
    return DataOptions(
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        resize=resize,
        crop=crop,
        preset=preset,
    )


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{flag}: {text!r} is no list of numbers such as 0.5,0.5,0.5") from None
