"""The options of the command line: their names, types and help."""

from pathlib import Path
from typing import Annotated

import typer

from onnxsemi.calibration import Calibration
from onnxsemi.cli.help import advanced
from onnxsemi.emit.profile import Profile
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.rounding.ranges import Ranges
from onnxsemi.rounding.settings import Inputs, RoundingMethod
from onnxsemi.search.guard import Guarantee
from onnxsemi.search.ranking import Order
from onnxsemi.search.semilayers import Split
from onnxsemi.search.settings import SearchMethod
from onnxsemi.settings import Method

_FILE = "File"
_SHOWN = "What is printed"
_DATA = "Images"
_SEARCH = "Search"
_ROUNDING = "Rounding (method frontier)"
_LAYERS = "Layers"
_RUN = "Run"
_INT8 = "Activations in uint8 (profile int8)"

ModelFile = Annotated[Path, typer.Argument(help="The float ONNX model, opset 7 or newer.")]
OutFile = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="Where to write. It appears only once it is verified.",
        rich_help_panel=_FILE,
    ),
]
ProfileName = Annotated[
    Profile,
    typer.Option(
        metavar="NAME",
        help="Form of the file. qdq: bit-packed weights behind DequantizeLinear, full speed with "
        "onnxsemi.load_session; fast: behind plain arithmetic, full speed in any session; int8: "
        "activations in uint8 too, for integer kernels, the fastest; native: "
        "ONNX's own types of 2 and 4 bits (opset 25 and 21); nodes: one node a semilayer; fake: "
        "float32 weights on the grid, no smaller, for importers that take nothing else.",
        rich_help_panel=_FILE,
    ),
]
Align = Annotated[
    int,
    advanced(
        metavar="CHANNELS",
        help="Round bitwidths up, so that the channels of each in a layer are a multiple of this: "
        "16 makes profile nodes faster (kernels compute channels in blocks).",
        rich_help_panel=_FILE,
    ),
]
CalibrationData = Annotated[
    Path,
    typer.Option(
        "--calibration-data",
        "-d",
        help="Images to round, measure and search on, which the model was not trained on: an .npz "
        "file with x (uint8 N,H,W,C, or float32 in the model's layout) and labels y, or a folder "
        "with one folder a class. Without labels the float model's own answers take their place.",
        rich_help_panel=_DATA,
    ),
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
OutputName = Annotated[
    str | None,
    advanced(
        "--output",
        metavar="NAME",
        help="The model's output with the class scores, if it has several outputs.",
        rich_help_panel=_LAYERS,
    ),
]
Targets = Annotated[
    TargetPolicy,
    advanced(
        help="hidden: the paper's (no stem, no projection shortcut, no classifier); conv: every "
        "convolution; all: Gemm and MatMul too.",
        rich_help_panel=_LAYERS,
    ),
]
Exclude = Annotated[
    list[str] | None,
    advanced(
        metavar="PATTERN",
        help="Leave layers as they are; shell pattern of layer names (see 'inspect'). Repeatable.",
        rich_help_panel=_LAYERS,
    ),
]
Threads = Annotated[
    int | None,
    advanced(
        help="Shards of images worked on at once; every core by default. Changes no result.",
        rich_help_panel=_RUN,
    ),
]
RunPath = Annotated[
    Path | None,
    advanced(
        "--run",
        metavar="FOLDER",
        help="Where the run is kept; by default beside the output, as NAME.run.",
        rich_help_panel=_RUN,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the run in the folder, if there is one: give the same command again. The "
        "result is the same as without the interruption. --max-drop, --tolerance, --guarantee and "
        "--test-data may be others: what was measured is not measured again.",
        rich_help_panel=_RUN,
    ),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Take the best so far after this time, such as 10m or 1h30m; --resume goes on.",
        rich_help_panel=_RUN,
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory to keep within, such as 2GB, for any number of images; by default half of "
        "what is free. Changes no result.",
        rich_help_panel=_RUN,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON document with all that was measured instead of the table; no progress.",
        rich_help_panel=_SHOWN,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Nothing but errors and warnings.", rich_help_panel=_SHOWN),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="How the result was found, too: sizes, cost, how far estimates were right.",
        rich_help_panel=_SHOWN,
    ),
]
AllowLoss = Annotated[
    bool,
    typer.Option(
        "--allow-loss",
        help="Write the file although the test images show a loss beyond what was asked for.",
        rich_help_panel=_FILE,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with 3 unless the test images show that what was asked for holds.",
        rich_help_panel=_FILE,
    ),
]

