"""What hostile files, flipped bits, failing disks and kills do: nothing but a line.

    python benchmarks/hostile.py --work hostile [--files 3500] [--flips 3000] [--seconds S]

Four parts, each kept in the work folder as soon as it is done: changed files of every kind
(``tests/fuzz/fuzz.py``), single-bit flips of every file of a run, faults at every file operation
(``tests/faults/sweep.py``), and kills by the clock of runs on the bundled model. At the end the
table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import FASHION
from tables import note_processor, replace_table, versions

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS)]
from kinds import KINDS, make  # noqa: E402  a module of the tests

import onnxsemi  # noqa: E402

Counts = dict[str, int]


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("hostile"), help="results so far")
    parser.add_argument("--files", type=int, default=3500, help="of each kind")
    parser.add_argument("--flips", type=int, default=3000, help="of each file of a run")
    parser.add_argument("--kills", type=int, default=20, help="by the clock")
    parser.add_argument("--seconds", type=float, default=1e9, help="for the faults, at the most")
    parser.add_argument("--only", nargs="*", choices=["files", "flips", "faults", "kills", ""])
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[Path], None]] = {
        "files": lambda to: _command("fuzz/fuzz.py", to, "--each", given.files, "--seconds", 1e9),
        "flips": lambda to: _keep(to, flips(given.flips)),
        "faults": lambda to: _command("faults/sweep.py", to, "--seconds", given.seconds),
        "kills": lambda to: _keep(to, kills(given.kills)),
    }
    for name, measure in parts.items():
        target = given.work / f"{name}.json"
        if not target.exists() and (given.only is None or name in given.only):
            note_processor(given.work)
            measure(target)
    write_table(given.work)


def _command(script: str, target: Path, *more: object) -> None:
    words = [sys.executable, str(TESTS / script), "--counts", str(target), *map(str, more)]
    subprocess.run(words, check=False)


def _keep(target: Path, counts: Counts) -> None:
    target.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def flips(count: int) -> Counts:
    """Flip single bits of every file of a run, each by itself, and read the run."""
    kind, found = KINDS["runs"], Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for seed in kind.seeds:
            data, path = (folder / seed).read_bytes(), folder / Path(seed).name
            path.write_bytes(data)
            expected = kind.read(path)
            places = np.random.default_rng(0).integers(8 * len(data), size=count)
            for place in places.tolist():
                changed = bytearray(data)
                changed[place // 8] ^= 1 << place % 8
                path.write_bytes(changed)
                try:
                    same = kind.read(path) == expected
                except onnxsemi.OnnxSemiError:
                    same = None
                found[{None: "refused", True: "same", False: "silent"}[same]] += 1
            found["files"] += 1
    return dict(found)


def kills(count: int) -> Counts:
    """Kill runs on the bundled model after some time, take them up, and compare the bytes."""
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        began = time.monotonic()
        _compress(whole).wait()
        length = time.monotonic() - began
        outputs = {file.name: file.read_bytes() for file in whole.glob("small.*") if file.is_file()}
        for number in range(count):
            folder = Path(name) / "killed"
            folder.mkdir()
            with _compress(folder) as process:
                time.sleep(length * np.random.default_rng(number).random())
                process.send_signal(signal.SIGKILL)
            there = {file.name for file in folder.glob("small.*") if file.is_file()}
            found["half-written"] += any((folder / n).read_bytes() != outputs[n] for n in there)
            again = _compress(folder, "--resume").wait()
            same = all((folder / n).read_bytes() == data for n, data in outputs.items())
            found["same bytes" if again == 0 and same else "other bytes"] += 1
            shutil.rmtree(folder)
    return dict(found)


def _compress(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    images = ("-d", FASHION.search, "--test-data", FASHION.report, "--search-samples", "200")
    given = ("--force", "--allow-loss", "--quiet", "--bits", "8,4", "--threads", "1")
    words = ("compress", FASHION.model, *images, "-o", folder / "small.onnx", *given, *more)
    command = [sys.executable, "-m", "onnxsemi", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def write_table(work: Path) -> None:
    """Write what was measured so far."""
    rows = ["| what | tried | went wrong |", "|---|---|---|"]
    for name, row in (("files", _files), ("flips", _flips), ("faults", _faults), ("kills", _kills)):
        path = work / f"{name}.json"
        if path.exists():
            rows += row(json.loads(path.read_text(encoding="utf-8")))
    if len(rows) > 2:
        replace_table("hostile", [versions(work, ("onnx", "onnxruntime", "numpy")), "", *rows])


def _files(found: dict[str, Counts]) -> list[str]:
    tried, wrong = found["tried"], found["wrong"]
    lines = [f"changed files: {kind}" for kind in tried]
    bad = [{k.rpartition(", ")[2]: n for k, n in wrong.items() if k.startswith(f"{kind}, ")}
           for kind in tried]  # fmt: skip
    return [
        f"| {line} | {number:,} | {_said(each)} |"
        for line, number, each in zip(lines, tried.values(), bad, strict=True)
    ]


def _flips(found: Counts) -> list[str]:
    tried = found.get("refused", 0) + found.get("same", 0) + found.get("silent", 0)
    what = f"single-bit flips of the {found['files']} files of a run"
    return [f"| {what} | {tried:,}, {found.get('same', 0):,} of them change nothing | "
            f"{_said({'silent': found.get('silent', 0)})} |"]  # fmt: skip


def _faults(found: dict[str, object]) -> list[str]:
    tried, kinds = found["tried"], Counter[str]()
    assert isinstance(tried, dict)
    for name, number in tried.items():
        kinds[name.rpartition(", ")[2]] += number
    listed = ", ".join(f"{kind} {number:,}" for kind, number in kinds.items())
    total = f"{sum(kinds.values()):,} of {found['every']:,} ({listed})"
    return [f"| faults at file operations | {total} | {found['failed'] or 'none'} |"]


def _kills(found: Counts) -> list[str]:
    tried = found.get("same bytes", 0) + found.get("other bytes", 0)
    wrong = {name: found.get(name, 0) for name in ("half-written", "other bytes")}
    return [f"| kills by the clock, bundled model | {tried:,} | {_said(wrong)} |"]


def _said(wrong: Counts) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in wrong.items() if number) or "none"


if __name__ == "__main__":
    main()
