"""Tables and figure of ``frontier.py``, from the JSON files that its rows left."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot
from tables import replace_table, versions

FIGURE = Path(__file__).with_name("frontier.png")
CURVES = {
    "uniform": ("uniform bitwidths, nearest level", "#9a6324", "s"),
    "paper": ("paper's method", "#4363d8", "o"),
    "frontier": ("frontier", "#c0392b", "^"),
    "rate": ("frontier, rate and dense", "#2e7d32", "v"),
}


def write_all(titles: dict[str, str], work: Path) -> None:
    """Write what there are results for.

    Args:
        titles: Model -> how tables name it.
        work: Folder of the results.
    """
    parts = [_versions(work), _whole_table(titles, work)]
    for name, title in titles.items():
        if (found := _load(work / name / "ingredients.json")) is not None:
            parts.append(_ingredients_table(title, found))
    curves = {t: c for n, t in titles.items() if (c := _load(work / n / "curve.json")) is not None}
    parts += [_curve_table(title, found) for title, found in curves.items()]
    replace_table("frontier", ["\n\n".join(parts)])
    if curves:
        _draw(curves)


def _whole_table(titles: dict[str, str], work: Path) -> str:
    lines = [
        "| model | method | file smaller by | bits a weight | report top-1: change, 95 % interval "
        "| broken / fixed | KL, nats | search broken / fixed | plans tried | passes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = {
        "frontier": "frontier",
        "rate": "frontier, `--rounding rate --profile dense`",
        "without labels": "frontier, no labels at all",
        "semilayer": "semilayer (the paper's)",
    }
    for name, title in titles.items():
        for row, shown in names.items():
            found = _load(work / name / f"{row}.json")
            if found is None:
                continue
            _, broken, fixed = found["search"]
            cells = [
                title,
                shown,
                f"**{found['sizes']['file']:.2%}**",
                f"{found['mean_bits']:.2f}",
                _change(found),
                f"{found['broken']} / {found['fixed']} of {found['total']:,}",
                f"{found['kl']:.4f}",
                f"{broken} / {fixed}",
                str(found["trials"]),
                f"{found['passes']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ingredients_table(title: str, found: dict[str, Any]) -> str:
    lines = [
        f"{title}, the frontier's plan rounded anew, one ingredient taken away:",
        "",
        "| | KL, nats | report top-1: change, 95 % interval | broken / fixed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['kl']:.4f} | {_change(row)} | {row['broken']} / {row['fixed']} |"
        for name, row in found.items()
    ]
    return "\n".join(lines)


def _curve_table(title: str, curves: dict[str, Any]) -> str:
    lines = [
        f"{title}, file size against accuracy on the test images:",
        "",
        "| | bits a weight | file smaller by | change of top-1, 95 % interval | KL, nats |",
        "|---|---|---|---|---|",
    ]
    for curve, (shown, _, _) in CURVES.items():
        for row in curves.get(curve, []):
            smaller = 1 - row["bytes"] / row["bytes_before"]
            cells = [shown, f"{row['mean_bits']:.2f}", f"{smaller:.2%}", _change(row)]
            cells.append(f"{row['kl']:.4f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _draw(curves: dict[str, dict[str, Any]]) -> None:
    mpl.rcParams["svg.hashsalt"] = "frontier"
    figure, axes = pyplot.subplots(1, len(curves), figsize=(4.4 * len(curves), 3.6), squeeze=False)
    for place, (axis, (title, found)) in enumerate(zip(axes[0], curves.items(), strict=True)):
        for curve, (label, colour, marker) in CURVES.items():
            rows = sorted(found.get(curve, []), key=lambda row: -row["bytes"])
            smaller = [100 * (1 - row["bytes"] / row["bytes_before"]) for row in rows]
            change = [row["change"] for row in rows]
            axis.plot(smaller, change, color=colour, marker=marker, ms=4, lw=1.3, label=label)
        axis.axhline(0, color="#777777", lw=0.8)
        axis.set(title=title, xlabel="file smaller by, %", ylim=(-6, 1), xlim=(72, 97))
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.25)
        if place == 0:
            axis.set_ylabel("change of top-1, points (test images)")
            axis.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110, metadata={"Software": None})


def _change(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['change']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _versions(work: Path) -> str:
    return (
        f"{versions(work, ('onnxruntime', 'numpy', 'scipy'))}. "
        "All convolutions and the classifier; seed 0; 4,000 calibration images of CIFAR-10, "
        "2,000 of Fashion-MNIST, 500 of ImageNet."
    )
