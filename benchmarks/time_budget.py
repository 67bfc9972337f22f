"""Whether a time budget is kept, and what it gives: the bundled model within several budgets.

    python benchmarks/time_budget.py

Wall time of the whole command over the budget, whether the time ended, and the file. What else the
machine does counts here: budgets are of wall time. At the end the table in ``benchmarks/README.md``
is written anew.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from cases import FASHION
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi import RunOptions, Settings
from onnxsemi._errors import BudgetError

BUDGETS = (5, 20, 40, 80)


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("time_budget"), help="results so far")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for budget in BUDGETS:
        target = arguments.work / f"{budget}.json"
        if not target.exists():
            note_processor(arguments.work)
            row = _within(budget, arguments.threads)
            target.write_text(json.dumps(row, indent=1), encoding="utf-8")
            print(row, flush=True)
    _write_table(arguments.work)


def _within(budget: int, threads: int) -> dict[str, object]:
    """One command within a budget of seconds."""
    run = RunOptions(time_budget=budget)
    settings = Settings(search_samples=FASHION.search_samples, threads=threads, run=run)
    began = time.perf_counter()
    row: dict[str, object] = {"budget": budget}
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = onnxsemi.compress(
                FASHION.model,
                FASHION.search,
                output=Path(folder) / "small.onnx",
                test_data=FASHION.report,
                settings=settings,
            )
            row |= {
                "stop": result.trajectory.stop,
                "trials": len(result.trajectory.trials),
                "file": result.sizes.file,
                "verdict": result.verdict.outcome.value,
            }
        except BudgetError as error:
            row["error"] = str(error)
    return row | {"seconds": time.perf_counter() - began}


def _write_table(work: Path) -> None:
    lines = [
        f"{versions(work)}. {FASHION.title}, {FASHION.search_samples:,} calibration images.",
        "",
        "| budget, s | wall, s | over budget | ended by | trials | file smaller by | verdict |",
        "|" + "---|" * 7,
    ]
    for budget in BUDGETS:
        row = json.loads((work / f"{budget}.json").read_text(encoding="utf-8"))
        found = [row.get("error", "")] + [""] * 3
        if "stop" in row:
            found = [row["stop"], str(row["trials"]), f"{row['file']:.2%}", row["verdict"]]
        over = f"{row['seconds'] / budget:.2f}"
        lines.append(f"| {budget} | {row['seconds']:.1f} | {over} | {' | '.join(found)} |")
    replace_table("time_budget", lines)


if __name__ == "__main__":
    main()
