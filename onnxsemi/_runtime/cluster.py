"""Many machines: tasks run on the workers of a Dask cluster (needs ``onnxsemi[distributed]``).

This and :mod:`onnxsemi._runtime.admission` are the only modules that know Dask. What they add:

*Admission.* A plugin of every worker, also of one that joins later, makes a reference run: whoever
gives other bits than this process is never given a task.

*Losses.* A task is a function of a module and of what is shared, which the scheduler keeps; so what
is lost with a worker is computed again by another, from the beginning if need be. Dask gives up on
a task that ran where three workers died: here it is begun anew.

*Sharing.* Tasks go where what they need is: what is shared is copied to all workers first, and
again when others have joined. Dask's memory manager would drop such copies: it is stopped for as
long as this process is connected.

*Patience.* Where no scheduler answers, no worker has come yet or none is left, this process waits
for so long and no longer.
"""

import logging
import multiprocessing
import pickle
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, islice
from typing import Any, Self

import cloudpickle
import dask
from distributed import Client, Future, KilledWorker, LocalCluster, wait
from distributed.comm import CommClosedError
from distributed.utils import get_mp_context

from onnxsemi._errors import RunError, SettingsError
from onnxsemi._runtime.admission import PLUGIN, Admission, findings_of
from onnxsemi._runtime.reference_run import Findings, ReferenceRun

LOCAL = "local:"
SECONDS = 30
"""To wait for a scheduler's answer before it is asked anew, and where the connection was lost."""
DASHBOARD = "127.0.0.1:0"
"""Where Dask shows what workers of this machine do: a free port, which no other machine sees."""
LOOKS = 5
"""Seconds between two looks at who has joined."""
AHEAD = 3
"""Tasks of each worker that are begun at once: what one needs is there when the one before ends."""
TRIES = 20
"""Times that a task is begun: more workers than that do not die of it."""
COPIED = 60
"""Seconds for what is shared to be copied; then it is tried again, with who is there."""
# What the processes of a cluster of this machine do beside their tasks, which nobody looks at.
_QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.client.scheduler-info-interval": "10s",
    "distributed.scheduler.active-memory-manager.start": False,
}
_PRELOADED = ["distributed", "onnxsemi"]
_LOGGERS = ("distributed", "distributed.client", "tornado.application", "asyncio")
_LOST = (CommClosedError, CancelledError, ConnectionError, TimeoutError)
_WHOLE_GRAPHS = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}


