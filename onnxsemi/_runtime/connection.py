"""The engine that a user asks for: this process, or a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onnxsemi._errors import SettingsError
from onnxsemi._runtime.engine import THREADS, Engine

PATIENCE = 600.0
"""Seconds to wait for a worker, unless told: longer than a queue of jobs is looked at."""


@contextmanager
def engine_at(
    where: Any, *, allow_mixed: bool = False, patience: float = PATIENCE
) -> Iterator[Engine]:
    """Where tasks run, for as long as they do.

    Args:
        where: None for this process; the address of a Dask scheduler, ``local:N`` for N processes
            of this machine, or a ``distributed.Client``.
        allow_mixed: Set workers aside that give other bits than this process; else they are
            refused.
        patience: Seconds to wait for a worker, at the beginning and when none is left.

    Raises:
        SettingsError: If Dask is missing, or nothing answers there.
        TypeError: If it is something else.
    """
    if where is None:
        yield THREADS
        return
    try:
        from onnxsemi._runtime.cluster import connected  # noqa: PLC0415  an extra
    except ImportError:
        raise SettingsError(
            "`cluster`: Dask is not installed: pip install 'onnxsemi[distributed]'"
        ) from None
    with connected(where, allow_mixed=allow_mixed, patience=patience) as cluster:
        yield cluster
