"""Options of images: which they are, how they are prepared, their labels, what is refused."""

from pathlib import Path
from typing import Annotated

import typer

from onnxsemi.cli.help import advanced
from onnxsemi.data.load import Preset

_DATA = "Images"
Numbers = str | None

Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A text file with the names of all classes of the model, one a line in its order: the "
        "report has them. Class folders are found among them; without it they are the classes in "
        "the order of their names, and as many as the model has.",
        rich_help_panel=_DATA,
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A folder of images without class folders: a .csv file with the columns file and "
        "label, the number of the class, or its name with --classes.",
        rich_help_panel=_DATA,
    ),
]
ReportLabels = Annotated[
    Path | None,
    advanced(
        "--test-labels",
        metavar="FILE",
        help="The same for --test-data.",
        rich_help_panel=_DATA,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Go on with images that are too few, or that the float model answers no better than "
        "by guessing, and with a run that began on another kind of processor: what is refused "
        "otherwise is a warning then.",
        rich_help_panel=_DATA,
    ),
]
Mean = Annotated[
    Numbers,
    typer.Option(
        help="Mean of the pixels on the scale 0 to 1, such as 0.485,0.456,0.406; for uint8 images "
        "after /255. Replaces what the file says.",
        rich_help_panel=_DATA,
    ),
]
Std = Annotated[
    Numbers, typer.Option(help="Standard deviation of the pixels, likewise.", rich_help_panel=_DATA)
]
Resize = Annotated[
    int | None,
    advanced(
        help="Image files: length of the shorter side after resizing, pixels.",
        rich_help_panel=_DATA,
    ),
]
Crop = Annotated[
    int | None,
    advanced(
        help="Image files: side of the centred square, pixels; the model's input size by default.",
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
ReportData = Annotated[
    Path | None,
    typer.Option(
        "--test-data",
        help="Images that the search never sees, to judge the result by. Without it a seeded, "
        "stratified share of the calibration data is kept for that.",
        rich_help_panel=_DATA,
    ),
]
ReportFraction = Annotated[
    float,
    advanced(
        "--test-fraction",
        help="Share of the calibration data that is kept for the test without --test-data, 0 to 1.",
        rich_help_panel=_DATA,
    ),
]
