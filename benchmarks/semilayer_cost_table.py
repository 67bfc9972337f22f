"""The table of ``semilayer_cost.py``, from the JSON files that its measurements left."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from tables import replace_table, versions

LADDER = (8, 6, 4, 2)
DROPS = (0.0, 0.5, 1.0)  # points of search accuracy at which fast and exact are compared


def write_table(known: dict[str, Case], work: Path) -> None:
    """Put the table between the markers of the benchmarks' README."""
    head = (
        f"{versions(work, ('onnxruntime', 'numpy'))}. Ladder "
        f"{', '.join(map(str, LADDER))}; asymmetric; targets `hidden`; seed 0. Median of three "
        "[least, most] where a range is given."
    )
    tables = (_passes_table, _signs_table, _same_images_table, _single_figures)
    parts = [table(known, work) for table in tables]
    replace_table("semilayer_cost", ["\n\n".join([head, *parts])])


def _read(work: Path, name: str, job: str) -> list[dict[str, Any]]:
    files = sorted(work.glob(f"{name}-{job}-?.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _spread(values: list[float], digits: int = 1) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def _passes_table(known: dict[str, Case], work: Path) -> str:
    lines = [
        "| model | calibration images | Δloss images | Δloss + KL, passes | of that comparing with "
        "exact | whole `compress`, passes | trials | images a trial looks at "
        "| faster than the plain way |",
        "|" + "---|" * 9,
    ]
    for name, case in known.items():
        tables, whole = _read(work, name, "tables"), _read(work, name, "compress")
        plain = _read(work, name, "plain")
        looked = [r["images"] / r["trials"] / r["total"] for r in whole[:1]]
        cells = [
            case.title,
            f"{case.search_samples:,}",
            f"{case.delta_loss_samples:,}",
            _spread([r["passes"] for r in tables]),
            _spread([r["compared"] for r in tables]),
            _spread([r["passes"] for r in whole]),
            str(whole[0]["trials"]) if whole else "",
            f"{looked[0]:.1%}" if looked else "",
            _spread([r["ratio"] for r in plain], 0),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _signs_table(known: dict[str, Case], work: Path) -> str:
    lines = [
        "Sign of Δloss, fast against exact on the same images (correlation of the values):",
        "",
        "| model | images | channels | " + " | ".join(f"{bits} bits" for bits in LADDER) + " |",
        "|" + "---|" * (3 + len(LADDER)),
    ]
    for name, case in known.items():
        for result in _read(work, name, "signs"):
            signs = [result["signs"][str(bits)] for bits in LADDER]
            cells = [f"{s['same_sign']:.1%} ({s['correlation']:.3f})" for s in signs]
            few = f"{signs[0]['channels']:,}" + (
                f" (every {case.every}th)" if case.every > 1 else ""
            )
            lines.append(
                f"| {case.title} | {result['images']} | {few} | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines)


def _same_images_table(known: dict[str, Case], work: Path) -> str:
    case, drops = known["resnet20"], [f"{drop:g}" for drop in DROPS]
    lines = [
        f"{case.title}, target weights smaller by, with fast and with exact Δloss of the same "
        f"{case.delta_loss_samples} images, at a drop of search accuracy of at most "
        f"{', '.join(drops)} points:",
        "",
        "| images drawn by seed | " + " | ".join(f"{d}: fast | exact" for d in drops) + " |",
        "|" + "---|" * (1 + 2 * len(DROPS)),
    ]
    both = [_read(work, "resnet20", method) for method in ("fast", "exact")]
    found = np.array([[r["at_drops"] for r in runs] for runs in both])  # [2, seeds, drops]
    for seed, pair in enumerate(found.transpose(1, 2, 0)):
        lines.append(f"| {seed} | " + " | ".join(f"{v:.2%}" for v in pair.flatten()) + " |")
    change = 100 * (found[0] - found[1])
    error = change.std(axis=0, ddof=1) / np.sqrt(len(change))
    means = [f"{m:+.2f} ± {e:.2f}" for m, e in zip(change.mean(axis=0), error, strict=True)]
    cells = " | ".join(f"{mean} | " for mean in means)
    lines.append(f"| fast less exact, points: mean ± standard error | {cells} |")
    return "\n".join(lines)


def _single_figures(known: dict[str, Case], work: Path) -> str:
    lines = []
    for name, case in known.items():
        lines += [
            f"- {case.title}: peak memory of `compress` on {r['total']:,} calibration images with "
            f"`--max-memory 2.75GB`: {r['peak_bytes'] / 1e9:.2f} GB ({r['trials']} trials; "
            f"{r['stop']})."
            for r in _read(work, name, "memory")
        ]
        for r in _read(work, name, "compress")[:1]:
            before, after, total = r["searched"]
            change, low, high = r["reported"]
            lines.append(
                f"- {case.title}: `compress` gives targets smaller by {r['targets']:.2%}, file by "
                f"{r['file']:.2%}; search {before} -> {after} of {total:,}; report {change:+.2f} "
                f"[{low:+.2f}, {high:+.2f}]."
            )
    return "\n".join(lines)
