"""The only loop over batches: how many images at once, filled up, side by side, in order.

Every session runs on one thread and several batches run at once, so that results do not depend on
how many threads there are; they come in the order of what they are results of, before anything is
summed. How many images a batch has follows from what there is a use for
(:mod:`onnxsemi._runtime.batch_sizes`) and from the memory. A model may have a batch of its own:
the last one is filled up, and what only fills is cut off again.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxsemi._errors import SettingsError
from onnxsemi._runtime.sessions import Session

Rows = dict[str, NDArray[Any]]
"""Tensors by name, each with as many rows as there are images, or with several for each."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Batch:
    """Images ``start`` to ``stop`` of a set."""

    start: int
    stop: int

    def __len__(self) -> int:
        """Number of images."""
        return self.stop - self.start

    def cut(self, size: int) -> "list[Batch]":
        """Batches of ``size`` images, the last one of what is left.

        >>> [len(batch) for batch in Batch(0, 70).cut(32)]
        [32, 32, 6]
        """
        starts = range(self.start, self.stop, size)
        return [Batch(start, min(start + size, self.stop)) for start in starts]


class InOrder(Generic[_Result]):
    """Takes results one at a time in the order of their numbers, whatever order they come in.

    Whoever brings the one whose turn it is takes it, and those behind it that are there. Nobody
    waits: the others leave what they bring and go on.
    """

    def __init__(self, take: Callable[[_Result], None]) -> None:
        """Begin with number 0.

        Args:
            take: Called with one result after the other, never twice at once.
        """
        self._take, self._lock = take, threading.Lock()
        self._there: dict[int, _Result] = {}
        self._turn, self._taking = 0, False

    def give(self, number: int, result: _Result) -> None:
        """Bring a result; every number comes once."""
        with self._lock:
            self._there[number] = result
            if self._taking:
                return
            self._taking = True
        while (found := self._next()) is not None:
            self._take(found[0])

    def _next(self) -> tuple[_Result] | None:
        with self._lock:
            self._taking = self._turn in self._there
            if not self._taking:
                return None
            self._turn += 1
            return (self._there.pop(self._turn - 1),)


def _all_of(most: int) -> int:
    return most


class Runner:
    """Runs sessions of one model, or of its parts; to be used in a ``with``.

    Attributes:
        threads: Batches that run at once.
        pool: Works side by side on whatever else there is.
    """

    def __init__(
        self, batch: int | None, threads: int, fitting: Callable[[int], int] = _all_of
    ) -> None:
        """Begin with nothing to do.

        Args:
            batch: Size that the model's batches have; None if any will do.
            threads: Batches to run at once.
            fitting: Says how many images the memory allows in one run, given the most of use.
        """
        self._batch, self._fitting = batch, fitting
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def batches(self, count: int, most: int) -> list[Batch]:
        """Images 0 to ``count`` in batches of the model's size, or of at most ``most``."""
        return Batch(0, count).cut(self._batch or self._fitting(most))

    def map(
        self,
        work: Callable[[_Item], _Result],
        items: Iterable[_Item],
        ahead: int | None = None,
    ) -> Iterator[_Result]:
        """Results in order; what was not begun is dropped on an error.

        Args:
            work: Gives a result.
            items: Of what.
            ahead: Results that are there or under way at most; as many as there are threads.
        """
        under_way: deque[Future[_Result]] = deque()
        for item in items:
            if len(under_way) == (ahead or self.threads):
                yield under_way.popleft().result()
            under_way.append(self.pool.submit(work, item))
        while under_way:
            yield under_way.popleft().result()

    def run(self, session: Session, given: Mapping[str, NDArray[Any]]) -> Rows:
        """One run of a session, on no more images than a batch has.

        Args:
            session: Whole model or a part of it.
            given: Its inputs; the first has one row an image.

        Returns:
            Its outputs, without rows of what only filled up the batch.
        """
        count, size = len(next(iter(given.values()))), self._batch
        if size is None or count == size:
            return session.run(dict(given))
        filled = {name: padded(value, len(value) // count * size) for name, value in given.items()}
        found = session.run(filled).items()
        return {name: v[:count] if v.shape[:1] == (size,) else v for name, v in found}

    def run_rows(
        self, session: Session, given: Mapping[str, NDArray[Any]], most: int | None = None
    ) -> Rows:
        """As many runs as the memory asks for, one after the other.

        Args:
            session: Gives one row an image.
            given: One row an image.
            most: Images in one run at most; all unless given.
        """
        return self._joined(session, given, map, most)

    def spread_rows(self, session: Session, given: Mapping[str, NDArray[Any]]) -> Rows:
        """The same, with the images spread over all threads."""
        count = len(next(iter(given.values())))
        return self._joined(session, given, self.map, -(-count // self.threads))

    def _joined(
        self,
        session: Session,
        given: Mapping[str, NDArray[Any]],
        each: Callable[..., Iterable[Rows]],
        most: int | None,
    ) -> Rows:
        if not session.outputs:  # nothing but the inputs is looked at
            return {}
        count = len(next(iter(given.values())))
        batches = self.batches(count, most or count)
        run = partial(self._part, session, given)
        if len(batches) == 1:
            return run(batches[0])
        first = run(batches[0])
        found = {
            name: np.empty((count, *rows.shape[1:]), rows.dtype) for name, rows in first.items()
        }
        for name, rows in first.items():
            found[name][: len(batches[0])] = rows
        for _ in each(partial(self._put, session, given, found), batches[1:]):
            pass
        return found

    def _part(self, session: Session, given: Mapping[str, NDArray[Any]], batch: Batch) -> Rows:
        rows = slice(batch.start, batch.stop)
        return self.run(session, {name: value[rows] for name, value in given.items()})

    def _put(
        self, session: Session, given: Mapping[str, NDArray[Any]], found: Rows, batch: Batch
    ) -> None:
        """Put what a session gives for some rows where it belongs."""
        rows = slice(batch.start, batch.stop)
        if self._batch is None:
            some = {name: value[rows] for name, value in given.items()}
            session.run_into(some, {name: value[rows] for name, value in found.items()})
            return
        for name, value in self._part(session, given, batch).items():
            found[name][rows] = value


def padded(rows: NDArray[Any], size: int | None) -> NDArray[Any]:
    """The rows, the last one repeated up to a fixed number."""
    if size is None or len(rows) == size:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def worker_threads(threads: int | None) -> int:
    """Batches to work on at once: ``threads``, or one a core if it is None.

    Raises:
        SettingsError: If it is below 1.
    """
    if threads is None:
        return os.cpu_count() or 1
    if threads < 1:
        raise SettingsError(f"`threads`: {threads} must be 1 or more")
    return threads
