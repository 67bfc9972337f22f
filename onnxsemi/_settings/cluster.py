"""Whether other processes measure, and which."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from onnxsemi._errors import SettingsError
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._runtime.connection import PATIENCE, engine_at
from onnxsemi._runtime.engine import Engine
from onnxsemi._settings.duration import parse_duration


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Whether the workers of a Dask cluster measure."""

    cluster: Annotated[
        str | None, Option(Panel.RUN, metavar="ADDRESS", advanced=True, decides=Decides.NOTHING)
    ] = None
    """Let the workers of a Dask cluster measure: address of its scheduler, such as
    tcp://host:8786, or local:4 for four processes of this machine. Changes no result."""
    allow_mixed: Annotated[bool, Option(Panel.RUN, advanced=True, decides=Decides.NOTHING)] = False
    """Leave workers of `cluster` without work that give other bits than this machine, instead of
    refusing them."""
    cluster_wait: Annotated[
        float,
        Option(
            Panel.RUN,
            metavar="TIME",
            read=partial(parse_duration, "cluster_wait"),
            advanced=True,
            decides=Decides.NOTHING,
        ),
    ] = PATIENCE
    """How long to wait for the scheduler and the first worker of `cluster`, such as 10m or 2h, and
    for another worker when none is left. Then the command ends; a run is kept."""

    def check_cluster(self) -> None:
        """Refuse what is no address, and no time.

        Raises:
            SettingsError: If it is none.
        """
        if self.cluster == "":
            raise SettingsError("`cluster`: is no address such as tcp://host:8786 or local:4")
        if not self.cluster_wait > 0:
            raise SettingsError(f"`cluster_wait`: {self.cluster_wait:g} seconds must be above 0")

    def engine(self, client: Any = None) -> AbstractContextManager[Engine]:
        """Where tasks run, for as long as a ``with`` lasts.

        Args:
            client: A ``distributed.Client``, in place of the address.
        """
        where = self.cluster if client is None else client
        return engine_at(where, allow_mixed=self.allow_mixed, patience=self.cluster_wait)
