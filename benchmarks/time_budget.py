"""Whether a time budget is kept, and what it gives: the bundled model within several budgets.

By the default search, and by the paper's (``semilayer``), whose trials may be cut short too.

    python benchmarks/time_budget.py

Wall time of the whole command over the budget, whether the time ended, and the file. What else the
machine does counts here: budgets are of wall time. At the end the table in ``benchmarks/README.md``
is written anew.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from cases import FASHION
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi import RunOptions, SearchSettings, Settings
from onnxsemi._errors import BudgetError

ROWS = (
    ("frontier", 5),
    ("frontier", 20),
    ("frontier", 40),
    ("frontier", 80),
    ("semilayer", 40),
    ("semilayer", 80),
)
"""Method, and budget in seconds."""


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("time_budget"), help="results so far")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for method, budget in ROWS:
        target = arguments.work / f"{method}-{budget}.json"
        if not target.exists():
            note_processor(arguments.work)
            row = _within(method, budget, arguments.threads)
            target.write_text(json.dumps(row, indent=1), encoding="utf-8")
            print(row, flush=True)
    _write_table(arguments.work)


def _within(method: str, budget: int, threads: int) -> dict[str, object]:
    """One command within a budget of seconds."""
    settings = Settings(
        search=SearchSettings(method=method),
        search_samples=FASHION.search_samples,
        threads=threads,
        run=RunOptions(time_budget=budget),
    )
    began = time.perf_counter()
    row: dict[str, object] = {"method": method, "budget": budget, "load": os.getloadavg()[0]}
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
        "| method | budget, s | load | wall, s | over budget | ended by | trials | file smaller by "
        "| verdict |",
        "|" + "---|" * 9,
    ]
    for method, budget in ROWS:
        row = json.loads((work / f"{method}-{budget}.json").read_text(encoding="utf-8"))
        found = [row.get("error", "")] + [""] * 3
        if "stop" in row:
            found = [row["stop"], str(row["trials"]), f"{row['file']:.2%}", row["verdict"]]
        over = f"{row['seconds'] / budget:.2f}"
        cells = [method, str(budget), f"{row['load']:.1f}", f"{row['seconds']:.1f}", over, *found]
        lines.append(f"| {' | '.join(cells)} |")
    replace_table("time_budget", lines)


if __name__ == "__main__":
    main()