MethodName = Annotated[
    SearchMethod,
    advanced(
        "--method",
        help="frontier: plans over all bitwidths by predicted harm, weights rounded so that the "
        "others make up for each error; semilayer: the paper's, one bitwidth at a time, weights to "
        "the nearest level.",
        rich_help_panel=_SEARCH,
    ),
]
Bits = Annotated[
    str | None,
    advanced(
        help="Bitwidths to use: 1 to 8 unless given, 8,6,4 for --method semilayer. With 0 among "
        "them (frontier), channels may lose all weights: their output is constant then.",
        rich_help_panel=_SEARCH,
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        help="Percentage points that the paired 95 % interval of the change on the search "
        "images may reach below --max-drop: bounds how many answers may change (frontier).",
        rich_help_panel=_SEARCH,
    ),
]
Tries = Annotated[
    int,
    advanced(
        help="Semilayers that are tried on top of the best plan of the frontier.",
        rich_help_panel=_SEARCH,
    ),
]
RangesName = Annotated[
    Ranges,
    advanced(
        "--ranges",
        metavar="NAME",
        help="minmax: smallest to largest weight; mse: the clip that changes the weights least; "
        "output: the clip whose rounded weights change the layer's output least.",
        rich_help_panel=_ROUNDING,
    ),
]
RoundingName = Annotated[
    RoundingMethod,
    advanced(
        "--rounding",
        help="nearest level, or gptq: the weights behind make up for the error of each.",
        rich_help_panel=_ROUNDING,
    ),
]
InputsName = Annotated[
    Inputs,
    advanced(
        "--inputs",
        metavar="NAME",
        help="Inputs that layers are rounded for. quantized: what the quantized layers before them "
        "give; float: the float model's.",
        rich_help_panel=_ROUNDING,
    ),
]
BiasCorrection = Annotated[
    bool,
    advanced(
        "--bias-correction/--no-bias-correction",
        help="Let biases take up the mean of what rounding changes, or leave them as they are.",
        rich_help_panel=_ROUNDING,
    ),
]
RoundingSamples = Annotated[
    int,
    advanced(
        help="Calibration images that weights are rounded on, without their labels; at most half.",
        rich_help_panel=_ROUNDING,
    ),
]
MaxDrop = Annotated[
    float,
    typer.Option(
        help="Percentage points of top-1 on the calibration images that may be lost; without "
        "labels, of agreement with the float model.",
        rich_help_panel=_SEARCH,
    ),
]
GuaranteeName = Annotated[
    Guarantee | None,
    advanced(
        "--guarantee",
        help="What --max-drop is asked of. interval: the lower end of the paired 95 % interval of "
        "the change on the calibration images; point: the change itself. Unless given, the "
        "interval within --tolerance (frontier), or the point (semilayer).",
        rich_help_panel=_SEARCH,
    ),
]
OrderName = Annotated[
    Order,
    advanced(
        help="Try the most or the least sensitive semilayer first (semilayer).",
        rich_help_panel=_SEARCH,
    ),
]
SplitName = Annotated[
    Split,
    advanced(
        help="sign: two semilayers a layer by the sign of Δloss; none: whole layers (semilayer).",
        rich_help_panel=_SEARCH,
    ),
]
SchemeName = Annotated[
    Scheme | None,
    advanced(
        help="asymmetric: minimum to maximum, the paper's, and the default; symmetric: centred on "
        "zero, which profile int8 needs and takes.",
        rich_help_panel=_SEARCH,
    ),
]
CalibrationName = Annotated[
    Calibration,
    advanced(
        "--calibration",
        metavar="NAME",
        help="Ranges of activations, by ONNX Runtime's calibrators. minmax: all values; entropy: "
        "the least loss of information; percentile: all but the outermost 0.001 %.",
        rich_help_panel=_INT8,
    ),
]
CalibrationSamples = Annotated[
    int,
    advanced(help="Images for that, drawn from those that are there.", rich_help_panel=_INT8),
]
ActivationsData = Annotated[
    Path | None,
    typer.Option(
        help="Images that weights are rounded on and activations are calibrated on: those that "
        "were searched on. Plans of --method semilayer need them for --profile int8 only, and not "
        "if they were made with it.",
        rich_help_panel=_DATA,
    ),
]
DeltaLoss = Annotated[
    Method,
    advanced(
        help="fast: a few backward passes for all channels, a sample of them checked; exact: one "
        "run of the rest of the model for each channel, bitwidth and image; output: how far a "
        "layer's output changes against how far it varies, which has no sign.",
        rich_help_panel=_SEARCH,
    ),
]
Kl = Annotated[
    Method,
    advanced(help="fast or exact, for the KL of semilayers.", rich_help_panel=_SEARCH),
]
MinAgreement = Annotated[
    float,
    advanced(
        help="0 to 1: a bitwidth at which fast and exact agree less than this on the sample (equal "
        "signs of Δloss; rank correlation of KL) is measured exactly.",
        rich_help_panel=_SEARCH,
    ),
]
DeltaLossSamples = Annotated[
    int | None,
    advanced(
        help="Images for Δloss and the fast KL, others than are rounded on; 512, 128 if exact.",
        rich_help_panel=_SEARCH,
    ),
]
SearchSamples = Annotated[
    int | None,
    advanced(
        help="Images that the search measures plans on; all by default.",
        rich_help_panel=_SEARCH,
    ),
]
Seed = Annotated[int, advanced(help="Seed of every sample that is drawn.", rich_help_panel=_SEARCH)]
Pins = Annotated[
    list[str] | None,
    advanced(
        "--pin",
        metavar="PATTERN=BITS",
        help="Give layers a bitwidth instead of searching it, such as 'layer3.*=8'. Repeatable.",
        rich_help_panel=_LAYERS,
    ),
]
AnyModel = Annotated[Path, typer.Argument(help="An ONNX classifier, float or compressed.")]
Bench = Annotated[
    bool,
    typer.Option(
        "--bench",
        help="Time both models once the file is written: one image at a time on one thread, in a "
        "default session and as load_session opens them. Changes no result; 'bench' times more.",
        rich_help_panel=_RUN,
    ),
]
ReportPage = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write a report too: one HTML page, as 'report' does.",
        rich_help_panel=_RUN,
    ),
]
