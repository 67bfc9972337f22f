"""Results as JSON documents: everything that was measured, with a schema version."""

from dataclasses import asdict
from typing import Any

import msgspec

from onnxsemi import __about__, wording
from onnxsemi.channels import channel_ranges
from onnxsemi.emit.stored import InspectedLayer
from onnxsemi.kernels import Kernels
from onnxsemi.measure.comparison import Comparison, exact_interval
from onnxsemi.measure.means import Means
from onnxsemi.measure.paired import Paired
from onnxsemi.measure.pairing import Pairing
from onnxsemi.measure.seam import Score
from onnxsemi.plan import BitPlan
from onnxsemi.processor import Origin
from onnxsemi.results import (
    ApplyResult,
    CompressResult,
    EvaluateResult,
    InspectResult,
    SensitivitySummary,
    Sizes,
)
from onnxsemi.search.guard import Finding
from onnxsemi.search.ranking import Ranked
from onnxsemi.search.trajectory import Point, Trial
from onnxsemi.search.verdict import Verdict
from onnxsemi.timings import BenchResult

SCHEMA = 1

Document = dict[str, Any]


def compress_document(result: CompressResult) -> Document:
    """A finished compression with every decision of its search."""
    trajectory, report = result.trajectory, result.report
    labels, basis = result.has_labels, _basis(result.has_labels, report.metric_name)
    return _header() | {
        "output": str(result.output),
        "plan_file": str(result.plan_file),
        "profile": result.profile,
        "head": report.head,
        "answers_compared_with": _labels(result.has_labels, report.metric_name),
        "sizes": _sizes(result.sizes),
        "search": _seen(result.search, labels=labels),
        "report": _comparison(report),
        "verdict": _verdict(result.verdict, report) | {"next_command": result.next_command},
        "asked": _finding(result.finding),
        "sensitivity": _sensitivity(result.sensitivity),
        "cost": {
            "seconds": result.cost.seconds,
            "pass_seconds": result.cost.pass_seconds,
            "passes": result.cost.passes,
            "trials": result.cost.trials,
        },
        "plan": _plan(result.plan),
        "chosen": _point(result.chosen, basis),
        "baseline": _score(trajectory.baseline, basis),
        "stop": trajectory.stop,
        "frontier_redrawn": list(trajectory.redrawn),
        "trajectory": [_point(point, basis) for point in trajectory.points],
        "trials": [_trial(trial, basis) for trial in trajectory.trials],
        "pinned": dict(result.pinned),
        "run": None if result.run is None else str(result.run),
        "skipped": [{"layer": skip.name, "reason": skip.reason} for skip in result.skipped],
        "left_float": [asdict(weights) for weights in result.left_float],
        "notes": list(result.notes),
        "warnings": list(result.warnings),
        "kernels": None if result.kernels is None else _kernels(result.kernels),
        "types": None if result.types is None else asdict(result.types),
        "speed": None if result.speed is None else _bench(result.speed),
    }


def apply_document(result: ApplyResult) -> Document:
    """An applied plan."""
    report = result.report
    return _header() | {
        "output": str(result.output),
        "profile": result.profile,
        "answers_compared_with": (
            None if report is None else _labels(result.has_labels, report.metric_name)
        ),
        "sizes": _sizes(result.sizes),
        "report": None if report is None else _comparison(report),
        **_apply_verdict(result),
        "plan": _plan(result.plan),
        "plan_edited": result.edited,
        "rounded_anew": result.anew,
        "same_weights": result.same_weights,
        "origin": None if result.origin is None else _origin(result.origin),
        "plan_file": None if result.plan_file is None else str(result.plan_file),
        "kernels": None if result.kernels is None else _kernels(result.kernels),
        "types": None if result.types is None else asdict(result.types),
    }


def evaluate_document(result: EvaluateResult) -> Document:
    """An evaluation; without labels the keys that need them are not there."""
    document = _header() | {
        "head": result.head,
        "images": result.total,
        "warnings": list(result.warnings),
    }
    if result.correct is not None:
        document |= {
            "correct": result.correct,
            "accuracy": result.correct / result.total,
            "loss_nats": result.loss,
        }
    if result.metric is not None:
        document |= {"metric": result.metric, "mean": result.mean}
    if result.comparison is not None:
        document["comparison"] = _comparison(result.comparison, "the reference")
    return document


