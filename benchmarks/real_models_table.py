"""The rows of ``real_models.py``, their tables and their figure.

*Frontier against uniform*: the KL of the frontier's plan over that of one bitwidth for all, both
rounded alike. The sizes differ a little: at equal *bits* the frontier's KL is read off at exactly
the bits a weight of the other, at equal *bytes* the other's at exactly the bytes of the frontier's
file; along straight lines in log KL from row to row. The widest plan of both is *uniform 8*.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from tables import replace_table, versions

Row = Mapping[str, Any]
Rows = Mapping[str, Row]

NARROW = (6, 5, 4, 3)
"""Bitwidths at which the frontier differs from one bitwidth for all: 8 is the widest."""

ROWS = Path(__file__).with_name("real_models.jsonl")
FIGURE = Path(__file__).with_name("real_models.png")
DRAWN = "efficientnet"
"""The model of the figure."""
CURVES = {
    "nearest": ("one bitwidth, to the nearest level", "#9a6324", "s"),
    "uniform": ("one bitwidth, our rounding", "#4363d8", "o"),
    "layers": ("bitwidths by layer, our rounding", "#3cb44b", "v"),
    "frontier": ("bitwidths by channel (frontier)", "#c0392b", "^"),
}
POINTS = {
    "static int8": ("ONNX Runtime, static int8", "#777777", "D"),
    "compress": ("what compress chooses", "#000000", "*"),
}
HEADINGS = (
    *("", "file, kB", "smaller by", "bits a weight", "top-1: change, 95 % interval"),
    *("broken / fixed", "same answers", "KL, nats", "KL predicted", "KL, search", "image-forwards"),
    *("CPU, s", "peak, MB"),
)


def write_all(titles: Mapping[str, str]) -> None:
    """Write what there are rows for.

    Args:
        titles: Model -> how tables name it.
    """
    found = {name: rows for name in titles if (rows := read_rows(name))}
    made = dict.fromkeys(row["made"] for rows in found.values() for row in rows.values())
    parts = [f"{line}; seed 0." for line in made]
    parts += [_table(titles[name], rows) for name, rows in found.items()]
    parts.append(_ratio_table({titles[name]: rows for name, rows in found.items()}))
    print("\n\n".join(parts))
    replace_table("real_models", ["\n\n".join(parts)])
    if DRAWN in found:
        _draw(titles[DRAWN], found[DRAWN])


def keep_row(model: str, name: str, row: Row) -> None:
    """Add a row."""
    made = versions(packages=("onnxruntime", "numpy"))
    with ROWS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"model": model, "row": name, "made": made, **row}) + "\n")


def read_rows(model: str) -> dict[str, Row]:
    """The rows of a model by name."""
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return {row["row"]: row for row in map(json.loads, lines) if row["model"] == model}


def ratios(rows: Rows) -> dict[int, tuple[float, float]]:
    """Bits -> KL of the frontier over that of one bitwidth for all, at equal bits, equal bytes.

    Both are of the test images.
    """
    uniform = [rows[name] for name in _of(rows, "uniform")]
    frontier = [rows[name] for name in ("uniform 8", *_of(rows, "frontier")) if name in rows]
    found = {}
    for bits in NARROW:
        one, other = rows.get(f"uniform {bits}"), rows.get(f"frontier {bits}")
        if one is not None and other is not None:
            of_bits = _read_off(frontier, "mean_bits", one["mean_bits"]) / one["kl"]
            of_bytes = other["kl"] / _read_off(uniform, "bytes", other["bytes"])
            found[bits] = (of_bits, of_bytes)
    return found


def _read_off(rows: Sequence[Row], key: str, value: float) -> float:
    """KL at a size between those of the rows."""
    drawn = sorted(rows, key=lambda row: row[key])
    sizes, logs = [row[key] for row in drawn], [np.log(row["kl"]) for row in drawn]
    return float(np.exp(np.interp(value, sizes, logs)))


def _of(rows: Rows, kind: str) -> list[str]:
    return [name for name in rows if name.startswith(f"{kind} ")]


def _table(title: str, rows: Rows) -> str:
    images = min(
        (row["search_images"] for row in rows.values() if "search_images" in row), default=0
    )
    reported = max(row.get("images", 0) for row in rows.values())
    lines = [
        f"{title}, {images:,} calibration images, {reported:,} test images:",
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|---" * len(HEADINGS) + "|",
    ]
    kinds = ("tables", "nearest", "static", "uniform", "layers", "frontier", "compress")
    order = {kind: place for place, kind in enumerate((*kinds, "semilayer"))}
    named = sorted(rows.items(), key=lambda item: order[item[0].split()[0]])
    return "\n".join([*lines, *(_line(name, row, images) for name, row in named)])


def _line(name: str, row: Row, images: int) -> str:
    if (own := row.get("search_images", images)) != images:
        name = f"{name} ({own:,} calibration images)"
    if "failed" in row:
        return f"| {name} | no file | {row['failed']} |" + " |" * (len(HEADINGS) - 3)
    cells = [name, *(_result(row) if "bytes" in row else [""] * 9)]
    cells.append(f"{row['image_forwards']:,.0f}")
    cells.append(_shown(row.get("cpu_seconds"), "{:,.0f}"))
    peak = row.get("peak_bytes")
    cells.append(_shown(peak and peak / 2**20, "{:,.0f}"))
    return f"| {' | '.join(cells)} |"


def _result(row: Row) -> list[str]:
    low, high = row["interval"]
    return [
        f"{row['bytes'] / 1000:,.0f}",
        f"{1 - row['bytes'] / row['bytes_before']:.2%}",
        f"{row['mean_bits']:.2f}",
        f"{row['change']:+.2f} [{low:+.2f}, {high:+.2f}]",
        f"{row['broken']} / {row['fixed']}",
        f"{row['same'] / row['images']:.1%}",
        f"{row['kl']:.5f}",
        _shown(row.get("predicted"), "{:.5f}"),
        _shown(row.get("kl_search"), "{:.5f}"),
    ]


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _ratio_table(models: Mapping[str, Rows]) -> str:
    lines = [
        "KL on the test images, frontier over one bitwidth for all, at equal bits (bytes):",
        "",
        f"| | {' | '.join(f'{bits} bits' for bits in NARROW)} |",
        "|---" * (len(NARROW) + 1) + "|",
    ]
    every = {title: found for title, rows in models.items() if (found := ratios(rows))}
    for title, found in every.items():
        cells = [f"{found[b][0]:.2f} ({found[b][1]:.2f})" if b in found else "" for b in NARROW]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    if every:
        values = np.array([pair for found in every.values() for pair in found.values()])
        median, most = np.median(values, axis=0), values.max(axis=0)
        lines += [
            "",
            f"Median {median[0]:.2f} ({median[1]:.2f}), largest {most[0]:.2f} ({most[1]:.2f}); "
            "at 8 bits both are one plan.",
        ]
    return "\n".join(lines)


def _draw(title: str, rows: Rows) -> None:
    figure, axes = pyplot.subplots(1, 2, figsize=(10.4, 4.0))
    for axis, key in zip(axes, ("kl", "change"), strict=True):
        for kind, (label, colour, marker) in CURVES.items():
            names = _of(rows, kind)
            if names and kind in ("layers", "frontier"):
                names += [name for name in ("uniform 8",) if name in rows]
            drawn = sorted((rows[name] for name in names), key=lambda row: -row["bytes"])
            if drawn:
                _line_of(axis, drawn, key, (label, colour, marker))
        for name, look in POINTS.items():
            if name in rows and "bytes" in rows[name]:
                _line_of(axis, [rows[name]], key, look)
        axis.set(xlabel="file, MB", xlim=(1.6, 5.4))
        axis.invert_xaxis()
        axis.grid(alpha=0.25)
    axes[0].set(yscale="log", ylabel="KL from the float model, nats (test images)", title=title)
    axes[1].set(ylabel="change of top-1, points (test images)", ylim=(-12, 3))
    axes[1].axhline(0, color="#777777", lw=0.8)
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110, metadata={"Software": None})


def _line_of(axis: Axes, rows: Sequence[Row], key: str, look: tuple[str, str, str]) -> None:
    label, colour, marker = look
    sizes, values = [row["bytes"] / 1e6 for row in rows], [row[key] for row in rows]
    size = 12 if marker == "*" else 5
    axis.plot(sizes, values, color=colour, marker=marker, ms=size, lw=1.3, label=label)
