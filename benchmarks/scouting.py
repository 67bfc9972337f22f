"""What a quick look at a plan says of it, and what it takes, against measuring the plan.

    python benchmarks/scouting.py --shared ../shared [--only fashion resnet20]

Plans of one bitwidth for all channels and plans whose channels have bitwidths drawn by a seed, both
looked at and measured on the calibration images; test images play no part. Rows are kept in the
work folder; at the end the table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from cases import Case, data_of, real
from tables import note_processor, replace_table, versions

from onnxsemi import Settings
from onnxsemi._evaluation.checker import RoundingChecker
from onnxsemi._evaluation.scout import RoundedScout
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.rounding import codes_of
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._run.folder import nowhere
from onnxsemi._stats.pairing import pair

_Found = TypeVar("_Found")
HEADINGS = ("model", "plan", "KL", "KL of a look / measured", "changed", "seen", "look / measuring")
CENTRES = (5, 4, 3, 2)
"""Uniform bitwidths, and the middle of those that are drawn."""
TELLING = 4  # changed answers below which a plan says nothing of the power


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("scouting"), help="rows so far")
    parser.add_argument("--only", nargs="*", help="models to measure, such as fashion")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cases = real(arguments.shared)
    for name in arguments.only or cases:
        path = arguments.work / f"{name}.json"
        if not path.exists():
            note_processor(arguments.work)
            path.write_text(json.dumps(list(_rows(cases[name])), indent=1), encoding="utf-8")
    kept = {n: arguments.work / f"{n}.json" for n in cases}
    found = {cases[n].title: json.loads(p.read_text()) for n, p in kept.items() if p.exists()}
    replace_table("scouting", [versions(arguments.work) + ".", "", *_table(found)])


def _rows(case: Case) -> Iterator[dict[str, Any]]:
    settings = Settings(data=case.data, search_samples=case.search_samples)
    data, test = data_of(case.search, case.data), data_of(case.report, case.data)
    prepared = prepare(case.model, data, test, settings)
    codes = codes_of(prepared, nowhere(), Silent())
    assert codes.scout is not None
    checker = RoundingChecker(codes.folds, prepared.unseen)
    workload = prepared.workload(prepared.search)
    scout = RoundedScout(workload, codes.scout, prepared.guard.balance)
    before = checker.check(prepared.start().all_float()).judged
    for warm in (scout.look, checker.check):
        warm(prepared.start().with_layers(prepared.free(), 6))  # float values, sessions
    for name, plan in _plans(prepared):
        looked, look_seconds = _timed(lambda plan=plan: scout.look(plan))
        tested, seconds = _timed(lambda plan=plan: checker.check(plan))
        paired = pair(before, tested.judged)
        yield {
            "plan": name,
            "kl": tested.kl,
            "looked_kl": looked.kl if looked.whole else None,
            "changed": paired.broken + paired.fixed,
            "seen": looked.paired.broken + looked.paired.fixed,
            "cost": look_seconds / seconds,
        }


def _plans(prepared: Prepared) -> Iterator[tuple[str, BitPlan]]:
    start, free, generator = prepared.start(), prepared.free(), np.random.default_rng(0)
    for bits in CENTRES:
        yield f"uniform {bits}", start.with_layers(free, bits)
        plan = start
        for layer in free:
            drawn = generator.integers(max(1, bits - 1), bits + 2, len(start.bits[layer]))
            for value in np.unique(drawn).tolist():
                plan = plan.with_bits(layer, np.flatnonzero(drawn == value).tolist(), value)
        yield f"drawn around {bits}", plan


def _timed(work: Callable[[], _Found]) -> tuple[_Found, float]:
    """A result, and the CPU seconds that it took."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def _table(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield "| " + " | ".join(HEADINGS) + " |"
    yield "|" + "---|" * len(HEADINGS)
    for title, rows in found.items():
        for row in rows:
            ratio = f"{row['looked_kl'] / row['kl']:.2f}" if row["looked_kl"] else "broken off"
            cells = (title, row["plan"], f"{row['kl']:.2g}", ratio, row["changed"], row["seen"])
            yield "| " + " | ".join(map(str, cells)) + f" | {row['cost']:.2f} |"
    yield ""
    for title, rows in found.items():
        told = [(math.log(r["kl"]), math.log(r["changed"])) for r in rows if r["changed"] > TELLING]
        power = np.polyfit(*zip(*told, strict=True), 1)[0]
        yield f"- {title}: changed answers grow with the KL to the power of {power:.2f}."


if __name__ == "__main__":
    main()