def inspect_document(result: InspectResult) -> Document:
    """What a file holds."""
    return _header() | {
        "path": str(result.path),
        "opset": result.opset,
        "ir_version": result.ir_version,
        "file_bytes": result.file_bytes,
        "properties": result.properties,
        "layers": [_layer(layer) for layer in result.layers],
        "notes": list(result.notes),
        "left_float": [asdict(weights) for weights in result.left_float],
        "float_bytes": result.float_bytes,
        "shared_structure_bytes": result.shared_bytes,
        "sizes": None if result.sizes is None else _sizes(result.sizes),
    }


def bench_document(result: BenchResult) -> Document:
    """Models side by side."""
    return _header() | _bench(result)


def _bench(result: BenchResult) -> Document:
    return {
        "threads": result.threads,
        "rounds": result.rounds,
        "rows": [
            {
                "model": str(row.model),
                "load_session": row.folded,
                "file_bytes": row.file_bytes,
                "load": asdict(row.load),
                "peak_bytes": row.peak_bytes,
                "latency": {
                    str(batch): asdict(spread)
                    for batch, spread in zip(result.batches, row.latency, strict=True)
                },
            }
            for row in result.rows
        ],
    }


def _header() -> Document:
    return {"schema": SCHEMA, "tool": f"onnxsemi {__about__.VERSION}"}


def _labels(has_labels: bool, metric: str | None = None) -> str:  # noqa: FBT001  what it is about
    if metric is not None:
        return f"labels, by {metric}"
    return "labels" if has_labels else "the float model's own answers"


def _origin(origin: Origin) -> Document:
    there = origin.there
    return {
        "processor": None if there is None else msgspec.to_builtins(there),
        "processor_here": msgspec.to_builtins(origin.here),
        "summary": wording.origin(origin),
    }


def _kernels(kernels: Kernels) -> Document:
    return {"integer": dict(kernels.integer), "float32": dict(kernels.floating)}


def _sizes(sizes: Sizes) -> Document:
    return {
        "targets": sizes.targets,
        "model": sizes.model,
        "file": sizes.file,
        "bytes_before": sizes.bytes_before,
        "bytes_after": sizes.bytes_after,
        "payload_bytes": sizes.payload_bytes,
        "overhead": sizes.overhead,
        "gzip_bytes": sizes.gzip_bytes,
    }


def _paired(paired: Paired) -> Document:
    return {
        "images": paired.total,
        "correct_before": paired.before,
        "correct_after": paired.after,
        "lost": paired.lost,
        "won": paired.won,
        "change": paired.change,
        "interval_95": list(paired.interval),
        "mcnemar_p": paired.p_value,
    }


def _means(means: Means) -> Document:
    return {
        "metric": means.name,
        "images": means.total,
        "mean_before": means.before,
        "mean_after": means.after,
        "lost": means.lost,
        "won": means.won,
        "change": means.change,
        "interval_95": list(means.interval),
    }


def _seen(paired: Pairing, *, labels: bool) -> Document:
    """Float against a plan on the calibration images."""
    if isinstance(paired, Means):
        return _means(paired)
    return _paired(paired) if labels else _agreed(paired.total, paired.after)


def _agreed(images: int, same: int) -> Document:
    """How many images are answered as the float model does."""
    return {
        "images": images,
        "same": same,
        "agreement": same / images,
        "agreement_interval_95": list(exact_interval(same, images)),
    }


def _comparison(comparison: Comparison, reference: str = wording.FLOAT_MODEL) -> Document:
    top1, top5, metric = comparison.top1, comparison.top5, comparison.metric
    return {
        **({} if metric is None else _means(metric)),
        **({} if top1 is None else _paired(top1)),
        **({} if top5 is None else {"top5": _paired(top5)}),
        **_agreed(comparison.images, comparison.same),
        "kl_nats": comparison.kl,
        "summary": list(wording.summary(comparison, reference)),
    }


