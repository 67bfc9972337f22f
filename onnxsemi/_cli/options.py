"""Arguments and options of commands that are about files, and so no settings."""

from pathlib import Path
from typing import Annotated

import typer

from onnxsemi._option import Decides, Option, Panel

_IMAGES = (
    "an .npz file with x (uint8 N,H,W,C, or float32 in the model's layout) and labels y, or a "
    "folder with one folder a class. Without labels the float model's own answers take their place."
)

ModelFile = Annotated[Path, typer.Argument(help="The float ONNX model, opset 7 or newer.")]
AnyModel = Annotated[Path, typer.Argument(help="An ONNX classifier, float or compressed.")]
OptionalModel = Annotated[
    Path | None,
    typer.Argument(help="The float ONNX model that the plan was made for; a run knows it."),
]
AnyFile = Annotated[
    Path, typer.Argument(help="An ONNX classifier, float or compressed; or a plan, to compare.")
]
OtherFile = Annotated[
    Path | None, typer.Argument(help="A plan or a compressed model: show what differs.")
]
WrittenModel = Annotated[Path, typer.Argument(help="A file that 'compress' or 'apply' wrote.")]
PlanToMatch = Annotated[
    Path | None, Option(help="The plan that it is to be of.", decides=Decides.NOTHING)
]
RunToMatch = Annotated[
    Path | None,
    Option(
        help="The folder of the run that it is to be of.",
        metavar="FOLDER",
        decides=Decides.NOTHING,
    ),
]
BenchModels = Annotated[
    list[Path], typer.Argument(help="ONNX files; the others are compared with the first.")
]
PlanPath = Annotated[
    Path,
    typer.Argument(
        help="A plan written by 'compress', edited or not; or the folder of a run, NAME.run."
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(help="The folder of a run of 'compress', such as small.run.")
]
RunFolders = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN",
        help="The folder of a run of 'compress', such as small.run; or two, to compare.",
    ),
]
OutFile = Annotated[
    Path,
    Option(
        help="Where to write. It appears only once it is verified.",
        panel=Panel.FILE,
        flags=("--out", "-o"),
    ),
]
PageFile = Annotated[
    Path | None,
    Option(
        help="Where to write the page; of one run report.html in its folder, unless given.",
        flags=("--out", "-o"),
    ),
]
CalibrationImages = Annotated[
    Path,
    Option(
        help="Images to round, measure and search on, which the model was not trained on: "
        + _IMAGES,
        panel=Panel.IMAGES,
        flags=("--calibration-data", "-d"),
        older=("--data",),
    ),
]
TestImages = Annotated[
    Path | None,
    Option(
        help="Images that the search never sees, to judge the result by. Without it a seeded, "
        "stratified share of the calibration data is kept for that.",
        panel=Panel.IMAGES,
        flags=("--test-data",),
        older=("--report-data",),
    ),
]
Workers = Annotated[
    int | None,
    Option(
        help="Say what to expect of a run on so many workers of a Dask cluster, too (`cluster` of "
        "'compress'). Measures tasks of each kind, which takes longer.",
        panel=Panel.RUN,
        decides=Decides.NOTHING,
    ),
]
Images = Annotated[
    Path, Option(help=f"Images: {_IMAGES}", panel=Panel.IMAGES, flags=("--data", "-d"))
]
ImagesOfPlan = Annotated[
    Path | None,
    Option(
        help="Images to compare with the float model on.",
        panel=Panel.IMAGES,
        flags=("--test-data", "-d"),
        older=("--data",),
    ),
]
ActivationImages = Annotated[
    Path | None,
    Option(
        help="Images that weights are rounded on and activations are calibrated on: those that "
        "were searched on. Plans of `method` semilayer need them for `profile` int8 only, and not "
        "if they were made with it.",
        panel=Panel.IMAGES,
    ),
]
Reference = Annotated[Path | None, Option(help="Compare with this model: the float one, say.")]
EveryPoint = Annotated[
    bool,
    Option(
        help="Every predicted point, and measured ones that another one beats too.",
        flags=("--all",),
        decides=Decides.NOTHING,
    ),
]