class Cluster:
    """The workers of a Dask cluster; to be used in a ``with``.

    Attributes:
        sees_files: See :class:`~onnxsemi._runtime.engine.Engine`.
    """

    def __init__(self, client: Client, *, allow_mixed: bool, patience: float) -> None:
        """Work on the cluster of a client.

        Args:
            client: Stays open.
            allow_mixed: Set workers aside that give other bits; else one such is an error.
            patience: Seconds to wait for a worker, at the beginning and when none is left.
        """
        self._client, self._allow_mixed, self._patience = client, allow_mixed, patience
        self.sees_files = False
        self._resource = self._dashboard = ""
        self._shared: list[tuple[Any, Future]] = []
        self._placed: dict[Hashable, Future] = {}
        self._threads: dict[str, int] = {}  # of each worker that may work, by its address
        self._holders: frozenset[str] = frozenset()
        self._looked = self._met = 0.0
        self._numbers = count()
        self._managed = False

    def __enter__(self) -> Self:
        with _connection():
            self._managed = self._client.amm.running()
            self._client.amm.stop()
            self._dashboard = _dashboard(self._client)
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.clear()
        self._placed.clear()
        with suppress(Exception):  # the cluster may be gone: nothing is left to be done there
            self._client.unregister_worker_plugin(PLUGIN)
            if self._managed:
                self._client.amm.start()

    @property
    def workers(self) -> int:
        """Threads of the workers that may work, 1 at least."""
        with _connection():
            self._look()
        return max(1, sum(self._threads.values()))

    @property
    def where(self) -> str:
        """How many workers there are, and where Dask's dashboard shows them."""
        count = sum(self._threads.values())
        said = f"{count} worker{'s' if count > 1 else ''}" if count else "waiting for a worker"
        return f"{said}, {self._dashboard}" if self._dashboard else said

    def admit(self, reference: ReferenceRun) -> tuple[str, ...]:
        """Compare every worker with this process; see :class:`~onnxsemi._runtime.engine.Engine`."""
        wanted = reference.here()
        plugin = Admission(reference, wanted)
        with _connection(), dask.config.set(_WHOLE_GRAPHS):
            try:
                self._client.wait_for_workers(1, timeout=self._patience)
            except TimeoutError:
                raise SettingsError(
                    f"`cluster`: no worker has joined {self._client.scheduler.address} within "
                    f"{self._patience:g} seconds; `cluster_wait` waits longer"
                ) from None
            self._surely(lambda: self._client.register_plugin(plugin, PLUGIN))
            found = self._surely(lambda: self._client.run(findings_of, on_error="return"))
        said = {address: each for address, each in found.items() if isinstance(each, Findings)}
        aside = self._judged(said, wanted)
        ours = [one for one in said.values() if one.against(wanted) is None]
        self.sees_files = bool(wanted.seen) and all(one.seen == wanted.seen for one in ours)
        self._resource = plugin.resource(files=self.sees_files)
        self._met, self._looked = time.monotonic(), 0.0
        return aside

    def _surely(self, call: Callable[[], Any]) -> Any:
        """Ask all workers something; again, if one was lost meanwhile."""
        for _ in range(TRIES):
            try:
                return call()
            except TimeoutError:  # an OSError, too: who asks has given a time
                raise
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

    def place(self, key: Hashable, give: Callable[[], Any]) -> Future:
        """Send a value to one worker, once, wherever there is room."""
        if key not in self._placed:
            self._placed[key] = self.begin(pickle.loads, cloudpickle.dumps(give()))
        return self._placed[key]

    def begin(self, work: Callable[..., Any], *given: Any) -> Future:
        """Begin a task; see :class:`~onnxsemi._runtime.engine.Engine`."""
        (task,) = self.begin_all(work, [given])
        return task

    def begin_all(self, work: Callable[..., Any], every: Sequence[tuple[Any, ...]]) -> list[Future]:
        """Begin tasks of one kind; see :class:`~onnxsemi._runtime.engine.Engine`."""
        name = getattr(work, "__name__", type(work).__name__).strip("_")
        keys = [f"{name}-{id(self):x}-{next(self._numbers)}" for _ in every]
        wanted = {self._resource: 1}
        with _connection(), dask.config.set(_WHOLE_GRAPHS):
            if self._client.status not in ("running", "connecting"):
                raise CommClosedError(self._client.status)
            if len(every) == 1:
                return [
                    self._client.submit(work, *every[0], key=keys[0], pure=False, resources=wanted)
                ]
            given = [list(own) for own in zip(*every, strict=True)]
            found: list[Future] = self._client.map(
                work, *given, key=keys, pure=False, resources=wanted
            )
            return found

    def results(self, tasks: Iterable[Any], tell: Callable[[], None]) -> Iterator[Any]:
        """Results in the order of the tasks; see :class:`~onnxsemi._runtime.engine.Engine`."""
        with _connection():
            coming, begun = iter(tasks), deque[Future]()
            while True:
                self._copy_shared(tell)
                under_way = [task for task in begun if not task.done()]
                ahead = AHEAD * self.workers
                more = list(islice(coming, max(0, ahead - len(under_way))))
                begun += more
                under_way += more
                if not begun:
                    return
                if begun[0].done():
                    yield self._result(begun.popleft(), tell)
                    continue
                try:
                    wait(under_way, timeout=LOOKS, return_when="FIRST_COMPLETED")
                except TimeoutError:  # to look at who has joined
                    tell()

    def _result(self, task: Future, tell: Callable[[], None]) -> Any:
        """The result of a task that has ended, begun anew if workers died of it.

        Whoever has it may be gone, and the task wait for another worker: so it is not waited for
        without looking at who is there, longer and longer, as a large result is fetched anew.
        """
        tries, patience = 0, LOOKS
        while True:
            try:
                return task.result(timeout=patience)
            except KilledWorker:
                tries += 1
                if tries > TRIES:
                    raise
                self._client.retry([task])
            except TimeoutError:
                patience *= 2
                self._look()
                tell()

    def _copy_shared(self, tell: Callable[[], None]) -> None:
        """Copy what is shared to those who do not have it: who joins is given work only then."""
        while True:
            self._look()
            there = frozenset(self._threads)
            if not self._shared or (there and there == self._holders):
                return
            if not there:
                time.sleep(LOOKS)
                tell()
                continue
            futures = [future for _, future in self._shared]
            copy = partial(
                self._client.replicate, futures, workers=sorted(there), callback_timeout=COPIED
            )
            try:
                wait(futures, timeout=LOOKS)
                self._surely(copy)
                self._holders = there
            except (TimeoutError, KeyError, ValueError, AssertionError):
                # who has it, or is to have it, is gone, which the scheduler may not know yet
                self._looked = 0.0
                tell()

    def _look(self) -> None:
        """See who may work, every few seconds.

        Raises:
            RunError: If there was nobody for too long.
        """
        now = time.monotonic()
        if now - self._looked < LOOKS:
            return
        known = self._surely(lambda: self._client.sync(self._client.scheduler.identity))["workers"]
        self._threads = {
            address: one["nthreads"]
            for address, one in known.items()
            if self._resource in one["resources"]
        }
        self._looked = now
        if self._threads:
            self._met = now
        elif now - self._met > self._patience:
            raise RunError(
                f"no worker of the cluster is left, and none came within {self._patience:g} "
                "seconds (`cluster_wait`): what was measured is kept if the run has a folder; "
                "`resume` goes on"
            )


