"""The table of ``search_cost.py``, from the JSON files that its runs left."""

import json
import statistics
from pathlib import Path
from typing import Any

from cases import Case
from tables import replace_table, versions

WAYS = (("medium", 2), ("medium", 1), ("low", 2), ("high", 2))


def write_table(known: dict[str, Case], work: Path) -> None:
    """Put the tables between the markers of the benchmarks' README."""
    head = f"{versions(work, ('onnxruntime', 'numpy'))}. Medians, with the least and the most."
    parts = [head, _costs(known, work), _phases(known, work)]
    replace_table("search_cost", ["\n\n".join(parts)])


def _read(work: Path, name: str, effort: str, threads: int) -> list[dict[str, Any]]:
    files = sorted(work.glob(f"{name}-{effort}-{threads}-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _spread(values: list[float], digits: int = 0) -> str:
    """Median, with the least and the most of several."""
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return middle if least == most else f"{middle} [{least}, {most}]"


def _costs(known: dict[str, Case], work: Path) -> str:
    titles = (
        *("model", "effort", "threads", "calibration images", "passes", "thousand image-forwards"),
        *("cores used", "load", "peak memory, GB", "trials", "file, bytes", "file smaller by"),
        *("verdict on the test images", "change, points"),
    )
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for effort, threads in WAYS:
        for name, case in known.items():
            rows = _read(work, name, effort, threads)
            good = [row for row in rows if "error" not in row]
            if rows:
                cells = _cells(good) if good else [rows[0]["error"], *[""] * 10]
                lines.append(f"| {' | '.join([case.title, effort, str(threads), *cells])} |")
    return "\n".join(lines)


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    first = rows[0]
    change, low, high = first["change"]
    loads = [load for row in rows for load in row["load"]]
    return [
        f"{first['images']:,}",
        _spread([row["passes"] for row in rows]),
        _spread([row["image_forwards"] / 1000 for row in rows]),
        f"{statistics.median(row['cores'] for row in rows):.0%}",
        f"{min(loads):.1f} to {max(loads):.1f}",
        f"{max(row['peak_bytes'] for row in rows) / 1e9:.2f}",
        str(first["trials"]),
        f"{first['file_bytes']:,}",
        f"{first['file']:.2%}",
        first["verdict"],
        f"{change:+.2f} [{low:+.2f}, {high:+.2f}]",
    ]


def _phases(known: dict[str, Case], work: Path) -> str:
    """Thousands of image-forwards by phase, of the defaults on two threads."""
    found = {name: _read(work, name, "medium", 2) for name in known}
    good = {n: [row["phases"] for row in rows if "error" not in row] for n, rows in found.items()}
    good = {name: rows for name, rows in good.items() if rows}
    phases = list(dict.fromkeys(phase for rows in good.values() for phase in rows[0]))
    lines = [
        f"| phase | {' | '.join(known[name].title for name in good)} |",
        "|" + "---|" * (1 + len(good)),
    ]
    for phase in phases:
        cells = [
            f"{statistics.median(row.get(phase, 0.0) for row in rows) / 1000:.1f}"
            for rows in good.values()
        ]
        lines.append(f"| {phase} | {' | '.join(cells)} |")
    return "\n".join(lines)
