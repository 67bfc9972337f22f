"""Measured by the workers of a Dask cluster: the same bytes, and who is refused."""

import os
import socket
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

distributed = pytest.importorskip("distributed", reason="needs onnxsemi[distributed]")

from cluster import OwnSight, machines, reference_run  # noqa: E402
from command_line import assert_one_line, frontier_command, run  # noqa: E402
from residual_net import save_noise, save_residual_net  # noqa: E402

import onnxsemi  # noqa: E402
from onnxsemi import RunOptions, SearchSettings, Settings  # noqa: E402
from onnxsemi._data import source  # noqa: E402
from onnxsemi._rounding import shares as dealing  # noqa: E402
from onnxsemi._runtime.cluster import Cluster, connected  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and images, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("spread")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=150, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    compressed(folder, "alone")
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with machines(tmp_path_factory.mktemp("two"), 2) as found:
        yield found


WAYS = {
    "int8": {"profile": "int8"},
    "native": {"profile": "native", "delta_loss": "output"},
    "exact": {"delta_loss": "exact", "kl": "exact", "search": SearchSettings(method="semilayer")},
    "paper": {"search": SearchSettings(method="semilayer")},
}


def tasks_done(dask_worker):
    return dask_worker.state.executed_count


def compressed(folder, name, engine=None, settings=None, data="search", **run):
    """Bytes of the file and of the plan."""
    output = folder / f"{name}.onnx"
    given = {"force": True, "allow_loss": True} | (settings or {})
    onnxsemi.compress(
        folder / "model.onnx",
        folder / f"{data}.npz",
        output=output,
        test_data=folder / "report.npz",
        settings=Settings(**given, run=RunOptions(**run)),
        engine=engine,
    )
    return written(folder, name)


def written(folder, name):
    return (folder / f"{name}.onnx").read_bytes(), (folder / f"{name}.plan.json").read_bytes()


def test_workers_that_are_processes_give_the_same_bytes(folder, two):
    with two.client() as client:
        assert compressed(folder, "processes", client) == written(folder, "alone")


@pytest.mark.parametrize("count", [2, 4])
def test_so_do_several_that_share_the_rounding_of_a_plan(folder, two, count, monkeypatch):
    monkeypatch.setattr(dealing, "shares_for", lambda *_: count)
    with two.client() as client:
        assert compressed(folder, "shared", client) == written(folder, "alone")


@pytest.mark.parametrize("way", WAYS)
def test_so_does_every_other_way(folder, two, way):
    alone = compressed(folder, f"{way}_alone", settings=WAYS[way])
    with two.client() as client:
        assert compressed(folder, way, client, WAYS[way]) == alone


def test_workers_that_are_threads_give_the_same_bytes(folder):
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert compressed(folder, "threads", client) == written(folder, "alone")


def test_the_command_starts_processes_of_this_machine(folder):
    words = frontier_command(folder, "local.onnx", "--cluster", "local:2", "--allow-loss", "-q")
    result = run(*words)
    assert result.exit_code == 0, result.output
    alone = run(*frontier_command(folder, "command.onnx", "--allow-loss", "-q"))
    assert alone.exit_code == 0, alone.output
    assert written(folder, "local") == written(folder, "command")


def test_a_worker_that_gives_other_bits_is_refused_by_name_or_set_aside(folder, tmp_path):
    with machines(tmp_path, 1) as found:
        found.add(OPENBLAS_CORETYPE="Prescott")  # kernels of an old processor
        with found.client() as client:
            with pytest.raises(onnxsemi.SettingsError, match=r"worker tcp://.*gives other bits"):
                compressed(folder, "refused", client)
            assert not (folder / "refused.onnx").exists()
            made = compressed(folder, "aside", client, allow_mixed=True)
            assert made == written(folder, "alone")


def test_without_a_worker_that_gives_these_bits_there_is_nothing_to_set_aside(folder, tmp_path):
    with machines(tmp_path, 0) as found:
        found.add(OPENBLAS_CORETYPE="Prescott")
        with found.client() as client, pytest.raises(onnxsemi.SettingsError, match="same kind"):
            compressed(folder, "none", client, allow_mixed=True)


def test_images_are_read_by_the_workers_or_sent(folder, two, monkeypatch):
    monkeypatch.setattr(source, "MEMORY_LIMIT", 0)  # as if there were too many
    np.savez_compressed(folder / "packed.npz", **np.load(folder / "search.npz"))
    for data in ("search", "packed"):
        alone = compressed(folder, f"{data}_read", data=data)
        with two.client() as client:
            assert compressed(folder, f"{data}_spread", client, data=data) == alone


