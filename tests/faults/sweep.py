"""Every file operation of a command meets every fault; then it is taken up again.

    python tests/faults/sweep.py [--sample N] [--seed TEXT] [--seconds S]

After a fault: the command was killed, or gave one line and exit code 1, or passed over it. Each
output is whole, the old one or the new one; if the command was not killed, all are old or all are
new. Then the same command, with --resume where there is a run, ends in the same bytes, and leaves
no scratch file.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from inject import KINDS, Faults
from job import OLD, Call, again, begin, call

CASES = ("compress", "resume", "apply", "report")
WRITTEN = {
    "compress": ("small.onnx", "small.plan.json"),
    "resume": ("small.onnx", "small.plan.json"),
    "apply": ("again.onnx", "again.plan.json"),
    "report": ("page.html",),
}


@dataclass(frozen=True)
class Start:
    """Where a command begins, and what it gives.

    Attributes:
        command: Name of the command.
        folder: What there is before it.
        seen: Its operations.
        gives: Name of an output -> its bytes.
    """

    command: str
    folder: Path
    seen: tuple[tuple[str, str], ...]
    gives: dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        start: Where the command begins.
        kind: Kind of the fault.
        at: Number of the operation that it meets.
    """

    start: Start
    kind: str
    at: int

    def __str__(self) -> str:
        """Which it is."""
        what, name = self.start.seen[self.at]
        return f"{self.start.command}, {self.kind} at operation {self.at} ({what} {name})"


def starts(room: Path) -> list[Start]:
    """Where each command begins: with nothing, half a run, and a whole one."""
    nothing = begin(room / "nothing")
    whole = again(nothing, room / "whole")
    first = call(whole, "compress", Faults(whole))
    if first.code:
        raise RuntimeError(first.said)
    half = again(nothing, room / "half")
    journal = [at for at, each in enumerate(first.seen) if each == ("write", "journal.jsonl")]
    call(half, "compress", Faults(half, "kill", journal[len(journal) // 2]))
    befores = {"compress": nothing, "resume": half, "apply": whole, "report": whole}
    for name in ("again.onnx", "again.plan.json", "page.html"):
        (whole / name).write_bytes(OLD)
    return [_start(room, command, befores[command]) for command in CASES]


def _start(room: Path, command: str, before: Path) -> Start:
    folder = again(before, room / "first")
    done = call(folder, command, Faults(folder))
    if done.code:
        raise RuntimeError(f"{command}: {done.said}")
    gives = {name: (folder / name).read_bytes() for name in WRITTEN[command]}
    shutil.rmtree(folder)
    return Start(command, before, done.seen, gives)


def cases(found: list[Start]) -> list[Case]:
    """Every fault at every operation that it may meet."""
    return [
        Case(start, kind, at)
        for start in found
        for at, (what, _) in enumerate(start.seen)
        for kind, meets in KINDS.items()
        if meets(what)
    ]


def wrong(case: Case, room: Path) -> str | None:
    """What is wrong after a fault; None if nothing is."""
    folder = again(case.start.folder, room / "case")
    try:
        met = call(folder, case.start.command, Faults(folder, case.kind, case.at))
        return _after(case, folder, met) or _taken_up(case, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _after(case: Case, folder: Path, met: Call) -> str | None:
    errors = [line for line in met.said.splitlines() if not line.startswith("warning: ")]
    killed = met.code == -9
    if "Traceback" in met.said or met.code not in (0, 1, -9):
        return f"exit code {met.code}: {met.said[-600:]}"
    if met.code == 1 and (len(errors) != 1 or not errors[0].startswith("error: ")):
        return f"said {errors}"
    found = {name: (folder / name).read_bytes() for name in case.start.gives}
    new = {name for name, data in found.items() if data == case.start.gives[name]}
    old = {name for name, data in found.items() if data == OLD}
    if new | old != found.keys():
        return f"{sorted(found.keys() - new - old)} is neither the old nor the new one"
    if not killed and new and old:
        return f"{sorted(new)} is new, {sorted(old)} is old, and it was not killed"
    if met.code == 0 and old:
        return "exit code 0, and the output is not there"
    return None


def _taken_up(case: Case, folder: Path) -> str | None:
    command = "resume" if case.start.command == "compress" else case.start.command
    last = call(folder, command)
    if last.code:
        return f"taken up again: exit code {last.code}: {last.said[-600:]}"
    for name, data in case.start.gives.items():
        if (folder / name).read_bytes() != data:
            return f"taken up again, {name} has other bytes"
    left = [path.name for path in folder.rglob("*.part")]
    return f"{left} was left" if left else None


def sweep(
    chosen: list[Case], room: Path, seconds: float = float("inf")
) -> Iterator[tuple[Case, str | None]]:
    """Try cases in turn, as long as there is time."""
    end = time.monotonic() + seconds
    for case in chosen:
        if time.monotonic() > end:
            return
        yield case, wrong(case, room)


def main() -> int:
    """Try all, or a sample, and say what went wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, help="so many of them")
    parser.add_argument("--seed", default="0", help="of the sample")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--counts", type=Path, help="write how many were tried, as JSON")
    given = parser.parse_args()
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        every = cases(starts(Path(name)))
        chosen = random.Random(given.seed).sample(
            every, min(given.sample or len(every), len(every))
        )
        failed = 0
        for case, said in sweep(chosen, Path(name), given.seconds):
            tried[f"{case.start.command}, {case.kind}"] += 1
            if said is not None:
                failed += 1
                print(f"{case}: {said}", flush=True)
    print(f"{sum(tried.values())} of {len(every)} faults, {failed} went wrong")
    if given.counts is not None:
        counts = {"every": len(every), "failed": failed, "tried": dict(sorted(tried.items()))}
        given.counts.write_text(json.dumps(counts, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