def _verdict(claim: Verdict, report: Comparison) -> Document:
    return {
        "outcome": claim.outcome,
        "summary": wording.verdict(claim, report),
        "reason": claim.reason,
        "asked_points": claim.asked,
        "interval": list(claim.interval),
        "coverage": claim.coverage,
        "looks": claim.looks,
        "images_needed": claim.images_needed,
    }


def _apply_verdict(result: ApplyResult) -> Document:
    if result.verdict is None or result.report is None:
        return {}
    found = _verdict(result.verdict, result.report)
    return {"verdict": found | {"next_command": result.next_command}}


def _finding(finding: Finding) -> Document:
    """What was asked on the calibration images, and what they were judged by."""
    return {
        "asked_points": finding.asked,
        "allowed_points": finding.allowed,
        "images_needed": finding.images_needed,
        "summary": finding.text,
    }


def _basis(has_labels: bool, metric: str | None) -> str:  # noqa: FBT001  what it is about
    """What a score counts: right answers, those of the float model; or the mean of a metric."""
    if metric is not None:
        return "mean"
    return "correct" if has_labels else "same"


def _scored(correct: float | None, images: int, basis: str) -> Document:
    """How many images count, or the mean of the metric."""
    return {basis: correct / images if basis == "mean" and correct is not None else correct}


def _score(score: Score, basis: str) -> Document:
    return {
        **_scored(score.correct, score.total, basis),
        "images": score.total,
        "images_measured": score.measured,
        "loss_nats": score.loss,
    }


def _sensitivity(summary: SensitivitySummary) -> Document:
    return {
        "images": summary.samples,
        "agreement": [asdict(agreement) for agreement in summary.agreement],
        "exact_delta_loss_bits": list(summary.exact_delta_loss),
        "exact_kl_bits": list(summary.exact_kl),
        "layers_without_backward_pass": dict(summary.missing),
        "layers_estimated_from_output": list(summary.estimated),
        "channel_reliability": dict(summary.reliability),
    }


def _plan(plan: BitPlan) -> Document:
    return {
        "compression": plan.compression,
        "mean_bits": plan.mean_bits,
        "target_parameters": plan.parameters,
        "layers": plan.listed(),
    }


def _point(point: Point, basis: str) -> Document:
    return {
        "trial": point.trial,
        "phase": point.phase,
        "bits": point.bits,
        "compression": point.plan.compression,
        "saved_parameters": point.plan.saved_parameters,
        **_score(point.score, basis),
    }


def _trial(trial: Trial, basis: str) -> Document:
    return {
        "number": trial.number,
        "phase": trial.phase,
        **({} if trial.ranked is None else _ranked(trial.ranked)),
        **({} if trial.compression is None else {"compression": trial.compression}),
        **_counts(trial, basis),
        "bar": trial.bar,
        "decision": trial.decision,
        "reason": trial.reason,
        **_score(trial.score, basis),
        **({} if trial.predicted is None else {"predicted_kl_nats": trial.predicted}),
        **({} if trial.kl is None else {"measured_kl_nats": trial.kl}),
    }


def _counts(trial: Trial, basis: str) -> Document:
    if trial.paired is None:
        return {}
    lost, won = trial.paired.lost, trial.paired.won
    return {"changed": lost} if basis == "same" else {"lost": lost, "won": won}


def _ranked(ranked: Ranked) -> Document:
    semilayer = ranked.semilayer
    return {
        "layer": semilayer.layer,
        "sign": semilayer.sign,
        "channels": channel_ranges(semilayer.channels),
        "bits": semilayer.bits,
        "kl_nats": ranked.kl,
        "sensitivity": ranked.sensitivity,
    }


def _layer(layer: InspectedLayer) -> Document:
    return {
        "name": layer.name,
        "shape": list(layer.shape),
        "status": layer.status,
        "groups": [
            {
                "bits": group.bits,
                "channels": group.channels,
                "code_bytes": group.code_bytes,
                "scale_bytes": group.scale_bytes,
                "structure_bytes": group.structure_bytes,
            }
            for group in layer.groups
        ],
        "structure_bytes": layer.structure_bytes,
    }
