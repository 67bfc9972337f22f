"""Where a run is kept, and how long it may take."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from onnxsemi._errors import SettingsError
from onnxsemi._field_types import check_fields
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._settings.cluster import ClusterOptions
from onnxsemi._settings.duration import parse_duration


@dataclass(frozen=True, kw_only=True)
class RunOptions(ClusterOptions):
    """Where a run is kept, and how long it may take.

    Attributes:
        folder: Folder of the run; None keeps nothing.
        time_budget: Seconds within which the best so far is given; None for no limit.
        command: The command line, for the report; empty if there was none.
    """

    folder: Annotated[
        str | os.PathLike[str] | None,
        Option(
            Panel.RUN, flags=("--run",), metavar="FOLDER", advanced=True, decides=Decides.COURSE
        ),
    ] = None
    """Where the run is kept; by default beside the output, as NAME.run."""
    resume: Annotated[bool, Option(Panel.RUN, decides=Decides.NOTHING)] = False
    """Go on with the run in the folder, if there is one: give the same command again. The result is
    the same as without the interruption. `max_drop`, `tolerance`, `guarantee` and `test_data` may
    be others: what was measured is not measured again."""
    time_budget: Annotated[
        float | None,
        Option(
            Panel.RUN,
            metavar="TIME",
            read=partial(parse_duration, "time_budget"),
            decides=Decides.COURSE,
        ),
    ] = None
    """Give the best so far within this time, such as 10m or 1h30m, written and judged: at the least
    one bitwidth for all layers; `resume` goes on."""
    command: Annotated[str, Decides.NOTHING] = ""

    def __post_init__(self) -> None:
        check_fields(self)
        self.check_cluster()
        if self.time_budget is not None and not self.time_budget > 0:
            raise SettingsError(f"`time_budget`: {self.time_budget:g} seconds must be above 0")
