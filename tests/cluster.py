"""Clusters of this machine: a scheduler and workers that are processes of their own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

distributed = pytest.importorskip("distributed", reason="needs onnxsemi[distributed]")

ROOT = Path(__file__).parents[1]


@dataclass
class Machines:
    """A scheduler and its workers, each a process that can be killed."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, **environment: str) -> None:
        """Start a worker of one thread that no nanny brings back."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(start("worker", self.address, *options, **environment))

    def wait_for_admitted(self, count: int, ended: threading.Event) -> None:
        """Wait until so many workers may work, or everything has ended."""
        with distributed.Client(self.address, timeout=30) as client:
            while client.run_on_scheduler(admitted) < count and not ended.wait(0.1):
                pass

    def kill(self, place: int = 0) -> None:
        """Kill a worker, as a machine fails: it tells nobody."""
        worker = self.workers.pop(place)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def client(self, workers: int = 0) -> "distributed.Client":
        """A client that sees so many workers."""
        client = distributed.Client(self.address, timeout=30)
        client.wait_for_workers(workers or len(self.workers), timeout=60)
        return client


def admitted(dask_scheduler: Any) -> int:
    """How many workers may work."""
    return sum(bool(worker.resources) for worker in dask_scheduler.workers.values())


def start(kind: str, *given: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a scheduler or a worker."""
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "tests"), inherited)))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + kind, *given],
        env=os.environ | threads | {"PYTHONPATH": path} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def machines(folder: Path, workers: int, port: int = 0) -> Iterator[Machines]:
    """A scheduler with so many workers; all of them are gone at the end."""
    file = folder / "scheduler.json"
    scheduler = start_scheduler(file, port)
    found = Machines(address(file), scheduler)
    try:
        for _ in range(workers):
            found.add()
        yield found
    finally:
        for process in (*found.workers, found.scheduler):
            process.kill()
            process.wait()


def start_scheduler(file: Path, port: int = 0) -> subprocess.Popen[bytes]:
    """Start a scheduler that writes where it is."""
    file.unlink(missing_ok=True)
    where = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    return start("scheduler", *where, "--scheduler-file", str(file))


def address(file: Path) -> str:
    """Where a scheduler is, once it has said so."""
    for _ in range(600):
        if file.exists() and file.stat().st_size:
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.1)
    raise TimeoutError("no scheduler")
