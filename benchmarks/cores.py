"""Which share of many cores a run can use: its tasks, replayed on more cores than there are.

    python benchmarks/cores.py --shared ../shared

A whole ``compress`` with as many threads as there are to be cores runs on whatever cores there are.
Of every task of its thread pools, and of what lies between them, the CPU time is taken, and what
it waits for. The same tasks are then played on as many cores: first come, first served, each core
one at a time, every wait as it was. CPU time over cores times the length of that is the share. It
is a replay, not a measurement: that many cores share caches, memory and Python's interpreter lock.
At the end the table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cases import Case, data_of, trained
from tables import note_processor, replace_table, versions
from task_replay import Recorder, replay

import onnxsemi
from onnxsemi import Event, Settings

IMAGES = {"fashion": 2000, "resnet18": 512}
CORES = (2, 4, 8, 16)
SHOWN = 0.02
"""Phases are listed that take at least this share of the time on the most cores."""


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("cores"), help="results so far")
    parser.add_argument("--job", nargs=2, help="run one model in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = cases(arguments.shared)
    if arguments.job:
        name, cores = arguments.job
        row = recorded(known[name], int(cores))
        _path(arguments.work, name, int(cores)).write_text(json.dumps(row, indent=1), "utf-8")
        return
    for name in IMAGES:
        for cores in CORES:
            if not _path(arguments.work, name, cores).exists():
                print(name, cores, flush=True)
                note_processor(arguments.work)
                subprocess.run([sys.executable, *sys.argv, "--job", name, str(cores)], check=True)
    _write_table(known, arguments.work)


def cases(shared: Path) -> dict[str, Case]:
    """Models by short name, with as many calibration images as are asked for."""
    known = trained(shared)
    return {name: replace(known[name], search_samples=count) for name, count in IMAGES.items()}


def _path(work: Path, name: str, cores: int) -> Path:
    return work / f"{name}-{cores}.json"


def recorded(case: Case, cores: int) -> dict[str, object]:
    """A run with as many threads, and its replay on as many cores."""
    settings = Settings(data=case.data, search_samples=case.search_samples, threads=cores)
    with tempfile.TemporaryDirectory() as folder, Recorder() as recorder:

        def phase(event: Event) -> None:
            if event.phase not in ("best", "warning"):
                recorder.phase(event.phase)

        result = onnxsemi.compress(
            case.model,
            data_of(case.search, case.data),
            output=Path(folder) / "small.onnx",
            test_data=data_of(case.report, case.data),
            settings=replace(settings, allow_loss=True),
            progress=phase,
        )
    found = replay(recorder.main, cores)
    cpu_seconds = recorder.cpu_seconds
    return {
        "measured": result.cost.cpu_seconds / result.cost.seconds / cores,
        "recorded": found.busy / cpu_seconds,
        "tasks": recorder.tasks,
        "cpu_seconds": found.busy,
        "seconds": found.seconds,
        "share": found.share(cores),
        "idle": dict(found.idle.most_common(20)),
        "phases": {name: list(spent) for name, spent in found.phases.items()},
    }


def _write_table(known: dict[str, Case], work: Path) -> None:
    lines = [
        f"{versions(work)}.",
        "",
        "| model | calibration images | " + " | ".join(f"{n} cores" for n in CORES) + " |",
        "|" + "---|" * (2 + len(CORES)),
    ]
    rows = {
        name: [json.loads(_path(work, name, n).read_text("utf-8")) for n in CORES]
        for name in IMAGES
    }
    for name, found in rows.items():
        shares = [f"{row['share']:.0%}" for row in found]
        lines.append(f"| {known[name].title} | {IMAGES[name]:,} | {' | '.join(shares)} |")
    lines += ["", f"Where the time goes on {CORES[-1]} cores:", ""]
    lines += ["| model | phase | share of the time | cores used there |", "|---|---|---|---|"]
    for name, found in rows.items():
        last = found[-1]
        for phase, (seconds, busy) in last["phases"].items():
            if seconds >= SHOWN * last["seconds"]:
                share, used = seconds / last["seconds"], busy / seconds / CORES[-1]
                lines.append(f"| {known[name].title} | {phase} | {share:.0%} | {used:.0%} |")
    replace_table("cores", lines)


if __name__ == "__main__":
    main()
