"""Clusters of this machine: a scheduler and workers that are processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info

from onnxsemi._runtime.reference_run import ReferenceRun

distributed = pytest.importorskip("distributed", reason="needs onnxsemi[distributed]")

ROOT = Path(__file__).parents[1]


@dataclass
class Machines:
    """A scheduler and its workers, each a process that can be killed."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, through: str = "", **environment: str) -> None:
        """Start a worker of one thread that no nanny brings back.

        Args:
            through: Another address that leads to the scheduler.
            environment: Variables of its own.
        """
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self.workers.append(start("worker", through or self.address, *options, **environment))

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

    def restart_scheduler(self, folder: Path) -> None:
        """Kill the scheduler and start another at the same address."""
        self.scheduler.kill()
        self.scheduler.wait()
        port = int(self.address.rpartition(":")[2])
        self.scheduler = start_scheduler(folder / "scheduler.json", port)
        assert address(folder / "scheduler.json") == self.address

    def pause(self, seconds: float, place: int = 0) -> None:
        """Stop a worker for a while, as a machine that swaps: its connections stay."""
        self.workers[place].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.workers[place].send_signal(signal.SIGCONT)

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


class Proxy:
    """Passes bytes on between a port of its own and another address, until it is cut."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self._ends: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection, and take no other."""
        for end in (self._server, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
                self._ends += near, far
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


class OwnSight:
    """Sees what a variable of the environment says."""

    def __call__(self) -> str:
        return os.environ.get("SEEN", "")


def reference_run(sight: Any = None) -> ReferenceRun:
    """What workers are admitted by, of a model that hands on its input."""
    net = make_node("Identity", ["x"], ["y"])
    ends = [make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = make_model(make_graph([net], "net", ends[:1], ends[1:]), ir_version=8)
    return ReferenceRun(model.SerializeToString(), {"x": np.ones(1, np.float32)}, sight=sight)


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
