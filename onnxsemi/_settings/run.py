"""Where a run is kept, and how long it may take."""

import os
import re
from dataclasses import dataclass
from typing import Annotated

from onnxsemi._errors import SettingsError
from onnxsemi._field_types import check_fields
from onnxsemi._option import Decides, Option, Panel

_SECONDS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> float:
    """Seconds from hours, minutes and seconds.

    >>> parse_duration("1h30m"), parse_duration("90s"), parse_duration("10m")
    (5400.0, 90.0, 600.0)

    Raises:
        SettingsError: If the text has another form.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if not text or not parts:
        raise SettingsError(f"`time_budget`: {text!r} is no duration such as 10m, 90s or 1h30m")
    amounts = zip(parts.groups(), _SECONDS.values(), strict=True)
    return sum(float(amount) * unit for amount, unit in amounts if amount)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
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
        float | None, Option(Panel.RUN, metavar="TIME", read=parse_duration, decides=Decides.COURSE)
    ] = None
    """Give the best so far within this time, such as 10m or 1h30m, written and judged: at the least
    one bitwidth for all layers; `resume` goes on."""
    cluster: Annotated[
        str | None, Option(Panel.RUN, metavar="ADDRESS", advanced=True, decides=Decides.NOTHING)
    ] = None
    """Let the workers of a Dask cluster measure: address of its scheduler, such as
    tcp://host:8786, or local:4 for four processes of this machine. Changes no result."""
    allow_mixed: Annotated[bool, Option(Panel.RUN, advanced=True, decides=Decides.NOTHING)] = False
    """Leave workers of `cluster` without work that give other bits than this machine, instead of
    refusing them."""
    command: Annotated[str, Decides.NOTHING] = ""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.time_budget is not None and not self.time_budget > 0:
            raise SettingsError(f"`time_budget`: {self.time_budget:g} seconds must be above 0")
        if self.cluster == "":
            raise SettingsError("`cluster`: is no address such as tcp://host:8786 or local:4")
