"""What a run costs: whole ``compress`` with the defaults, and with every effort.

    python benchmarks/search_cost.py --shared ../shared

Every run is in a process of its own and leaves a JSON file in the work folder; one that is there
already is not run again, and one that failed says why. Costs are those that the product counts
itself: CPU time of the whole run over that of a float32 forward pass, so that what else runs on the
machine hardly counts. At the end the table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cases import Case, data_of, random, real
from random_resnets import normalized
from search_cost_table import write_table
from semilayer_cost import write_random_models
from tables import note_processor

import onnxsemi
from onnxsemi import Effort, Event, SearchSettings, Settings
from onnxsemi._runtime.memory import peak

IMAGES = {
    "fashion": 2000,
    "resnet20": 4000,
    "resnet18": 4000,
    "efficientnet": 500,
    "random50": 1000,
}
SLOW = ("efficientnet", "random50")
"""Run once, on two threads, with the defaults."""
REPEATS = 3


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("search_cost"), help="results so far")
    parser.add_argument("--only", nargs="*", default=None, help="models to run, such as fashion")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one run")
    parser.add_argument("--job", nargs=4, help="run one model in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = cases(arguments.shared, arguments.work)
    if arguments.job:
        name, effort, threads, number = arguments.job
        row = measured(known[name], Effort(effort), int(threads))
        _keep(arguments.work, (name, effort, threads, number), row)
        return
    for job in _jobs(arguments.repeats):
        wanted = arguments.only is None or job[0] in arguments.only
        if wanted and not _path(arguments.work, job).exists():
            _run(job, arguments)
    write_table(known, arguments.work)


def cases(shared: Path, work: Path) -> dict[str, Case]:
    """Models by short name, with as many calibration images as are asked for."""
    resnet = random(work)["random50"]
    known = real(shared) | {
        "random50": replace(resnet, search=work / "answered.npz", report=work / "answered_test.npz")
    }
    return {name: replace(known[name], search_samples=count) for name, count in IMAGES.items()}


def _jobs(repeats: int) -> list[tuple[str, str, str, str]]:
    """Model, effort, threads, number."""
    quick = [name for name in IMAGES if name not in SLOW]
    ways = [("medium", 2), ("medium", 1), ("low", 2), ("high", 2)]
    found = [(name, *way, n) for way in ways for name in quick for n in range(repeats)]
    found += [(name, "medium", 2, 0) for name in SLOW]
    return [(name, effort, str(threads), str(n)) for name, effort, threads, n in found]


def _path(work: Path, job: tuple[str, str, str, str]) -> Path:
    name, effort, threads, number = job
    return work / f"{name}-{effort}-{threads}-{number}.json"


def _keep(work: Path, job: tuple[str, str, str, str], row: dict[str, Any]) -> None:
    _path(work, job).write_text(json.dumps(row, indent=1), encoding="utf-8")


def _run(job: tuple[str, str, str, str], arguments: argparse.Namespace) -> None:
    """One run in a process of its own; why it failed, if it did."""
    print(*job, flush=True)
    note_processor(arguments.work)
    if job[0].startswith("random"):
        write_random_models(arguments.work)
        case, its = random(arguments.work)[job[0]], cases(arguments.shared, arguments.work)[job[0]]
        write_answered(case, case.search, its.search)
        write_answered(case, case.report, its.report)
    paths = ["--shared", str(arguments.shared), "--work", str(arguments.work)]
    command = [sys.executable, __file__, *paths, "--job", *job]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=arguments.limit
        )
        error = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        error = [f"not done after {arguments.limit:g} s"]
    if error:
        _keep(arguments.work, job, {"error": error[0]})


def write_answered(case: Case, images: Path, answered: Path) -> None:
    """Images of a random model with labels drawn by the odds that it gives them.

    So it is right as often as it is sure, as a calibrated model is, and an answer that changes
    between two classes of like odds is as likely to be fixed as to be broken.

    Args:
        case: The model.
        images: Its images, whose labels are not read.
        answered: Where to; what is there stays.
    """
    if answered.exists():
        return
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    pixels, rng = np.load(images)["x"], np.random.default_rng(0)
    batches = np.array_split(pixels, len(pixels) // 16)
    logits = np.concatenate([session.run(None, {"input": normalized(b)})[0] for b in batches])
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # a draw from the softmax
    np.savez(answered, x=pixels, y=labels)


class Phases:
    """CPU seconds between two changes of the phase."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._phase, self._last = "reading", time.process_time()

    def __call__(self, event: Event) -> None:
        """Take note of the phase that begins, or goes on."""
        if event.phase in ("best", "warning"):
            return
        now = time.process_time()
        self.seconds[self._phase] += now - self._last
        self._phase, self._last = event.phase, now


def measured(case: Case, effort: Effort, threads: int) -> dict[str, Any]:
    """The whole command, from reading the model to the judged file."""
    samples = None if effort is Effort.LOW else case.search_samples
    settings = Settings(
        data=case.data,
        search=SearchSettings(effort=effort),
        search_samples=samples,
        threads=threads,
        force=True,  # a random model has few test images
        allow_loss=True,
    )
    phases, load = Phases(), os.getloadavg()[0]
    data, report = data_of(case.search, case.data), data_of(case.report, case.data)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        result = onnxsemi.compress(
            case.model, data, output=output, test_data=report, settings=settings, progress=phases
        )
    phases(Event("end"))
    cost, answers = result.cost, result.report.answers
    one = cost.pass_cpu_seconds / cost.images
    return {
        "images": cost.images,
        "passes": cost.passes,
        "image_forwards": cost.image_forwards,
        "pass_cpu_seconds": cost.pass_cpu_seconds,
        "cores": cost.cpu_seconds / cost.seconds / threads,
        "seconds": cost.seconds,
        "load": [load, os.getloadavg()[0]],
        "peak_bytes": peak(),
        "file_bytes": result.sizes.bytes_after,
        "file": result.sizes.file,
        "verdict": result.verdict.outcome.value,
        "change": [100 * answers.change, *(100 * end for end in answers.interval)],
        "trials": cost.trials,
        "phases": {name: seconds / one for name, seconds in phases.seconds.items()},
    }


if __name__ == "__main__":
    main()
