"""Which share of many cores a run can use: its tasks, replayed on more cores than there are.

    python benchmarks/cores.py --shared ../shared

A whole ``compress`` on sixteen threads runs on whatever cores there are. Of every task of its
thread pools, and of what lies between them, the CPU time is taken, and what it waits for. The same
tasks are then played on 2 to 16 cores: first come, first served, each core one at a time, every
wait as it was. CPU time over cores times the length of that is the share. It is a replay, not a
measurement: that many cores share caches, memory and Python's interpreter lock. At the end the
table in ``benchmarks/README.md`` is written anew.
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
    parser.add_argument("--only", nargs="*", default=IMAGES, help="models to run, such as fashion")
    parser.add_argument("--job", help="run one model in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = cases(arguments.shared)
    if arguments.job:
        row = recorded(known[arguments.job])
        _path(arguments.work, arguments.job).write_text(json.dumps(row, indent=1), "utf-8")
        return
    for name in arguments.only:
        if not _path(arguments.work, name).exists():
            print(name, flush=True)
            note_processor(arguments.work)
            subprocess.run([sys.executable, *sys.argv, "--job", name], check=True)
    _write_table(known, arguments.work)


def cases(shared: Path) -> dict[str, Case]:
    """Models by short name, with as many calibration images as are asked for."""
    known = trained(shared)
    return {name: replace(known[name], search_samples=count) for name, count in IMAGES.items()}


def _path(work: Path, name: str) -> Path:
    return work / f"{name}.json"


def recorded(case: Case) -> dict[str, object]:
    """A run on as many threads as the most cores, and its replay on all numbers of cores."""
    settings = Settings(
        data=case.data, search_samples=case.search_samples, threads=CORES[-1], allow_loss=True
    )
    with tempfile.TemporaryDirectory() as folder, Recorder() as recorder:

        def phase(event: Event) -> None:
            if event.phase not in ("best", "warning"):
                recorder.phase(event.phase)

        onnxsemi.compress(
            case.model,
            data_of(case.search, case.data),
            output=Path(folder) / "small.onnx",
            test_data=data_of(case.report, case.data),
            settings=settings,
            progress=phase,
        )
    rows = {}
    for cores in CORES:
        found = replay(recorder.main, cores, CORES[-1])
        rows[cores] = {
            "share": found.share(cores),
            "seconds": found.seconds,
            "phases": {name: list(spent) for name, spent in found.phases.items()},
            "idle": dict(found.idle.most_common(20)),
        }
    return {
        "cpu_seconds": recorder.cpu_seconds,
        "recorded": found.busy / recorder.cpu_seconds,
        "tasks": recorder.tasks,
        "cores": rows,
    }


def _write_table(known: dict[str, Case], work: Path) -> None:
    there = [name for name in IMAGES if _path(work, name).exists()]
    rows = {name: json.loads(_path(work, name).read_text("utf-8")) for name in there}
    lines = [
        f"{versions(work)}.",
        "",
        "| model | calibration images | tasks | CPU s | "
        + " | ".join(f"{n} cores" for n in CORES)
        + " |",
        "|" + "---|" * (4 + len(CORES)),
    ]
    for name, row in rows.items():
        cells = [known[name].title, f"{IMAGES[name]:,}", f"{row['tasks']:,}"]
        cells += [f"{row['cpu_seconds']:.0f}"]
        cells += [f"{row['cores'][str(cores)]['share']:.0%}" for cores in CORES]
        lines.append(f"| {' | '.join(cells)} |")
    most = CORES[-1]
    lines += ["", f"Where the time goes on {most} cores:", ""]
    lines += ["| model | phase | share of the time | cores used there |", "|---|---|---|---|"]
    for name, row in rows.items():
        found = row["cores"][str(most)]
        for phase, (seconds, busy) in found["phases"].items():
            if seconds >= SHOWN * found["seconds"]:
                share, used = seconds / found["seconds"], busy / seconds / most
                lines.append(f"| {known[name].title} | {phase} | {share:.0%} | {used:.0%} |")
    replace_table("cores", lines)


if __name__ == "__main__":
    main()
