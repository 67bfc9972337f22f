"""Every file operation of a command meets every fault; then it is taken up again.

    python tests/faults/sweep.py [--sample N] [--seed TEXT] [--seconds S]

A command runs once, and before every operation a process branches off for each fault
(``branch.py``). After a fault: the command was killed, or gave one line and exit code 1, or passed
over it. Each output is whole, the old one or the new one; if the command was not killed, all are
old or all are new. Then the same command, with --resume where there is a run, ends in the same
bytes, and leaves no scratch file. What it ends in follows from what there is: many faults leave the
same files, which are taken up once.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from branch import APART, Branches, branch_of
from inject import KINDS, Faults
from job import OLD, Call, again, begin, call, import_ahead

CASES = ("compress", "resume", "apply", "report")
WRITTEN = {
    "compress": ("small.onnx", "small.plan.json"),
    "resume": ("small.onnx", "small.plan.json"),
    "apply": ("again.onnx", "again.plan.json"),
    "report": ("page.html",),
}
TakenUp = dict[tuple[str, str], str | None]
"""Command and digest of a folder -> what was wrong when the command took the folder up."""


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
    ahead = again(nothing, room / "ahead")
    call(ahead, "compress", Faults(ahead))
    import_ahead(ahead)
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


def wrong(case: Case, room: Path, known: TakenUp) -> str | None:
    """What is wrong after a fault; None if nothing is."""
    folder = again(case.start.folder, room / "case")
    try:
        met = call(folder, case.start.command, Faults(folder, case.kind, case.at))
        return _judged(case, folder, met, known)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(case: Case, folder: Path, met: Call, known: TakenUp) -> str | None:
    said = _after(case, folder, met)
    command = "resume" if case.start.command == "compress" else case.start.command
    there = command, _state(folder)
    if said is None and there not in known:
        known[there] = _taken_up(case.start, folder, command)
    return said or known[there]


def _state(folder: Path) -> str:
    """Digest of all files in a folder: names, but for what is drawn of them, modes and bytes.

    What a scratch file holds does not count: nobody reads those of others.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() and path.suffix != ".part" else b""
        name = re.sub(r"\.[0-9a-f]{16}\.part$", ".part", str(path.relative_to(folder)))
        digest.update(repr((name, path.lstat().st_mode, data)).encode())
    return digest.hexdigest()


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


def _taken_up(start: Start, folder: Path, command: str) -> str | None:
    last = call(folder, command)
    if last.code:
        return f"taken up again: exit code {last.code}: {last.said[-600:]}"
    for name, data in start.gives.items():
        if (folder / name).read_bytes() != data:
            return f"taken up again, {name} has other bytes"
    left = [path.name for path in folder.rglob("*.part")]
    return f"{left} was left" if left else None


def sweep(
    chosen: list[Case], room: Path, seconds: float = float("inf")
) -> Iterator[tuple[Case, str | None]]:
    """Try cases, those of a command in the order of its operations, as long as there is time."""
    end, known = time.monotonic() + seconds, TakenUp()
    for command in CASES:
        of_it = {(case.at, case.kind): case for case in chosen if case.start.command == command}
        if not of_it:
            continue
        for (at, kind), ended, folder in _branches(room / command, of_it):
            case = of_it[at, kind]
            if ended == APART:
                yield case, wrong(case, room, known)
            else:
                met = Call(int(ended), Path(f"{folder}.said").read_text())
                yield case, _judged(case, folder, met, known)
                shutil.rmtree(folder)
            if time.monotonic() > end:
                return


def _branches(
    folder: Path, cases: dict[tuple[int, str], Case]
) -> Iterator[tuple[tuple[int, str], str, Path]]:
    """Run a command once, off which a process branches before every fault, and tell of each.

    Yields:
        Number of the operation and kind of fault, exit code or ``APART``, folder.
    """
    start = next(iter(cases.values())).start
    again(start.folder, folder)
    told, tells = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        os.close(told)
        os._exit(call(folder, start.command, Branches(folder, cases, tells)).code)
    os.close(tells)
    try:
        with os.fdopen(told) as lines:
            for line in lines:
                at, kind, ended = line.rstrip("\n").split("\t")
                yield (int(at), kind), ended, branch_of(folder, int(at), kind)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise RuntimeError(Path(f"{folder}.said").read_text())
    except GeneratorExit:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


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
