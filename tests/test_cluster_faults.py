"""Workers and clients that are really killed: the same bytes in the end."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

distributed = pytest.importorskip("distributed", reason="needs onnxsemi[distributed]")

from cluster import Proxy, machines, reference_run  # noqa: E402
from command_line import assert_one_line, frontier_command, run  # noqa: E402
from residual_net import save_noise, save_residual_net  # noqa: E402

import onnxsemi  # noqa: E402
from onnxsemi import RunOptions, Settings  # noqa: E402
from onnxsemi._rounding import shares as dealing  # noqa: E402
from onnxsemi._runtime.cluster import Cluster  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and images, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("faults")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=150, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    compressed(folder, "alone")
    return folder


@pytest.fixture(autouse=True)
def shares(monkeypatch):
    """The rounding of a plan is shared, as that of a large model."""
    monkeypatch.setattr(dealing, "shares_for", lambda *_: 3)


def compressed(where, name, engine=None, **run):
    """Bytes of the file and of the plan."""
    onnxsemi.compress(
        where / "model.onnx",
        where / "search.npz",
        output=where / f"{name}.onnx",
        test_data=where / "report.npz",
        settings=Settings(force=True, allow_loss=True, run=RunOptions(**run)),
        engine=engine,
    )
    return written(where, name)


def written(folder, name):
    return (folder / f"{name}.onnx").read_bytes(), (folder / f"{name}.plan.json").read_bytes()


def tasks_done(dask_worker):
    return dask_worker.state.executed_count


@contextmanager
def meanwhile(work):
    """Do something again and again, until the ``with`` ends."""
    ended = threading.Event()

    def again():
        while not ended.is_set():
            work(ended)

    beside = threading.Thread(target=again)
    beside.start()
    try:
        yield
    finally:
        ended.set()
        beside.join()


def test_workers_killed_again_and_again_and_others_added(folder, tmp_path):
    killed, moments = [], np.random.default_rng(0)
    with machines(tmp_path, 2) as found, found.client() as client:

        def kill(ended):
            found.wait_for_admitted(len(found.workers), ended)
            found.add()
            found.wait_for_admitted(len(found.workers), ended)
            if not ended.wait(moments.uniform(0.1, 0.5)):
                found.kill()
                killed.append(time.monotonic())

        with meanwhile(kill):
            made = compressed(folder, "killed", client)
    assert made == written(folder, "alone")
    assert killed  # as often as there was time for


def test_the_only_worker_is_killed_and_another_comes_later(folder, tmp_path):
    with machines(tmp_path, 1) as found, found.client() as client:

        def replace(ended):
            found.wait_for_admitted(1, ended)
            if not ended.wait(2):
                found.kill()
                found.add()
                ended.wait(600)

        with meanwhile(replace):
            made = compressed(folder, "only", client)
    assert made == written(folder, "alone")


def test_a_worker_that_joins_in_the_middle_works(folder, tmp_path):
    with machines(tmp_path, 1) as found, found.client() as client:

        def add(ended):
            found.wait_for_admitted(1, ended)
            found.add()
            ended.wait(600)

        with meanwhile(add):
            made = compressed(folder, "joined", client)
        worked = client.run(tasks_done)
    assert made == written(folder, "alone")
    assert len(worked) == 2
    assert min(worked.values()) > 20


def test_the_client_is_killed_and_goes_on(folder, tmp_path):
    command = frontier_command(folder, "client.onnx", "--allow-loss", "-q")
    with machines(tmp_path, 2) as found:
        words = [*map(str, command), "--cluster", found.address]
        process = subprocess.Popen([sys.executable, "-m", "onnxsemi", *words])
        found.client().close()
        for _ in range(600):
            if (folder / "client.run" / "rounding.npz").exists():
                break
            time.sleep(0.05)
        time.sleep(0.5)
        assert process.poll() is None
        process.kill()
        process.wait()
        assert not (folder / "client.onnx").exists()
        resumed = run(*words, "--resume")
        assert resumed.exit_code == 0, resumed.output
    whole = run(*frontier_command(folder, "whole.onnx", "--allow-loss", "-q"))
    assert whole.exit_code == 0, whole.output
    assert written(folder, "client") == written(folder, "whole")


def test_a_worker_that_stands_still_for_a_while(folder, tmp_path):
    with machines(tmp_path, 2) as found, found.client() as client:

        def pause(ended):
            found.wait_for_admitted(2, ended)
            if not ended.wait(0.5):
                found.pause(4)
                ended.wait(600)

        with meanwhile(pause):
            made = compressed(folder, "slow", client)
    assert made == written(folder, "alone")


def test_a_worker_whose_connection_is_lost(folder, tmp_path):
    with machines(tmp_path, 1) as found:
        proxy = Proxy(found.address)
        found.add(proxy.address)
        with found.client() as client:

            def cut(ended):
                found.wait_for_admitted(2, ended)
                if not ended.wait(1):
                    proxy.cut()
                    ended.wait(600)

            with meanwhile(cut):
                made = compressed(folder, "lost", client)
    assert made == written(folder, "alone")


class Command:
    """``compress`` in a process of its own, whose cluster is at an address."""

    def __init__(self, folder, name, address, *more):
        self.words = [*map(str, frontier_command(folder, f"{name}.onnx", "--allow-loss", "-q"))]
        given = [*self.words, "--cluster", address, *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onnxsemi", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.folder, self.name = folder, name
        for _ in range(1200):
            if (folder / f"{name}.run" / "rounding.npz").exists():
                break
            time.sleep(0.05)
        time.sleep(0.5)
        assert self.process.poll() is None

    def assert_ends_with_one_line(self, *words):
        """And without a file."""
        printed, said = self.process.communicate(timeout=200)
        assert self.process.returncode == 1, said
        assert printed == ""
        *warnings, error = said.splitlines()
        assert error.startswith("error: ")
        assert all(line.startswith("warning: ") for line in warnings), said
        assert all(word in error for word in words), error
        assert not (self.folder / f"{self.name}.onnx").exists()

    def assert_resumed(self, *more):
        """To the bytes of a run without interruption."""
        resumed = run(*self.words, "--resume", *more)
        assert resumed.exit_code == 0, resumed.output
        whole = run(*frontier_command(self.folder, "whole.onnx", "--allow-loss", "-q", "--force"))
        assert whole.exit_code == 0, whole.output
        assert written(self.folder, self.name) == written(self.folder, "whole")


def test_the_scheduler_is_killed_and_started_again(folder, tmp_path):
    with machines(tmp_path, 2) as found:
        command = Command(folder, "scheduler", found.address)
        found.scheduler.kill()
        found.scheduler.wait()
        command.assert_ends_with_one_line("connection to the cluster was lost", "--resume")
    with machines(tmp_path, 1) as found:
        command.assert_resumed("--cluster", found.address)


def test_the_scheduler_is_restarted_at_once(folder, tmp_path):
    with machines(tmp_path, 2) as found:
        command = Command(folder, "restarted", found.address)
        found.restart_scheduler(tmp_path)
        command.assert_ends_with_one_line("connection to the cluster was lost", "--resume")
        command.assert_resumed()


def test_the_connection_of_the_command_is_lost(folder, tmp_path):
    with machines(tmp_path, 2) as found:
        proxy = Proxy(found.address)
        command = Command(folder, "cut", proxy.address)
        proxy.cut()
        command.assert_ends_with_one_line("connection to the cluster was lost", "--resume")
        command.assert_resumed("--cluster", found.address)


def test_no_worker_is_left(folder, tmp_path):
    with machines(tmp_path, 1) as found:
        command = Command(folder, "none_left", found.address, "--cluster-wait", "8s")
        found.kill()
        command.assert_ends_with_one_line("no worker", "8 seconds", "--cluster-wait", "--resume")
        command.assert_resumed()


def test_the_last_worker_takes_a_result_with_it(tmp_path, monkeypatch):
    with (
        machines(tmp_path, 1) as found,
        found.client() as client,
        Cluster(client, allow_mixed=False, patience=2) as cluster,
    ):
        cluster.admit(reference_run())
        task = cluster.begin(bytes, 8)
        distributed.wait(task, timeout=60)
        found.kill()
        monkeypatch.setattr(distributed.Future, "done", lambda _: True)  # as it was just before
        began = time.monotonic()
        with pytest.raises(onnxsemi.RunError, match="no worker of the cluster is left"):
            list(cluster.results([task], lambda: None))
        assert time.monotonic() - began < 60


def test_no_worker_comes(folder, tmp_path):
    with machines(tmp_path, 0) as found:
        words = ("--cluster", found.address, "--cluster-wait", "1s")
        result = run(*frontier_command(folder, "nobody.onnx", *words))
    assert_one_line(result, "no worker has joined", "1 seconds", "--cluster-wait")