@contextmanager
def connected(where: str | Client, *, allow_mixed: bool, patience: float) -> Iterator[Cluster]:
    """The workers of a cluster.

    Args:
        where: Address of a scheduler; ``local:N`` for N processes of this machine; or a client,
            which stays open.
        allow_mixed: See :class:`Cluster`.
        patience: Likewise.

    Raises:
        SettingsError: If there is none.
    """
    with (
        _client(where, patience) as client,
        Cluster(client, allow_mixed=allow_mixed, patience=patience) as cluster,
    ):
        yield cluster


@contextmanager
def _client(where: str | Client, patience: float) -> Iterator[Client]:
    if isinstance(where, Client):
        yield where
        return
    with _quiet_logs():
        if where.startswith(LOCAL):
            with _local(where.removeprefix(LOCAL)) as cluster, Client(cluster) as client:
                yield client
            return
        with _remote(where, patience) as client:
            yield client


def _remote(where: str, patience: float) -> Client:
    """A client of a scheduler, which may be about to begin."""
    ends = time.monotonic() + patience
    while True:
        left = max(0.1, ends - time.monotonic())
        try:
            return Client(where, timeout=min(SECONDS, left))
        except ValueError as error:
            raise SettingsError(f"`cluster` {where}: is no address: {error}") from None
        except OSError as error:
            if time.monotonic() < ends:
                continue
            raise SettingsError(
                f"`cluster` {where}: no scheduler has answered there within {patience:g} seconds, "
                f"and `cluster_wait` waits longer: {error}"
            ) from None


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep Dask's own lines away: what a command's user has to know is in its error."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _local(text: str) -> LocalCluster:
    if not text.isdecimal() or not int(text):
        raise SettingsError(f"`cluster` {LOCAL}{text}: is not {LOCAL}N, such as {LOCAL}4")
    with dask.config.set(_QUIET | _beginning()):
        return LocalCluster(
            n_workers=int(text),
            threads_per_worker=1,
            processes=True,
            dashboard_address=DASHBOARD,
            silence_logs=logging.CRITICAL,
        )


def _dashboard(client: Client) -> str:
    """Where Dask's dashboard is; empty if the scheduler has none."""
    try:
        return str(client.dashboard_link or "")
    except KeyError:
        return ""


def _beginning() -> dict[str, str]:
    """How processes begin: with everything imported, where the system can copy a process."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return {}
    chosen = {"distributed.worker.multiprocessing-method": "forkserver"}
    with dask.config.set(chosen):
        get_mp_context()  # which sets others, once
    multiprocessing.set_forkserver_preload(_PRELOADED)
    return chosen


@contextmanager
def _connection() -> Iterator[None]:
    """What is raised where the scheduler is gone.

    Raises:
        RunError: In its place.
    """
    try:
        yield
    except _LOST as error:
        raise RunError(
            f"the connection to the cluster was lost ({type(error).__name__}): what was measured "
            "is kept if the run has a folder; `resume` goes on"
        ) from None
