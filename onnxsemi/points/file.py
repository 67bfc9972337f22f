"""The kept frontier as a JSON file, ``frontier.json`` in the run's folder.

    {
      "schema": 3,  "tool": "onnxsemi 0.1.0",
      "method": "frontier",  "profile": "qdq",  "has_labels": true,
      "head": "softmax",  "images": 2000,  "correct": 1881,  "as_written": null,
      "guard": {"max_drop": 0.0, "tolerance": 0.5, "balanced": false, "has_labels": true},
      "source": {"model": "/models/net.onnx", "data": "/data/search.npz", "options": {...}, ...},
      "document": {...},
      "weights": {"/layer1/conv1": 144},
      "points": [
        {"phase": "stop", ..., "bits": {"/layer1/conv1": {"8": "0-15"}}},
        {"phase": "bisection", ..., "bits": {"/layer1/conv1": {"4": "4-6"}}}
      ]
    }

``document`` is the chosen plan as its own file has it, or if none held what was asked the best of
those that were measured; ``weights`` the number of weights in one channel of each layer. Every
point says which channels have other bits than in the point before it; the first is compared with
float32. So many plans that are near one another take little room.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from onnxsemi import __about__
from onnxsemi.atomic import whole_file
from onnxsemi.channels import channel_ranges, parse_ranges
from onnxsemi.data.load import DataOptions
from onnxsemi.errors import OnnxSemiError, RunError
from onnxsemi.heads import Head
from onnxsemi.measure.pairing import pairing_of
from onnxsemi.plan import BitPlan
from onnxsemi.plan_file import plan_of
from onnxsemi.points.frontier import KeptFrontier, KeptPoint, Source
from onnxsemi.run.folder import FRONTIER
from onnxsemi.search.guard import Guard

SCHEMA = 3
_PLAIN = ("phase", "trial", "rejected", "correct", "kl", "predicted", "file_bytes", "chosen")


def write_frontier(kept: KeptFrontier, folder: Path) -> None:
    """Write the kept frontier into a run's folder, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with whole_file(folder / FRONTIER) as scratch:
        scratch.write_text(json.dumps(_document(kept), indent=1) + "\n", encoding="utf-8")


def read_frontier(folder: Path) -> KeptFrontier:
    """Read the frontier that a run has kept.

    Raises:
        RunError: If the folder holds none, or it cannot be read.
    """
    path = folder / FRONTIER
    if not folder.is_dir():
        raise RunError(f"{folder}: is no folder of a run; 'compress' keeps one beside its output")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{folder}: holds no {FRONTIER}, which 'compress' writes when it is done: go on with "
            "`resume` if the run was interrupted"
        ) from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise RunError(f"{path}: not a JSON file ({error})") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise RunError(
            f"{path}: schema {found!r} is not supported; this version reads {SCHEMA}: compress anew"
        )
    try:
        return _kept(document)
    except (KeyError, TypeError, ValueError, AttributeError, OnnxSemiError) as error:
        raise RunError(f"{path}: is damaged ({error!r}); compress anew") from None


def _document(kept: KeptFrontier) -> dict[str, Any]:
    params = kept.points[0].plan.channel_params if kept.points else {}
    points, before = [], None
    for point in kept.points:
        plain = {name: getattr(point, name) for name in _PLAIN}
        paired = None if point.paired is None else asdict(point.paired)
        moves = _moves(before or point.plan.all_float(), point.plan)
        points.append(plain | {"paired": paired, "bits": moves})
        before = point.plan
    source = kept.source
    return {
        "schema": SCHEMA,
        "tool": f"onnxsemi {__about__.VERSION}",
        "method": kept.method,
        "profile": kept.profile,
        "guard": asdict(kept.guard),
        "has_labels": kept.has_labels,
        "head": kept.head,
        "images": kept.images,
        "correct": kept.correct,
        "as_written": None if kept.as_written is None else asdict(kept.as_written),
        "source": {
            "model": None if source.model is None else str(source.model),
            "data": None if source.data is None else str(source.data),
            "options": asdict(source.options),
            "report": None if source.report is None else str(source.report),
            "report_labels": source.report_labels,
            "report_fraction": source.report_fraction,
            "seed": source.seed,
        },
        "document": json.loads(kept.document.to_json()),
        "weights": dict(params),
        "points": points,
    }


def _moves(before: BitPlan, after: BitPlan) -> dict[str, dict[str, str]]:
    """Layer -> bitwidth -> the channels that go there."""
    moves = {}
    for layer, bits in after.bits.items():
        moved = before.bits[layer] != bits
        reached = np.unique(bits[moved])[::-1].tolist()
        if reached:
            moves[layer] = {
                str(b): channel_ranges(np.flatnonzero(moved & (bits == b)).tolist())
                for b in reached
            }
    return moves


def _kept(document: dict[str, Any]) -> KeptFrontier:
    plan, source, written = document["document"], document["source"], document["as_written"]
    options = dict(source["options"])
    for name in ("mean", "std", "classes"):
        options[name] = None if options[name] is None else tuple(options[name])
    chosen = plan_of(json.dumps(plan))
    weights = {layer: int(document["weights"][layer]) for layer in chosen.bits}
    start = BitPlan(chosen.bits, weights).all_float()
    points = tuple(_points(document["points"], start))
    own = [point.chosen for point in points if point.plan.sha256 == chosen.plan_sha256]
    if len(own) != 1 or sum(point.chosen for point in points) != sum(own):
        raise ValueError("not one point is the document's plan, or another is chosen")
    return KeptFrontier(
        document=chosen,
        source=Source(
            model=_path(source["model"]),
            data=_path(source["data"]),
            options=DataOptions(**options),
            report=_path(source["report"]),
            report_labels=source["report_labels"],
            report_fraction=source["report_fraction"],
            seed=source["seed"],
        ),
        method=document["method"],
        profile=document["profile"],
        guard=Guard(**document["guard"]),
        has_labels=document["has_labels"],
        head=Head(document.get("head", Head.SOFTMAX)),  # files of before had no other
        images=document["images"],
        correct=document["correct"],
        as_written=None if written is None else pairing_of(written),
        points=points,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _points(entries: list[dict[str, Any]], plan: BitPlan) -> Iterator[KeptPoint]:
    """Each from the one before it, the first from a plan of float32."""
    known = {item.name for item in fields(KeptPoint)} - {"plan"} | {"bits"}
    for entry in entries:
        if unknown := entry.keys() - known:
            raise ValueError(f"unknown {sorted(unknown)[0]!r}")
        for layer, reached in entry["bits"].items():
            for bits, channels in reached.items():
                moved = parse_ranges(channels, len(plan.bits[layer]))
                plan = plan.with_bits(layer, moved, int(bits))
        paired = None if entry["paired"] is None else pairing_of(entry["paired"])
        yield KeptPoint(plan=plan, paired=paired, **{name: entry[name] for name in _PLAIN})
