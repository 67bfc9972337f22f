"""Many machines: tasks run on the workers of a Dask cluster (needs ``onnxsemi[distributed]``).

This is the only module that knows Dask. What it adds to it:

*Admission.* A plugin of every worker, also of one that joins later, makes a reference run. A worker
that gives the bits of this process gives itself a resource, named by these bits, and all tasks ask
for that resource: no other worker is ever given one.

*Losses.* A task is a function of a module and of what is shared, which the scheduler keeps; so what
is lost with a worker is computed again by another, from the beginning if need be. Dask gives up on
a task that ran where three workers died: here it is begun anew.

*Sharing.* Tasks go where what they need is: what is shared is copied to all workers first, and
again when others have joined. Dask's memory manager would drop such copies: it is stopped for as
long as this process is connected.
"""

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count, islice
from typing import Any, Self

import cloudpickle
import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin, wait
from distributed.comm import CommClosedError
from distributed.core import Status

from onnxsemi._errors import RunError, SettingsError
from onnxsemi._runtime.blas import limit_to_one_thread
from onnxsemi._runtime.memory import share_heap
from onnxsemi._runtime.reference_run import Findings, ReferenceRun

LOCAL = "local:"
SECONDS = 30
"""To wait for a scheduler's answer, and for the first worker."""
LOOKS = 5
"""Seconds between two looks at who has joined."""
AHEAD = 3
"""Tasks of each worker that are begun at once: what one needs is there when the one before ends."""
TRIES = 20
"""Times that a task is begun: more workers than that do not die of it."""
_PLUGIN = "onnxsemi"
_PLENTY = 1_000_000  # of the resource: it names who may work, and counts nothing
_FEWER_SAMPLES = {"distributed.worker.profile.enabled": False}
_WHOLE_GRAPHS = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}


class Admission(WorkerPlugin):
    """Prepares a worker, and lets it work if it gives the bits that are asked for."""

    idempotent = False

    def __init__(self, reference: ReferenceRun, wanted: Findings) -> None:
        """Ask for what ``wanted`` says of ``reference``."""
        self.name = _PLUGIN
        self._reference, self._wanted = reference, wanted
        self.findings: Findings | None = None

    @property
    def resource(self) -> str:
        """What those who may work have."""
        return f"onnxsemi {self._wanted.digest[:16]}"

    async def setup(self, worker: Worker) -> None:
        """Limit linear algebra to one thread, and compute."""
        share_heap()
        limit_to_one_thread()
        with ThreadPoolExecutor(1) as aside:  # the worker answers meanwhile
            run = worker.loop.asyncio_loop.run_in_executor
            self.findings = await run(aside, self._reference.here)
        if self.findings.against(self._wanted) is None:
            await worker.set_resources(**{self.resource: _PLENTY})
            # the scheduler looks for tasks of a worker when that begins to run, not when its
            # resources change
            worker.status = Status.paused
            worker.status = Status.running


def _findings(dask_worker: Worker) -> Findings | None:
    plugin: Admission = dask_worker.plugins[_PLUGIN]
    return plugin.findings


