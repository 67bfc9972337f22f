"""A worker of a Dask cluster made ready, and compared with the process that its tasks come from.

Whoever gives the bits of that process gives itself a resource, named by these bits; who also sees
the user's files gives itself another. Tasks ask for one of them: no other worker is given any.
"""

from concurrent.futures import ThreadPoolExecutor

from distributed import Worker, WorkerPlugin
from distributed.core import Status

from onnxsemi._runtime.blas import limit_to_one_thread
from onnxsemi._runtime.memory import keep_heap, share_heap
from onnxsemi._runtime.reference_run import Findings, ReferenceRun

PLUGIN = "onnxsemi"
_PLENTY = 1_000_000  # of a resource: it names who may work, and counts nothing
_SAMPLERS = ("profile", "profile-cycle")


class Admission(WorkerPlugin):
    """Prepares a worker, and lets it work if it gives the bits that are asked for."""

    idempotent = False

    def __init__(self, reference: ReferenceRun, wanted: Findings) -> None:
        """Ask for what ``wanted`` says of ``reference``."""
        self.name = PLUGIN
        self._reference, self._wanted = reference, wanted
        self.findings: Findings | None = None

    def resource(self, *, files: bool) -> str:
        """What those who may work have.

        Args:
            files: Of those who see the user's files, too.
        """
        return f"onnxsemi {self._wanted.digest[:16]}{' files' if files else ''}"

    async def setup(self, worker: Worker) -> None:
        """Prepare the process, and compute."""
        share_heap()
        keep_heap()
        limit_to_one_thread()
        _sample(worker, start=False)
        with ThreadPoolExecutor(1) as aside:  # the worker answers meanwhile
            run = worker.loop.asyncio_loop.run_in_executor
            self.findings = await run(aside, self._reference.here)
        if self.findings.against(self._wanted) is not None:
            return
        given = [self.resource(files=False)]
        if self.findings.seen == self._wanted.seen:
            given.append(self.resource(files=True))
        await worker.set_resources(**dict.fromkeys(given, _PLENTY))
        # the scheduler looks for tasks of a worker when that begins to run, not when its
        # resources change
        worker.status = Status.paused
        worker.status = Status.running

    def teardown(self, worker: Worker) -> None:
        """Leave a worker that goes on as it was."""
        if worker.status is Status.running:
            _sample(worker, start=True)


def findings_of(dask_worker: Worker) -> Findings | None:
    """What a worker has found."""
    plugin: Admission = dask_worker.plugins[PLUGIN]
    return plugin.findings


def _sample(worker: Worker, *, start: bool) -> None:
    """Start or stop the profiler that looks at all threads a hundred times a second."""
    for name in _SAMPLERS:
        callback = worker.periodic_callbacks.get(name)
        if callback is not None:
            (callback.start if start else callback.stop)()
