"""The arguments and options of commands about plans and runs."""

from pathlib import Path
from typing import Annotated

import typer

_IMAGES = "Images"  # the panel of the other options about images

PlanPath = Annotated[
    Path,
    typer.Argument(
        help="A plan written by 'compress', edited or not; or the folder of a run, NAME.run."
    ),
]
OptionalModel = Annotated[
    Path | None,
    typer.Argument(help="The float ONNX model that the plan was made for; a run knows it."),
]
EveryPoint = Annotated[
    bool,
    typer.Option("--all", help="Every stop, and measured points that another one beats too."),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="POINT",
        help="Which point of a run: 85% is the least harm at that compression of the target "
        "weights (the paper's ratio, not the file's size) or more; -0.1 the smallest measured one "
        "whose accuracy on the calibration images changes by no less than that many points; "
        "plan:DIGEST the one whose plan's digest begins so.",
    ),
]
OptionalData = Annotated[
    Path | None,
    typer.Option(
        "--test-data",
        "-d",
        help="Images to compare with the float model on.",
        rich_help_panel=_IMAGES,
    ),
]
AnyFile = Annotated[
    Path, typer.Argument(help="An ONNX classifier, float or compressed; or a plan, to compare.")
]
OtherFile = Annotated[
    Path | None, typer.Argument(help="A plan or a compressed model: show what differs.")
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
ReportOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Where to write the page; of one run report.html in its folder, unless given.",
    ),
]
