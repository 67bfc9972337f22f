"""The rows of ``peers.py`` and their tables."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tables import replace_table, versions

Row = Mapping[str, Any]
ROWS = Path(__file__).with_name("peers.jsonl")
HEADINGS = (
    *("tool", "version", "file, bytes", "smaller by", "top-1: change, 95 % interval"),
    *("broken / fixed", "same answers", "image-forwards", "peak, MB", "latency"),
)
NAMES = {
    "ours": "onnxsemi `compress`",
    "ours-int8": "onnxsemi `--profile int8`",
    "ort-static": "ONNX Runtime, static int8",
    "ort-dynamic": "ONNX Runtime, dynamic int8",
    "nncf-ptq": "NNCF, PTQ int8",
    "nncf-weights": "NNCF, weight compression int8",
    "nncf-accuracy": "NNCF, accuracy control int8",
    "aimet-int8": "AIMET, int8",
    "aimet-seqmse": "AIMET, int4 weights, SeqMSE",
    "aimet-mixed": "AIMET, 4 or 8 bits, mixed precision",
    "aimet-adaround": "AIMET, int4 weights, AdaRound (2,000 steps)",
    "quark-int8": "AMD Quark, XINT8",
    "quark-adaround": "AMD Quark, XINT8 AdaRound",
    "modelopt-int8": "NVIDIA ModelOpt, int8, DQ only",
    "onnxsim-static": "onnxsim, static int8",
    "onnxsim-weights": "onnxsim, int8 weights",
    "onnxsim-int4": "onnxsim, int4 weights in blocks, else int8",
}


def write_tables(titles: Mapping[str, str], methods: Iterable[str]) -> None:
    """Write what there are rows for.

    Args:
        titles: Model -> how tables name it.
        methods: In the order of the table.
    """
    order = tuple(methods)
    every = {name: read_rows(name) for name in titles}
    lines = [f"{made}; seed 0." for made in _made(every.values())]
    for name, rows in every.items():
        shown = [_cells(NAMES[method], rows[method]) for method in order if method in rows]
        if shown:
            cells = [HEADINGS, ("---",) * len(HEADINGS), *shown]
            lines += ["", f"### {titles[name]}", ""]
            lines += [f"| {' | '.join(row)} |" for row in cells]
    print("\n".join(lines))
    replace_table("peers", lines)


def keep_row(model: str, method: str, row: Row) -> None:
    """Add a row."""
    made = versions(packages=("onnxruntime", "numpy"))
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"model": model, "method": method, "made": made, **row}) + "\n")


def read_rows(model: str) -> dict[str, Row]:
    """The rows of a model by method."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return {row["method"]: row for row in map(json.loads, lines) if row["model"] == model}


def _made(every: Iterable[Mapping[str, Row]]) -> list[str]:
    return list(dict.fromkeys(row["made"] for rows in every for row in rows.values()))


def _cells(name: str, row: Row) -> tuple[str, ...]:
    if "failed" in row:
        return (name, "", f"fails: {row['failed'].replace('|', '/')}", *[""] * 7)
    low, high = row["interval"]
    return (
        name,
        row["version"],
        f"{row['bytes']:,}",
        f"{1 - row['bytes'] / row['bytes_before']:.2%}",
        f"{row['change']:+.2f} [{low:+.2f}, {high:+.2f}]",
        f"{row['broken']} / {row['fixed']}",
        f"{row['same']:,} of {row['images']:,}",
        f"{row['image_forwards']:,.0f}",
        f"{row['peak_bytes'] / 1e6:,.0f}",
        f"{row['latency']:.2f}",
    )
