"""Fixed shards of images, worked on side by side.

Every session runs on one thread and several shards run at once, so that results do not depend on
how many threads there are; results are put in order before anything is summed.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi.errors import SettingsError

SHARD_IMAGES = 32  # measured: larger shards leave the cache and are slower


@dataclass(frozen=True)
class Shard:
    """Images ``start`` to ``stop`` of a set."""

    start: int
    stop: int

    def __len__(self) -> int:
        """Number of images."""
        return self.stop - self.start


def shards(count: int, batch: int | None, rows: int = SHARD_IMAGES) -> list[Shard]:
    """Cut ``count`` images into shards; a model with a fixed batch size takes shards of that size.

    >>> [len(shard) for shard in shards(70, batch=None)]
    [32, 32, 6]
    """
    size = batch or rows
    return [Shard(start, min(start + size, count)) for start in range(0, count, size)]


def padded(rows: NDArray[Any], batch: int | None) -> NDArray[Any]:
    """The rows, the last one repeated up to a fixed batch size."""
    if batch is None or len(rows) == batch:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], batch - len(rows), axis=0)])


def worker_threads(threads: int | None) -> int:
    """Shards to work on at once: ``threads``, or one a core if it is None.

    Raises:
        SettingsError: If it is below 1.
    """
    if threads is None:
        return os.cpu_count() or 1
    if threads < 1:
        raise SettingsError(f"`threads`: {threads} must be 1 or more")
    return threads


@contextmanager
def workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose ``map`` gives results in order; what is not begun is dropped on an error."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
