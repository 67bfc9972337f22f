"""The rows of ``architectures.py``, and their table in ``docs/architectures.md``."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from architecture_shares import TARGETS, of_the_rest
from tables import replace_table

Row = Mapping[str, Any]

ROWS = Path(__file__).with_name("architectures.jsonl")
PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
AIM = 0.99
"""Share of the values that are to be targets, embeddings and normalizations apart."""
EXPORTING = {
    "torchscript": ("torch",),
    "dynamo": ("torch", "onnxscript"),
    "tf2onnx": ("tensorflow-cpu", "tf2onnx"),
}
"""Exporter -> packages whose versions are told."""
_HEADINGS = (
    *("architecture", "exporter", "image", "parameters", "targets", "what else there is"),
    *("without a backward pass", "`compress`", "verified profiles", "CPU, s"),
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]\d+)?")


def keep_row(row: Row) -> None:
    """Add a row."""
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows() -> dict[tuple[str, str], Row]:
    """The rows by architecture and exporter."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return {(row["model"], row["exporter"]): row for row in map(json.loads, lines)}


def write_table(order: Sequence[tuple[str, str]]) -> None:
    """Write what there are rows for.

    Args:
        order: Architectures and exporters as they are to stand.
    """
    kept = read_rows()
    rows = [kept[key] for key in order if key in kept]
    made = dict.fromkeys(row["made"] for row in rows)
    lines = [f"{line}.  " for line in made]
    lines += ["", *_summary(rows, len(order)), ""]
    lines += [f"| {' | '.join(_HEADINGS)} |", "|---" * len(_HEADINGS) + "|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    lines += ["", "What does not work, and where:", "", *_failures(rows)]
    print("\n".join(lines))
    replace_table("architectures", lines, PAGE)


def _summary(rows: Sequence[Row], wanted: int) -> list[str]:
    there = [row for row in rows if row["read"] == "yes"]
    enough = sum(of_the_rest(row["shares"]) >= AIM for row in there)
    whole = sum(row.get("missing") == {} for row in there)
    done = sum(row["compress"] == "yes" for row in there)
    verified = sum(not _refused(row) for row in there)
    count = len(rows)
    return [
        f"{count} of {wanted} files are measured; {len(there)} of {count} are read. "
        f"{enough} have {AIM:.0%} targets or more (aim: all), {whole} a backward pass through all "
        f"of their layers (aim: all). `compress` gives a verified file of {done} (aim: all); "
        f"{verified} are verified in every profile (aim: all)."
    ]


def _cells(row: Row) -> list[str]:
    name = f"{row['model']} ({row['library']})"
    cells = [name, f"{row['exporter']}, opset {row['opset']}", f"{row['size']}x{row['size']}"]
    if row["read"] != "yes":
        return [*cells, "", "", "", "", "not read", "", f"{row['seconds']:.0f}"]
    found, refused = row["shares"], _refused(row)
    total = sum(found.values())
    others = sorted(((n, kind) for kind, n in found.items() if kind != TARGETS), reverse=True)
    told = ", ".join(f"{kind} {100 * n / total:.2f}%" for n, kind in others)
    missing = row.get("missing")
    without = "not measured" if missing is None else str(len(missing) or "none")
    return [
        *(*cells, f"{total / 1e6:.2f} M", f"{100 * of_the_rest(found):.2f}%", told, without),
        *(_compressed(row), f"all but {', '.join(refused)}" if refused else "all"),
        f"{row['seconds']:.0f}",
    ]


def _compressed(row: Row) -> str:
    if row["compress"] != "yes":
        return "**no**"
    nearest = ", nearest level" if row["rounding"] == "nearest" else ""
    return f"{100 * row['smaller']:.1f}% smaller{nearest}"


def _refused(row: Row) -> list[str]:
    return [name for name, said in row["profiles"].items() if said != "yes"]


def _failures(rows: Sequence[Row]) -> list[str]:
    """What is said, its numbers and names left out, with the files that it is said of."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        title = f"{row['model']} {row['exporter']}"
        said = {"reading": row["read"]}
        if row["read"] == "yes":
            said["`compress`"] = row["compress"]
            said |= {f"`{name}`": text for name, text in row["profiles"].items()}
            for reason in row.get("missing", {}).values():
                said[f"backward pass: {reason}"] = "no reverse rule covers it"
        for where, text in said.items():
            if text != "yes":
                kinds.setdefault(f"{where}: {_plain(text)}", []).append(title)
    lines = [f"- {kind} ({len(of)}: {', '.join(of)})" for kind, of in sorted(kinds.items())]
    return lines or ["- nothing"]


def _plain(text: str) -> str:
    return _NUMBER.sub("...", re.sub(r"\S*/\S+\.onnx:? ?", "", text)).replace("|", "/")
