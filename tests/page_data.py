"""Results to draw pages from: made up, but of the form that a run keeps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxsemi._data.load import DataOptions
from onnxsemi._plan.bits import BitPlan
from onnxsemi._report.document import RunResult, to_json
from onnxsemi._report.page import Run
from onnxsemi._report.record import ResultArrays, RunRecord
from onnxsemi._run.frontier import KeptFrontier, KeptPoint, Source, by_size
from onnxsemi._run.plan_file import PlanFile, layers_of
from onnxsemi._run.store import typed
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._stats.comparison import exact_interval
from onnxsemi._stats.paired import Paired

BITS = (8, 4, 2)
SCORE = {"images": 200, "images_measured": 200, "loss_nats": 0.5}


def made_run(layers=None, *, path="small.run", names=None, **how):
    """A run with a result, as :func:`kept` makes it, and a frontier.

    Args:
        layers: Layer name -> channels.
        path: Its folder.
        names: Of the classes.
        how: See :func:`kept`.
    """
    made = Run(Path(path), kept(layers, **how), frontier(layers, labels=how.get("labels", True)))
    return said(made, classes=names)


def said(run, change=dict.copy, **more):
    """The same run with a result that says something else.

    Args:
        run: The run.
        change: Is given the result as JSON has it, and changes it.
        more: What stands at its top instead.
    """
    made = json.loads(to_json(run.kept.document)) | more
    change(made)
    return replace(run, kept=replace(run.kept, document=typed(made, RunResult)))


def frontier(layers=None, *, labels=True, points_between=(8, 7, 6, 5, 3, 2), plain=False):
    """Uniform plans, of which one is measured and one written.

    Args:
        layers: Layer name -> channels.
        labels: Whether answers were compared with labels.
        points_between: Bits of plans that were not measured.
        plain: Whether neither KL nor predictions are known.
    """
    layers = layers or {"conv1": 4, "conv2": 8}
    seen = {"phase": "frontier", "trial": 1, "paired": Paired(200, 190, 3, 4), "correct": 191}
    if not labels:
        seen |= {"paired": Paired(200, 200, 9, 0), "correct": 191}
    some = {"phase": "uniform", "rejected": "reason <1>", "correct": 150, "kl": 0.2}
    points = [
        *(point(layers, bits, predicted=2.0**-bits) for bits in points_between),
        point(layers, 4, chosen=True, kl=0.08, predicted=0.06, **seen),
        point(layers, 1, predicted=0.5, **some),
    ]
    if plain:
        points = [point(layers, 4, chosen=True, **seen), point(layers, 1, **some | {"kl": None})]
    chosen = next(p for p in points if p.chosen).plan
    document = PlanFile(
        model="ab" * 32, targets="all", scheme="asymmetric", layers=layers_of(chosen.bits),
        tool="tool",
        plan_sha256=chosen.sha256,
    )  # fmt: skip
    return KeptFrontier(
        document=document, source=Source(model=Path("m.onnx"), data=None, options=DataOptions()),
        method="frontier", profile="qdq", has_labels=labels,
        guard=ToleranceGuard(max_drop=0, tolerance=0.5),
        images=200, correct=190 if labels else 200, as_written=None, points=by_size(points),
    )  # fmt: skip


def point(layers, bits, **known):
    """A plan of one bitwidth."""
    plan = BitPlan(
        {name: (bits,) * size for name, size in layers.items()}, dict.fromkeys(layers, 9)
    )
    return KeptPoint(plan=plan, file_bytes=100 + 100 * bits, **known)


def kept(
    layers=None, *, bits=BITS, labels=True, measured=True, images=100, changes=((3, 1, 2),), seed=0
):
    """A result.

    Args:
        layers: Layer name -> channels.
        bits: The ladder.
        labels: Whether the images have labels.
        measured: Whether there is a Δloss table.
        images: Test images; all have label 3 and float answer 3, unless changed.
        changes: (label, before, after) of the first test images.
        seed: Of everything made up.
    """
    layers = layers or {"conv1": 4, "conv2": 8}
    rng = np.random.default_rng(seed)
    count = sum(layers.values())
    sign = rng.choice([-1.0, 1.0], (count, len(bits)))
    nats = sign * 10.0 ** rng.uniform(-6, -2, (count, len(bits)))
    answers = np.array([*changes, *[(3, 3, 3)] * (images - len(changes))]).reshape(-1, 3).T
    shown = np.flatnonzero(answers[1] != answers[2])
    evidence = ResultArrays(
        bits=np.array(bits),
        delta_loss=nats if measured else np.full_like(nats, np.nan),
        **groups(layers, bits, rng, measured=measured),
        tried=np.array([0.5, 0.75, 0.9]),
        labels=answers[0],
        before=answers[1],
        after=answers[2],
        shown=shown,
        thumbnails=rng.integers(0, 256, (len(shown), 6, 5, 3), np.uint8),
    )
    made = document(layers, bits, evidence, labels=labels, rng=rng)
    return RunRecord(typed(made if labels else without_labels(made), RunResult), evidence)


def groups(layers, bits, rng, *, measured):
    """Two semilayers a layer and bitwidth, or one where Δloss was not measured."""
    signs = (-1, 1) if measured else (0,)
    rows = [(place, s, b) for b in bits for place in range(len(layers)) for s in signs]
    layer, sign, bit = np.array(rows).T
    size = 10.0 ** rng.uniform(-5, -2, len(rows))
    return {
        "group_layer": layer,
        "group_sign": sign,
        "group_bits": bit,
        "group_channels": -(-np.array(list(layers.values()))[layer] // len(signs)),
        "group_delta_loss": sign * size if measured else np.full(len(rows), np.nan),
        "group_kl": size / 2,
    }


def document(layers, bits, evidence, *, labels, rng):
    """What ``compress --json`` gives, as far as the page shows it."""
    before, after = evidence.before == evidence.labels, evidence.after == evidence.labels
    broken, fixed = int((before & ~after).sum()), int((after & ~before).sum())
    images, count = len(evidence.labels), sum(layers.values())
    plan = {name: rng.choice([*bits, 32], size).tolist() for name, size in layers.items()}
    trials = [
        trial(1, "frontier", "kept", 192),
        trial(2, "frontier", "rejected", 150),
        trial(3, "descent", "kept", 191, layer=next(iter(layers)), sign="negative", bits=2),
    ]
    return {
        "tool": "onnxsemi 0.1.0",
        "output": "out/small.onnx",
        "plan_file": "out/small.plan.json",
        "head": "softmax",
        "search": {"images": 200},
        "asked": {
            "asked_points": 0.5,
            "allowed_points": 0.5,
            "images_needed": None,
            "summary": "",
        },
        "frontier_redrawn": [],
        "trajectory": [],
        "pinned": {},
        "run": "small.run",
        "left_float": [],
        "warnings": [],
        "speed": None,
        "classes": None,
        "profile": "qdq",
        "answers_compared_with": "labels" if labels else "the float model's own answers",
        "sizes": {
            "targets": 0.9,
            "model": 0.85,
            "file": 0.8,
            "bytes_before": 1000,
            "bytes_after": 200,
            "payload_bytes": 150,
            "overhead": 1 / 3,
            "gzip_bytes": 180,
        },
        "verdict": {
            "outcome": "holds",
            "summary": "holds: what the test images say",
            "reason": "cannot lie below -0.5 points",
            "asked_points": 0.5,
            "interval": [-0.004, 0.002],
            "coverage": 0.95,
            "looks": 1,
            "images_needed": None,
            "next_command": None,
        },
        "report": {
            "summary": ["said of both"],
            "images": images,
            "correct_before": int(before.sum()),
            "correct_after": int(after.sum()),
            "broken": broken,
            "fixed": fixed,
            "change": (fixed - broken) / images,
            "interval_95": [-0.0123, 0.0045],
        },
        "sensitivity": {
            "images": 64,
            "agreement": [
                {
                    "bits": b,
                    "channels": 8,
                    "same_sign": 0.9,
                    "delta_loss_rank": 0.95,
                    "semilayers": 2,
                    "kl_rank": 0.97,
                }
                for b in bits
            ],
            "exact_delta_loss_bits": [],
            "exact_kl_bits": [],
            "layers_without_backward_pass": {},
            "layers_estimated_from_output": [],
            "channel_reliability": {},
        },
        "cost": {
            **{"seconds": 75.0, "cpu_seconds": 132.0, "pass_cpu_seconds": 4.0, "passes": 33.0},
            **{"image_forwards": 6600.0, "trials": 3},
        },
        "plan": {
            "compression": 0.9,
            "mean_bits": 3.5,
            "target_parameters": 9 * count,
            "layers": plan,
        },
        "chosen": {
            **{"trial": 3, "phase": "descent", "bits": 2, "compression": 0.9},
            **{"saved_parameters": 8.1 * count, "correct": 191},
            **SCORE,
        },
        "baseline": {"correct": 190, **SCORE},
        "stop": "the tries were used up",
        "trials": trials,
        "skipped": [],
        "notes": [],
        "kernels": None,
        "types": None,
        "command": "onnxsemi compress model.onnx --data 'my images.npz'",
        "model": "model.onnx",
        "search_data": "search.npz",
        "test_data": "report.npz",
        "made_from": {
            "--bits": list(bits),
            "--seed": 0,
            "model": "ab" * 32,
            "calibration data": "cd" * 32,
            "test data": "ef" * 32,
            "numpy": "2.0",
        },
        "channel_parameters": dict.fromkeys(layers, 9),
    }


def without_labels(made):
    """The same as it is said without labels: nothing is right, broken or fixed."""
    report = made["report"]
    images, same = report["images"], report["images"] - report["broken"]
    interval = list(exact_interval(same, images))
    agreed = {"same": same, "agreement": same / images, "agreement_interval_95": interval}
    made["report"] = {"summary": report["summary"], "images": images, **agreed}
    for score in (made["baseline"], made["chosen"], *made["trials"]):
        score["same"] = score.pop("correct")
        score.pop("fixed", None)
        if "broken" in score:
            score["changed"] = score.pop("broken")
    return made


def trial(number, phase, decision, correct, **semilayer):
    """One decision."""
    reason = f"reason {number}"
    head = {"number": number, "phase": phase, "decision": decision, "reason": reason, "bar": None}
    return {**head, "broken": 5, "fixed": correct - 185, "correct": correct, **SCORE, **semilayer}
