"""What a cluster costs: CPU time of all processes against one, and what many machines would take.

    python benchmarks/cluster.py --shared ../shared

Whole runs of ``compress`` on one thread of this process, on 1, 2 and 4 workers of this machine, and
on 2 of which one is killed every ten seconds of its CPU time: each in a process of its own, whose
CPU time is taken with that of all that it has started, looked at every second. Then tasks of each
kind are measured on ResNets for 224 x 224 images with random weights, and from these it follows
what runs on many machines take, by the model that ``check --workers`` goes by. Rows that are there
are not measured again; at the end the tables in ``benchmarks/README.md`` are written anew.
"""

import argparse
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnx
import psutil
from cases import Case, real
from distributed import Client, LocalCluster
from random_resnets import random_images, random_resnet
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi import ImageSet, RunOptions, Settings
from onnxsemi._pipeline.cluster_forecast import TaskTimes, cluster_forecast, task_times
from onnxsemi._pipeline.preparation import prepare
from onnxsemi._runtime.batch_sizes import BLOCK_IMAGES

IMAGES = {"fashion": 2000, "resnet20": 1000}
WAYS = ("alone", "1", "2", "4", "killed")
KILL_SECONDS = 10.0
DEPTHS = (18, 50, 152)
FEW = 80
"""Images that tasks are measured on: half of them are kept for the test."""
CALIBRATION, ROUNDING, DELTA_LOSS = 50_000, 1024, 512
WORKERS = (1, 16, 64, 256)


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("cluster"), help="results so far")
    parser.add_argument("--only", nargs="*", default=None, help="rows, such as fashion-2")
    parser.add_argument("--job", help="measure one row in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.job:
        measure(arguments.job, arguments)
        return
    rows = [f"{name}-{way}" for name in IMAGES for way in WAYS]
    for row in [*rows, *(f"tasks-{depth}" for depth in DEPTHS)]:
        wanted = arguments.only is None or row in arguments.only
        if wanted and not (arguments.work / f"{row}.json").exists():
            print(row, flush=True)
            note_processor(arguments.work)
            paths = ["--shared", str(arguments.shared), "--work", str(arguments.work)]
            subprocess.run([sys.executable, __file__, *paths, "--job", row], check=False)
    write_tables(arguments.work)


def measure(row: str, arguments: argparse.Namespace) -> None:
    """Measure a row and keep it."""
    name, _, way = row.partition("-")
    if name == "tasks":
        found = measured_tasks(int(way))
    else:
        case = replace(real(arguments.shared)[name], search_samples=IMAGES[name])
        found = measured_run(case, way)
    (arguments.work / f"{row}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def measured_run(case: Case, way: str) -> dict[str, Any]:
    """The whole command, and the CPU time of all processes."""
    began, load, killed = time.monotonic(), os.getloadavg()[0], list[float]()
    others: dict[int, float] = {}
    with _watching(others), tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        with _engine(way, killed) as engine:
            onnxsemi.compress(
                case.model,
                case.search,
                output=output,
                test_data=case.report,
                settings=Settings(
                    data=case.data,
                    search_samples=case.search_samples,
                    threads=1,
                    allow_loss=True,
                    run=RunOptions(cluster=f"local:{way}" if way.isdecimal() else None),
                ),
                engine=engine,
            )
        model = onnx.load(output)
    del model.metadata_props[:]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "images": case.search_samples,
        "cpu_seconds": used.ru_utime + used.ru_stime + sum(others.values()),
        "seconds": time.monotonic() - began,
        "load": [load, os.getloadavg()[0]],
        "killed": len(killed),
        "file": hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
    }


@contextmanager
def _engine(way: str, killed: list[float]) -> Iterator[Client | None]:
    """Workers of this machine that are killed; None for those that the command starts itself."""
    if way != "killed":
        yield None
        return
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        _killing(cluster, killed),
    ):
        yield client


@contextmanager
def _watching(others: dict[int, float]) -> Iterator[None]:
    """Keep the CPU seconds of every process that this one, or one of those, has started."""
    ended, here = threading.Event(), psutil.Process()

    def look() -> None:
        while not ended.wait(1):
            for each in here.children(recursive=True):
                with suppress(psutil.Error):
                    spent = each.cpu_times()
                    others[each.pid] = spent.user + spent.system

    beside = threading.Thread(target=look)
    beside.start()
    try:
        yield
    finally:
        ended.set()
        beside.join()


