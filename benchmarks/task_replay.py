"""The tasks of a run's thread pools, recorded with their CPU times, and played on other cores.

An actor is the main thread or a task. It computes, submits tasks and waits for results, in the
order in which it did: what it did is a list of steps. Played again, each computation needs a core,
a task begins when a worker of its pool is free, and a wait ends when what is waited for is done.
"""

import heapq
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Self

_PASSED_THROUGH = (
    "onnxsemi._runtime.runner",
    "onnxsemi._progress",
    "onnxsemi._pipeline.remaining_time",
    "onnxsemi._pipeline.run_identity",
)
"""Modules whose functions only hand on what others do."""


@dataclass(frozen=True)
class Computation:
    """CPU time between two steps.

    Attributes:
        seconds: How long.
        name: The function of the package that the thread was in when it ended.
    """

    seconds: float
    name: str


@dataclass(eq=False)
class Actor:
    """The main thread, or a task.

    Attributes:
        pool: Number of the pool that works on it; None for the main thread.
        workers: Of that pool.
        name: Of the function that it is.
        steps: Computations, actors (submitted), ("wait", actor) or ("phase", name).
    """

    pool: int | None = None
    workers: int = 0
    name: str = "main"
    steps: list[Any] = field(default_factory=list)


class Recorder:
    """Records every task of every pool of this process, while it is entered."""

    def __init__(self) -> None:
        """Nothing is recorded yet."""
        self.main = Actor()
        self.tasks = 0
        self.cpu_seconds = 0.0
        self._here = threading.local()
        self._actors: dict[int, tuple[Future[Any], Actor]] = {}
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._originals: tuple[Any, Any] = ThreadPoolExecutor.submit, Future.result

    def __enter__(self) -> Self:
        recorder, (submit, result) = self, self._originals

        def recorded_submit(
            pool: ThreadPoolExecutor, work: Callable[..., Any], /, *given: Any, **named: Any
        ) -> Future[Any]:
            actor = recorder._submitted(pool, work)
            future = submit(pool, recorder._within(actor, work), *given, **named)
            recorder._actors[id(future)] = future, actor
            return future

        def recorded_result(future: Future[Any], timeout: float | None = None) -> Any:
            recorder._waits(future)
            try:
                return result(future, timeout)
            finally:
                recorder._go_on()

        ThreadPoolExecutor.submit, Future.result = recorded_submit, recorded_result  # type: ignore[assignment,method-assign]
        self._began = time.process_time()
        self._begin(self.main)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.cpu_seconds = time.process_time() - self._began
        ThreadPoolExecutor.submit, Future.result = self._originals  # type: ignore[method-assign]

    def phase(self, name: str) -> None:
        """A phase of the run begins, or goes on."""
        self._end()
        self.main.steps.append(("phase", name))
        self._go_on()

    def _submitted(self, pool: ThreadPoolExecutor, work: Callable[..., Any]) -> Actor:
        self._pools[id(pool)] = pool  # kept: no other gets its number
        function = work.func if isinstance(work, partial) else work
        actor = Actor(id(pool), pool._max_workers, getattr(function, "__qualname__", ""))
        self.tasks += 1
        self._end()
        self._here.actor.steps.append(actor)
        self._go_on()
        return actor

    def _within(self, actor: Actor, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            self._begin(actor)
            try:
                return work(*given, **named)
            finally:
                self._end()

        return run

    def _waits(self, future: Future[Any]) -> None:
        self._end()
        if id(future) in self._actors:
            self._here.actor.steps.append(("wait", self._actors[id(future)][1]))

    def _begin(self, actor: Actor) -> None:
        self._here.actor = actor
        self._go_on()

    def _end(self) -> None:
        seconds = time.thread_time() - self._here.began
        actor = self._here.actor
        actor.steps.append(Computation(seconds, _function() or actor.name))

    def _go_on(self) -> None:
        self._here.began = time.thread_time()


def _function() -> str:
    """The innermost function of the package that this thread is in."""
    frame = sys._getframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("onnxsemi.") and not module.startswith(_PASSED_THROUGH):
            return f"{module.rpartition('.')[2]}.{frame.f_code.co_qualname}"
        frame = frame.f_back
    return ""


@dataclass(eq=False)
class Replay:
    """What came of it.

    Attributes:
        seconds: From the first step to the last.
        busy: Seconds of CPU time.
        phases: Phase -> seconds, and seconds of CPU time within it.
        idle: Function -> seconds that cores were idle while it ran, shared by all that ran.
    """

    seconds: float = 0.0
    busy: float = 0.0
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)
    idle: Counter[str] = field(default_factory=Counter)

    def share(self, cores: int) -> float:
        """Of the cores' time, what was used."""
        return self.busy / (cores * self.seconds)


