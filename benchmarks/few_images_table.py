"""The rows of ``few_images.py``, and their tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fisher_estimators import ESTIMATORS
from tables import replace_table, versions

Row = Mapping[str, Any]
Rows = Mapping[str, Row]

ROWS = Path(__file__).with_name("few_images.jsonl")


def keep_row(model: str, part: str, found: Row) -> None:
    """Add what was measured of a part of a model."""
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"model": model, "part": part, "made": versions(), **found}) + "\n")


def read_rows(model: str) -> Rows:
    """Part -> what was measured of it."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return {row["part"]: row for row in map(json.loads, lines) if row["model"] == model}


def write_all(models: Mapping[str, Rows]) -> None:
    """Write what there are rows for.

    Args:
        models: How tables name a model -> what was measured of it, by part.
    """
    made = dict.fromkeys(row["made"] for rows in models.values() for row in rows.values())
    parts = ["\n".join(f"{line}." for line in made), _errors(models)]
    for title, rows in models.items():
        if "plans" in rows:
            parts.append(_plans(title, rows["plans"]))
    parts.append(_rounding(models))
    lines = ["\n\n".join(parts)]
    print("\n".join(lines))
    replace_table("few_images", lines)


def _errors(models: Mapping[str, Rows]) -> str:
    kinds = (*ESTIMATORS, "sample")
    lines = [
        "Relative error of a channel's KL, median (nine in ten are below):",
        "",
        f"| | images | bits | {' | '.join(ESTIMATORS)} | the sample of images |",
        "|---" * (3 + len(kinds)) + "|",
    ]
    for title, rows in models.items():
        if (row := rows.get("estimators")) is not None:
            cells = [f"{row[kind][0]:.2g} ({row[kind][1]:.2g})" for kind in kinds]
            lines.append(f"| {title} | {row['images']} | {row['bits']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plans(title: str, row: Mapping[str, Any]) -> str:
    headings = [f"{bits} bits: KL (predicted)" for bits in row["bits"]]
    lines = [
        f"{title}, plans of equal size, on other images:",
        "",
        f"| KL increase | {' | '.join(headings)} |",
        "|---" * (1 + len(headings)) + "|",
    ]
    for name, found in row["rows"].items():
        cells = [f"{one['kl']:.3g} ({one['predicted']:.3g})" for one in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rounding(models: Mapping[str, Rows]) -> str:
    lines = [
        "One bitwidth for all, rounded with GPTQ's damping or as much as images ask for; KL on the "
        "images rounded on / on others:",
        "",
        "| | images | damping | 4 bits | 3 bits | 2 bits |",
        "|---|---|---|---|---|---|",
    ]
    for title, rows in models.items():
        for part in (part for part in rows if part.startswith("rounding ")):
            for damping, found in rows[part]["rows"].items():
                cells = [f"{one['own']:.3g} / {one['others']:.3g}" for one in found]
                count = part.split()[1]
                lines.append(f"| {title} | {count} | {damping} | {' | '.join(cells)} |")
    return "\n".join(lines)
