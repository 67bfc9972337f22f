"""Options of labels and of images that are refused."""

from pathlib import Path
from typing import Annotated

import typer

_DATA = "Images"

Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Folders of images: a text file with the names of all classes of the model, one a "
        "line in its order. Class folders are found among them; without it they are the classes in "
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
    typer.Option(metavar="FILE", help="The same for --report-data.", rich_help_panel=_DATA),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Go on with images that are too few, or that the float model answers no better than "
        "by guessing: what is refused otherwise is a warning then.",
        rich_help_panel=_DATA,
    ),
]