class _Pool:
    """Tasks that wait for a worker."""

    def __init__(self, workers: int) -> None:
        self.free, self.waiting = workers, deque[Actor]()


class _Player:
    def __init__(self, cores: int, recorded: int) -> None:
        self.of_cores = Fraction(cores, recorded)
        self.cores, self.ready, self.running = cores, deque[tuple[Actor, Computation]](), []
        self.pools: dict[int, _Pool] = {}
        self.place: dict[Actor, int] = {}
        self.done: set[Actor] = set()
        self.waiters: dict[Actor, list[Actor]] = {}
        self.found, self.now, self.phase, self.count = Replay(), 0.0, "reading", 0

    def play(self, main: Actor) -> Replay:
        self._go_on(main)
        self._start()
        while self.running:
            self._pass_to(self.running[0][0])
            _, _, actor, _ = heapq.heappop(self.running)
            self.cores += 1
            self._go_on(actor)
            self._start()
        self.found.seconds = self.now
        return self.found

    def _pass_to(self, when: float) -> None:
        """Time passes, with as many cores at work as there are computations under way."""
        passed = when - self.now
        seconds, busy = self.found.phases.get(self.phase, (0.0, 0.0))
        used = passed * len(self.running)
        for *_, name in self.running:
            self.found.idle[name] += passed * self.cores / len(self.running)
        self.found.phases[self.phase] = seconds + passed, busy + used
        self.found.busy += used
        self.now = when

    def _start(self) -> None:
        while self.cores and self.ready:
            actor, work = self.ready.popleft()
            self.cores -= 1
            self.count += 1
            heapq.heappush(self.running, (self.now + work.seconds, self.count, actor, work.name))

    def _go_on(self, actor: Actor) -> None:
        """Steps of an actor up to its next computation or wait."""
        while (place := self.place.get(actor, 0)) < len(actor.steps):
            self.place[actor], step = place + 1, actor.steps[place]
            if isinstance(step, Computation):
                self.ready.append((actor, step))
                return
            if isinstance(step, Actor):
                pool = self.pools.setdefault(
                    step.pool or 0, _Pool(max(1, int(step.workers * self.of_cores)))
                )
                pool.waiting.append(step)
                self._work(pool)
            elif step[0] == "phase":
                self.phase = step[1]
            elif step[1] not in self.done:
                self.waiters.setdefault(step[1], []).append(actor)
                return
        self._finish(actor)

    def _work(self, pool: _Pool) -> None:
        while pool.free and pool.waiting:
            pool.free -= 1
            self._go_on(pool.waiting.popleft())

    def _finish(self, actor: Actor) -> None:
        self.done.add(actor)
        if actor.pool is not None:
            pool = self.pools[actor.pool]
            pool.free += 1
            self._work(pool)
        for waiter in self.waiters.pop(actor, []):
            self._go_on(waiter)


def replay(main: Actor, cores: int, recorded: int) -> Replay:
    """Play what was recorded.

    Args:
        main: The main thread.
        cores: To play it on; pools have as many workers for each as they had.
        recorded: Threads of the run.

    >>> tasks = [Actor(1, 4, "task", [Computation(1.0, "task")]) for _ in range(4)]
    >>> main = Actor(steps=[*tasks, *(("wait", task) for task in tasks), Computation(1.0, "main")])
    >>> [replay(main, cores, 4).seconds for cores in (1, 2, 4)]
    [5.0, 3.0, 2.0]
    >>> replay(main, 4, 4).share(4)
    0.625
    """
    return _Player(cores, recorded).play(main)