@contextmanager
def _killing(cluster: LocalCluster, killed: list[float]) -> Iterator[None]:
    """Kill one worker after the other; a nanny starts another in its place.

    Every ten seconds of a worker's CPU time, in which it works as much as in ten seconds on a core
    of its own: others may use this machine.
    """
    ended, seen = threading.Event(), dict[int, float]()

    def kill() -> None:
        at_last = 0.0
        while not ended.wait(0.2):
            processes = [nanny.process for nanny in cluster.workers.values()]
            there = [one.pid for one in processes if one is not None and one.pid]
            for pid in there:
                with suppress(psutil.Error):
                    seen[pid] = sum(psutil.Process(pid).cpu_times()[:2])
            if there and sum(seen.values()) - at_last >= KILL_SECONDS * len(cluster.workers):
                at_last = sum(seen.values())
                os.kill(there[len(killed) % len(there)], signal.SIGKILL)
                killed.append(at_last)

    beside = threading.Thread(target=kill)
    beside.start()
    try:
        yield
    finally:
        ended.set()
        beside.join()


def measured_tasks(depth: int) -> dict[str, Any]:
    """Tasks of each kind, and what runs take that are made of them."""
    images, labels = random_images(FEW)
    settings = Settings(threads=1, force=True)
    model, data = random_resnet(depth).SerializeToString(), ImageSet("noise", images, labels)
    times = task_times(prepare(model, data, None, settings))
    times = replace(times, rounding=ROUNDING, delta_loss=DELTA_LOSS)
    return {"load": os.getloadavg()[0], "times": msgspec.to_builtins(times)}


def write_tables(work: Path) -> None:
    """Write both tables of the README."""
    found = {path.stem: json.loads(path.read_text()) for path in work.glob("*-*.json")}
    said = [versions(work, ("onnxruntime", "numpy", "distributed")) + ".", ""]
    replace_table("cluster", [*said, *_run_lines(found)])
    replace_table("cluster_forecast", _forecast_lines(found))


def _run_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "| model | calibration images | workers | CPU time, s | against alone | wall time, s "
        "| load | workers killed | same file |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    titles = {"fashion": "Fashion-MNIST ResNet-20 (bundled)", "resnet20": "CIFAR-10 ResNet-20"}
    for name, title in titles.items():
        alone = found.get(f"{name}-alone")
        for way in WAYS:
            row = found.get(f"{name}-{way}")
            if row is None or alone is None:
                continue
            ratio, same = row["cpu_seconds"] / alone["cpu_seconds"], row["file"] == alone["file"]
            workers = "2, one killed every 10 s" if way == "killed" else way
            load = " to ".join(f"{each:.1f}" for each in row["load"])
            lines.append(
                f"| {title} | {row['images']:,} | {workers} | {row['cpu_seconds']:.0f} "
                f"| {ratio:.2f} | {row['seconds']:.0f} | {load} | {row['killed']} "
                f"| {'yes' if same else 'no'} |"
            )
    return lines


def _forecast_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "| model | workers | time | efficiency | alone, s | over the network, GB |",
        "|---|---|---|---|---|---|",
    ]
    every = {
        depth: msgspec.convert(found[f"tasks-{depth}"]["times"], TaskTimes)
        for depth in DEPTHS
        if f"tasks-{depth}" in found
    }
    for depth, times in every.items():
        for count in WORKERS:
            run = cluster_forecast(times, CALIBRATION, count)
            lines.append(
                f"| ResNet-{depth} | {count} | {run.seconds / 3600:.2f} h | {run.efficiency:.0%} "
                f"| {run.serial:.0f} | {run.moved / 1e9:.1f} |"
            )
    lines += [
        "",
        "| model | forward pass of an image, ms | block of 32 images in a plan, s | in passes "
        "| codes of a plan, by one worker and by all, s | table, s | sums of all layers, MB "
        "| adding them, s | backward graph, s | an image in it, s | parts |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for depth, times in every.items():
        layers, backward = times.walk.layers, times.backward
        block = times.walk.gone_on + sum(one.look for one in layers)
        codes = [sum(one.codes(count) for one in layers) for count in (1, WORKERS[-1])]
        table = times.bitwidths * sum(one.table for one in layers)
        lines.append(
            f"| ResNet-{depth} | {1000 * times.image:.1f} | {block:.1f} "
            f"| {block / (BLOCK_IMAGES * times.image):.1f} | {codes[0]:.1f}, {codes[1]:.1f} "
            f"| {table:.0f} | {sum(one.moved for one in layers) / 1e6:.0f} "
            f"| {sum(one.add for one in layers):.1f} "
            f"| {backward.graph:.1f} | {backward.image:.2f} | {backward.parts} |"
        )
    return lines


if __name__ == "__main__":
    main()