def test_who_does_not_see_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEN", "here")
    reference = reference_run(OwnSight())
    with machines(tmp_path, 0) as found:
        found.add(SEEN="here")
        with found.client() as client:
            with Cluster(client, allow_mixed=False, patience=60) as cluster:
                assert cluster.admit(reference) == ()
                assert cluster.sees_files
                found.add(SEEN="others")
                found.wait_for_admitted(2, threading.Event())
                tasks = (cluster.begin(os.getenv, "SEEN") for _ in range(20))
                assert set(cluster.results(tasks, lambda: None)) == {"here"}
            with Cluster(client, allow_mixed=False, patience=60) as cluster:
                assert cluster.admit(reference) == ()
                assert not cluster.sees_files
                tasks = (cluster.begin(os.getenv, "SEEN") for _ in range(20))
                assert set(cluster.results(tasks, lambda: None)) == {"here", "others"}


def test_apply_rounds_on_the_workers(folder, two):
    given = (folder / "alone.plan.json", folder / "model.onnx", "-q")
    given += ("--calibration-data", folder / "search.npz")
    for name, more in (("here", ()), ("there", ("--cluster", two.address))):
        result = run("apply", *given, "-o", folder / f"{name}.onnx", *more)
        assert result.exit_code == 0, result.output
    with two.client() as client:
        assert min(client.run(tasks_done).values()) > 0
    assert (folder / "there.onnx").read_bytes() == (folder / "here.onnx").read_bytes()


def test_evaluate_runs_on_the_workers(folder, two):
    given = ("evaluate", folder / "alone.onnx", "--data", folder / "search.npz", "--force", "-q")
    given += ("--reference", folder / "model.onnx", "--json")
    here, there = run(*given), run(*given, "--cluster", two.address)
    assert here.exit_code == there.exit_code == 0, there.output
    assert here.stdout == there.stdout


@pytest.mark.parametrize("command", ["apply", "evaluate"])
def test_other_commands_refuse_what_is_no_cluster(folder, command):
    given = {
        "apply": (folder / "alone.plan.json", folder / "model.onnx", "-o", folder / "no.onnx"),
        "evaluate": (folder / "model.onnx",),
    }[command]
    data = "--calibration-data" if command == "apply" else "--data"
    result = run(command, *given, data, folder / "search.npz", "--cluster", "local:x")
    assert_one_line(result, "is not local:N")


@pytest.mark.parametrize("where", ["local:", "local:x", "local:0"])
def test_addresses_that_are_none(folder, where):
    result = run(*frontier_command(folder, "none.onnx", "--cluster", where))
    assert_one_line(result, "is not local:N")


@pytest.mark.parametrize("at_once", [0.2, 30])
def test_a_scheduler_that_does_not_answer(folder, monkeypatch, at_once):
    monkeypatch.setattr("onnxsemi._runtime.cluster.SECONDS", at_once)
    began = time.monotonic()
    words = ("--cluster", "tcp://127.0.0.1:1", "--cluster-wait", "2s")
    result = run(*frontier_command(folder, "none.onnx", *words))
    assert_one_line(result, "no scheduler has answered there within 2 seconds", "--cluster-wait")
    assert 2 <= time.monotonic() - began < 15


def test_a_scheduler_that_begins_while_it_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxsemi._runtime.cluster.SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with ThreadPoolExecutor(1) as beside:

        def joined():
            with connected(f"tcp://127.0.0.1:{port}", allow_mixed=False, patience=60) as cluster:
                return cluster.where

        said = beside.submit(joined)
        time.sleep(1)
        with machines(tmp_path, 0, port):
            assert said.result(60).startswith("waiting for a worker")


def test_the_dashboard_of_this_machines_workers_answers():
    pytest.importorskip("bokeh")
    with connected("local:1", allow_mixed=False, patience=60) as cluster:
        link = cluster.where.rpartition(" ")[2]
        with urllib.request.urlopen(link) as answer:
            assert answer.status == 200
            assert b"Dask" in answer.read()


def test_without_dask(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxsemi._runtime.cluster", None)
    result = run(*frontier_command(folder, "none.onnx", "--cluster", "local:2"))
    assert_one_line(result, "onnxsemi[distributed]")
