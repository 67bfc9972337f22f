"""Where work is done: in this process, or spread over others.

Work is spread as *tasks*, each the same work on a part of it: some images, some layers, some
variants. A part's results do not depend on the others', or are put together in the order of the
parts; so the engine decides about time, never about results.

What many tasks need is *shared*: sent to each worker once, and taken from its memory by every task.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from onnxsemi._runtime.reference_run import ReferenceRun

TASK_IMAGES = 32
"""Images of a task at least."""
TASK_SECONDS = 0.25
"""CPU seconds of a task at least, as far as that is known."""
MOST_TASK_IMAGES = 512
"""At most: the last tasks are to end together."""
TASKS_A_WORKER = 8
"""Tasks in which what there is to do is cut for each worker: the fastest does more of them."""
HANDLING = 0.008
"""CPU seconds to hand over a task and to take its result, of all processes: with Dask 2026.8 0.005
of tasks that follow from each other, 0.011 of those whose results are taken one by one."""
BANDWIDTH = 1e9
"""Bytes a second from one machine to another: a network of 10 Gbit/s."""


class Engine(Protocol):
    """Where tasks run."""

    @property
    def workers(self) -> int:
        """Tasks that run at once; 0 where nothing is handed over, and threads share the work."""

    @property
    def where(self) -> str:
        """Who works, for the progress; empty if it is this process."""

    @property
    def sees_files(self) -> bool:
        """Whether tasks see the user's files as this process does; those of the reference run."""

    def admit(self, reference: ReferenceRun) -> tuple[str, ...]:
        """Let those work that give the bits of this process.

        Returns:
            What is to be said of those that are set aside.

        Raises:
            SettingsError: If none does, or one does not and is not to be set aside.
        """

    def share(self, value: Any) -> Any:
        """What stands for a value in the arguments of tasks; the same one is sent once, to all."""

    def shared(self, value: Any) -> AbstractContextManager[Any]:
        """The same for as long as the ``with`` lasts."""

    def place(self, key: Hashable, give: Callable[[], Any]) -> Any:
        """What stands for a value that few tasks need; it is sent once, to where there is room.

        Args:
            key: Equal for equal values.
            give: Gives the value; not called if it was sent before.
        """

    def begin(self, work: Callable[..., Any], *given: Any) -> Any:
        """Begin a task.

        Args:
            work: A function of a module, or a partial one.
            given: Its arguments; what is shared, or another task, stands for its value.

        Returns:
            What stands for the result; as long as it is held, the result is kept.
        """

    def begin_all(self, work: Callable[..., Any], every: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Begin tasks of one kind at once, which takes less than one by one.

        Args:
            work: As of :meth:`begin`.
            every: Arguments of each, as many as of the others.
        """

    def results(self, tasks: Iterable[Any], tell: Callable[[], None]) -> Iterator[Any]:
        """Results in the order of the tasks.

        Args:
            tasks: Taken, and so begun, as others end: not many more than run.
            tell: Called every few seconds while none ends.
        """


class Threads:
    """This process: the threads of a :class:`~onnxsemi._runtime.runner.Runner` share the work."""

    workers = 0
    where = ""
    sees_files = True

    def admit(self, reference: ReferenceRun) -> tuple[str, ...]:
        """Nobody else works."""
        del reference
        return ()

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def shared(self, value: Any) -> AbstractContextManager[Any]:
        """The value itself."""
        return nullcontext(value)

    def place(self, key: Hashable, give: Callable[[], Any]) -> Any:
        """The value itself."""
        del key
        return give()

    def begin(self, work: Callable[..., Any], *given: Any) -> Any:
        """Work at once; the result stands for itself."""
        return work(*given)

    def begin_all(self, work: Callable[..., Any], every: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Work at once."""
        return [work(*given) for given in every]

    def results(self, tasks: Iterable[Any], tell: Callable[[], None]) -> Iterator[Any]:
        """The results, one after the other."""
        del tell
        return iter(tasks)


THREADS = Threads()


def parts_for(engine: Engine, count: int, least: int, most: int) -> list[slice]:
    """Cut so many items into parts for workers; all in one where nothing is handed over.

    Args:
        engine: Whose workers.
        count: Number of items.
        least: Items of a part at least, but for the last.
        most: At most.

    >>> parts_for(THREADS, 10, 1, 2)
    [slice(0, 10, None)]
    """
    if not engine.workers:
        return [slice(0, count)]
    size = max(least, min(most, -(-count // (TASKS_A_WORKER * engine.workers))))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
