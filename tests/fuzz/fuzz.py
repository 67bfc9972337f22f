"""Hostile files of every kind, read as commands read them, for some time or in some number.

    python tests/fuzz/fuzz.py [--seconds 60] [--each N] [--seed TEXT] [--save FOLDER]

Right is a result, or one line of an error, within ten seconds; and of files that say what was
written the same result, or an error. Whatever else comes is printed with what made it, and saved
for the corpus. Each kind runs in a process of its own, so that a crash of a library is seen, too.
"""

import argparse
import faulthandler
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from random import Random

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from kinds import KINDS, Kind, make

import onnxsemi
from onnxsemi._visible import LONGEST_LINE, visible

SLOW = 10.0


def verdict(kind: Kind, path: Path, expected: str | None) -> str | None:
    """What is wrong with how a file is read; None if nothing is."""
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.read(path)
    except onnxsemi.OnnxSemiError as error:
        said = str(error)
        if "\n" in said or len(said) > LONGEST_LINE or visible(said) != said:
            return f"no line: {said!r}"
        found = expected
    except Exception:
        return f"traceback: {traceback.format_exc(limit=-6)}"
    if time.monotonic() - began > SLOW:
        return f"hang: {time.monotonic() - began:.0f} seconds"
    if kind.sealed and found != expected:
        return "silent: other numbers are read"
    return None


def changed(kind: Kind, folder: Path, random: Random) -> tuple[Path, Path]:
    """A whole file of a kind, and where a changed one lies beside those of the other kinds."""
    seed = folder / random.choice(kind.seeds)
    path = place_of(seed, folder)
    path.write_bytes(random.choice(kind.mutations)(seed.read_bytes(), random))
    return seed, path


def place_of(seed: Path, folder: Path) -> Path:
    """Where a changed file lies: files of a run are known by their names."""
    return folder / (seed.name if seed.parent.suffix == ".run" else f"changed{seed.suffix}")


def expected_of(kind: Kind, folder: Path) -> dict[Path, str | None]:
    """What whole files of a sealed kind give."""
    if not kind.sealed:
        return {}
    found = {}
    for name in kind.seeds:
        path = place_of(folder / name, folder)
        path.write_bytes((folder / name).read_bytes())
        found[folder / name] = kind.read(path)
    return found


def fuzz(name: str, folder: Path, seed: str, most: int, end: float) -> None:
    """Try files of a kind; what is found goes to a file beside the folder."""
    faulthandler.enable()
    kind = KINDS[name]
    log = (folder.parent / f"{folder.name}.log").open("a", buffering=1)
    expected = expected_of(kind, folder)
    for number in range(most):
        if time.time() > end:
            break
        whole, path = changed(kind, folder, Random(f"{seed} {name} {number}"))
        log.write(json.dumps(["try", number, str(path)]) + "\n")
        said = verdict(kind, path, expected.get(whole))
        if said is not None:
            log.write(json.dumps(["wrong", number, str(path), said]) + "\n")
            os.replace(path, folder / f"wrong{number}{path.suffix}")


def main() -> int:
    """Fuzz every kind, and say what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--each", type=int, default=10**9, help="files of each kind, at the most")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--save", type=Path, help="where to put files that went wrong")
    parser.add_argument("--counts", type=Path, help="write how many were tried, as JSON")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        make(whole)
        for kind in given.kinds:
            _one(kind, whole, given, (tried, wrong))
    print(f"{sum(tried.values()):,} files, {sum(wrong.values())} went wrong")
    if given.counts is not None:
        counts = {"tried": dict(tried), "wrong": dict(wrong)}
        given.counts.write_text(json.dumps(counts, indent=1) + "\n")
    return 1 if wrong else 0


def _one(
    kind: str, whole: Path, given: argparse.Namespace, counts: tuple[Counter[str], Counter[str]]
) -> None:
    tried, wrong = counts
    folder = Path(shutil.copytree(whole, whole.parent / kind.replace(" ", "_")))
    end = time.time() + given.seconds / len(given.kinds)
    process = get_context("fork").Process(
        target=fuzz, args=(kind, folder, given.seed, given.each, end)
    )
    process.start()
    process.join()
    entries = [json.loads(line) for line in (folder.parent / f"{folder.name}.log").open()]
    tried[kind] = sum(what == "try" for what, *_ in entries)
    if process.exitcode and entries:
        entries.append(["wrong", *entries[-1][1:3], f"crash: exit code {process.exitcode}"])
    for what, number, path, *said in entries:
        if what == "wrong":
            what_kind = said[0].partition(":")[0]
            wrong[f"{kind}, {what_kind}"] += 1
            print(f"{kind}, file {number} ({Path(path).name}): {said[0]}", flush=True)
            if given.save is not None:
                given.save.mkdir(exist_ok=True, parents=True)
                found = folder / f"wrong{number}{Path(path).suffix}"
                saved = given.save / f"{kind.replace(' ', '_')}-{number}{Path(path).suffix}"
                shutil.copy(found if found.exists() else path, saved)


if __name__ == "__main__":
    sys.exit(main())