class Cluster:
    """The workers of a Dask cluster; to be used in a ``with``."""

    def __init__(self, client: Client, *, allow_mixed: bool = False) -> None:
        """Work on the cluster of a client.

        Args:
            client: Stays open.
            allow_mixed: Set workers aside that give other bits; else one such is an error.
        """
        self._client, self._allow_mixed = client, allow_mixed
        self._resources: dict[str, int] = {}
        self._shared: list[tuple[Any, Future]] = []
        self._placed: dict[Hashable, Future] = {}
        self._holders: frozenset[str] = frozenset()
        self._looked = 0.0
        self._numbers = count()
        self._managed = False

    def __enter__(self) -> Self:
        with _connection():
            self._managed = self._client.amm.running()
            self._client.amm.stop()
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.clear()
        self._placed.clear()
        with suppress(Exception):  # the cluster may be gone: nothing is left to be done there
            self._client.unregister_worker_plugin(_PLUGIN)
            if self._managed:
                self._client.amm.start()

    @property
    def workers(self) -> int:
        """Threads of the workers that may work, 1 at least."""
        with _connection():
            threads: dict[str, int] = self._surely(self._client.nthreads)
        return max(1, sum(threads.values()))

    def admit(self, reference: ReferenceRun) -> tuple[str, ...]:
        """Compare every worker with this process; see :class:`~onnxsemi._runtime.engine.Engine`."""
        wanted = reference.here()
        plugin = Admission(reference, wanted)
        with _connection(), dask.config.set(_WHOLE_GRAPHS):
            try:
                self._client.wait_for_workers(1, timeout=SECONDS)
            except TimeoutError:
                raise SettingsError(
                    f"`cluster`: no worker has joined {self._client.scheduler.address} within "
                    f"{SECONDS} seconds"
                ) from None
            self._surely(lambda: self._client.register_plugin(plugin, _PLUGIN))
            found = self._surely(lambda: self._client.run(_findings, on_error="return"))
        self._resources = {plugin.resource: 1}
        said = {address: each for address, each in found.items() if isinstance(each, Findings)}
        return self._judged(said, wanted)

    def _surely(self, call: Callable[[], Any]) -> Any:
        """Ask all workers something; again, if one was lost meanwhile."""
        for _ in range(TRIES):
            try:
                return call()
            except OSError:  # CommClosedError is one, and so is what a worker's end gives
                if self._client.status != "running":
                    raise
                time.sleep(0.1)
        return call()

    def _judged(self, found: dict[str, Findings], wanted: Findings) -> tuple[str, ...]:
        """What is said of workers that are set aside."""
        against = {address: each.against(wanted) for address, each in found.items()}
        aside = [f"worker {address} {said}" for address, said in against.items() if said]
        if aside and (not self._allow_mixed or len(aside) == len(found)):
            rest = "" if len(aside) == 1 else f" ({len(aside)} of {len(found)} workers)"
            remedy = "`allow_mixed` sets such workers aside"
            if len(aside) == len(found):
                remedy = "start workers of the same installation on the same kind of processor"
            raise SettingsError(f"`cluster`: {aside[0]}{rest}: {remedy}")
        return tuple(f"{said}: it is set aside" for said in aside)

    def share(self, value: Any) -> Future:
        """Send a value to the scheduler, once, and copy it to each worker."""
        for known, future in self._shared:
            if known is value:
                return future
        future = self.begin(pickle.loads, cloudpickle.dumps(value))
        self._shared.append((value, future))
        self._holders = frozenset()  # nobody has it yet
        return future

    @contextmanager
    def shared(self, value: Any) -> Iterator[Future]:
        """The same until the end of the ``with``; then workers may drop it."""
        try:
            yield self.share(value)
        finally:
            self._shared = [(known, future) for known, future in self._shared if known is not value]

    def place(self, key: Hashable, value: Any) -> Future:
        """Send a value to one worker, once, wherever there is room."""
        if key not in self._placed:
            self._placed[key] = self.begin(pickle.loads, cloudpickle.dumps(value))
        return self._placed[key]

    def begin(self, work: Callable[..., Any], *given: Any) -> Future:
        """Begin a task; see :class:`~onnxsemi._runtime.engine.Engine`."""
        name = getattr(work, "__name__", type(work).__name__).strip("_")
        key = f"{name}-{id(self):x}-{next(self._numbers)}"
        with _connection(), dask.config.set(_WHOLE_GRAPHS):
            return self._client.submit(work, *given, key=key, pure=False, resources=self._resources)

    def results(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the tasks; see :class:`~onnxsemi._runtime.engine.Engine`."""
        with _connection():
            ahead, coming = AHEAD * self.workers, iter(tasks)
            begun: deque[Future] = deque()
            while True:
                self._copy_shared()
                under_way = [task for task in begun if not task.done()]
                more = list(islice(coming, max(0, ahead - len(under_way))))
                begun += more
                under_way += more
                if not begun:
                    return
                if begun[0].done():
                    yield self._result(begun.popleft())
                else:
                    with suppress(TimeoutError):  # to look at who has joined
                        wait(under_way, timeout=LOOKS, return_when="FIRST_COMPLETED")

    def _result(self, task: Future) -> Any:
        """The result of a task that has ended, begun anew if workers died of it."""
        for _ in range(TRIES):
            try:
                return task.result()
            except KilledWorker:
                self._client.retry([task])
        return task.result()

    def _copy_shared(self) -> None:
        """Copy what is shared to those who do not have it: who joins is given work only then."""
        if self._holders and time.monotonic() - self._looked < LOOKS:
            return
        self._looked, there = time.monotonic(), frozenset(self._surely(self._client.nthreads))
        if there != self._holders and self._shared:
            futures = [future for _, future in self._shared]
            self._surely(lambda: self._client.replicate(futures))
            self._holders = there


@contextmanager
def connected(where: str | Client, *, allow_mixed: bool) -> Iterator[Cluster]:
    """The workers of a cluster.

    Args:
        where: Address of a scheduler; ``local:N`` for N processes of this machine; or a client,
            which stays open.
        allow_mixed: See :class:`Cluster`.

    Raises:
        SettingsError: If there is none.
    """
    with _client(where) as client, Cluster(client, allow_mixed=allow_mixed) as cluster:
        yield cluster


@contextmanager
def _client(where: str | Client) -> Iterator[Client]:
    if isinstance(where, Client):
        yield where
    elif where.startswith(LOCAL):
        with _local(where.removeprefix(LOCAL)) as cluster, Client(cluster) as client:
            yield client
    else:
        try:
            client = Client(where, timeout=SECONDS)
        except (OSError, ValueError) as error:
            raise SettingsError(f"`cluster` {where}: no scheduler answers there: {error}") from None
        with client:
            yield client


def _local(text: str) -> LocalCluster:
    if not text.isdecimal() or not int(text):
        raise SettingsError(f"`cluster` {LOCAL}{text}: is not {LOCAL}N, such as {LOCAL}4")
    with dask.config.set(_FEWER_SAMPLES):
        return LocalCluster(
            n_workers=int(text),
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )


@contextmanager
def _connection() -> Iterator[None]:
    """What is raised where the scheduler is gone.

    Raises:
        RunError: In its place.
    """
    try:
        yield
    except (CommClosedError, CancelledError, ConnectionError, TimeoutError) as error:
        raise RunError(
            f"the connection to the cluster was lost ({type(error).__name__}): what was measured "
            "is kept if the run has a folder; `resume` goes on"
        ) from None
