"""Results made into documents (:mod:`onnxsemi._report.document`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict, replace

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import shown
from onnxsemi._plan.channel_numbers import channel_ranges
from onnxsemi._quantizer.coded import CodedLayer
from onnxsemi._report import document as doc
from onnxsemi._report import parts
from onnxsemi._results import results, wording
from onnxsemi._results.check import CheckResult
from onnxsemi._results.timings import BenchResult
from onnxsemi._results.verify import VerifyResult
from onnxsemi._run.frontier import KeptFrontier, KeptPoint
from onnxsemi._runtime.processor import Origin
from onnxsemi._search.protocols import Score
from onnxsemi._search.ranking import Ranked
from onnxsemi._search.trajectory import Point, Trial
from onnxsemi._search.verdict import Verdict
from onnxsemi._stats.comparison import Comparison, exact_interval
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing

T = TypeVar("T")


def compress_document(result: results.CompressResult) -> doc.CompressDocument:
    """A finished compression with every decision of its search."""
    trajectory, report, labels = result.trajectory, result.report, result.has_labels
    counts = _Counts(labels, report.metric_name)
    return doc.CompressDocument(
        output=str(result.output),
        plan_file=str(result.plan_file),
        profile=result.profile.value,
        head=report.head,
        answers_compared_with=counts.compared_with,
        sizes=_part(result.sizes, parts.Sizes),
        search=_seen(result.search, labels=labels),
        report=_comparison(report),
        verdict=_verdict(result.verdict, report, result.next_command),
        asked=parts.FindingPart(
            asked=result.finding.asked,
            allowed=result.finding.allowed,
            images_needed=result.finding.images_needed,
            summary=result.finding.text,
        ),
        sensitivity=_sensitivity(result.sensitivity),
        cost=_part(result.cost, parts.CostPart),
        plan=_plan(result.plan, result.coded),
        chosen=_point(result.chosen, counts),
        baseline=counts.score(trajectory.baseline),
        stop=trajectory.stop,
        frontier_redrawn=tuple(trajectory.redrawn),
        trajectory=tuple(_point(point, counts) for point in trajectory.points),
        trials=tuple(_trial(trial, counts) for trial in trajectory.trials),
        made_from=dict(result.made_from),
        pinned=dict(result.pinned),
        run=_text(result.run),
        skipped=_part(result.skipped, tuple[parts.SkippedPart, ...]),
        left_float=result.left_float,
        notes=result.notes,
        warnings=result.warnings,
        kernels=_maybe(result.kernels, parts.KernelsPart),
        types=result.types,
        speed=None if result.speed is None else _workload(result.speed),
    )


def apply_document(result: results.ApplyResult) -> doc.ApplyDocument:
    """An applied plan."""
    report, claim = result.report, result.verdict
    judged: parts.VerdictPart | UnsetType = UNSET
    if claim is not None and report is not None:
        judged = _verdict(claim, report, result.next_command)
    compared = None
    if report is not None:
        compared = _Counts(result.has_labels, report.metric_name).compared_with
    return doc.ApplyDocument(
        output=str(result.output),
        profile=result.profile.value,
        answers_compared_with=compared,
        sizes=_part(result.sizes, parts.Sizes),
        report=None if report is None else _comparison(report),
        plan=_plan(result.plan),
        plan_edited=result.edited,
        rounded_anew=result.anew,
        same_weights=result.same_weights,
        origin=None if result.origin is None else _origin(result.origin),
        plan_file=_text(result.plan_file),
        kernels=_maybe(result.kernels, parts.KernelsPart),
        types=result.types,
        verdict=judged,
    )


def evaluate_document(result: results.EvaluateResult) -> doc.EvaluateDocument:
    """An evaluation; without labels the keys that need them are not there."""
    labelled, metric, other = result.correct is not None, result.metric, result.comparison
    return doc.EvaluateDocument(
        head=result.head,
        images=result.total,
        warnings=result.warnings,
        correct=UNSET if result.correct is None else result.correct,
        accuracy=UNSET if result.correct is None else result.correct / result.total,
        loss_nats=result.loss if labelled else UNSET,
        metric=UNSET if metric is None else metric,
        mean=UNSET if metric is None else result.mean,
        comparison=UNSET if other is None else _comparison(other, "the reference"),
    )


def inspect_document(result: results.InspectResult) -> doc.Document:
    """What a file holds."""
    return _part(result, doc.InspectDocument)


def bench_document(result: BenchResult) -> doc.BenchDocument:
    """Models side by side."""
    return doc.BenchDocument(**asdict(_workload(result)))


def compare_document(result: results.CompareResult) -> doc.Document:
    """What differs between two files."""
    return _part(result, doc.CompareDocument)


def verify_document(result: VerifyResult) -> doc.Document:
    """What was compared."""
    return _part(result, doc.VerifyDocument)


def check_document(result: CheckResult) -> doc.Document:
    """What there is, and what to expect."""
    return _part(result, doc.CheckDocument)


def pareto_document(kept: KeptFrontier, run: Path) -> doc.ParetoDocument:
    """Every point that a run has kept."""
    counts, mean = _Counts(kept.has_labels, kept.metric), kept.metric is not None
    written = kept.as_written
    return doc.ParetoDocument(
        run=str(run),
        method=kept.method,
        profile=kept.profile,
        answers_compared_with=counts.compared_with,
        head=kept.head,
        search_images=kept.images,
        float_correct=kept.correct if kept.has_labels and not mean else None,
        chosen_as_written=None if written is None else _seen(written, labels=kept.has_labels),
        points=tuple(_kept(kept, point, counts) for point in kept.points),
        float_mean=kept.correct / kept.images if mean else UNSET,
    )


def _kept(kept: KeptFrontier, point: KeptPoint, counts: "_Counts") -> parts.KeptPart:
    return parts.KeptPart(
        chosen=point.chosen,
        dominated=kept.dominated(point),
        compression=point.plan.compression,
        mean_bits=point.plan.mean_bits,
        file_bytes=point.file_bytes,
        file_bytes_are="measured" if point.chosen else "estimated",
        phase=point.phase,
        trial=point.trial,
        rejected=point.rejected,
        predicted_kl_nats=point.predicted,
        measured_kl_nats=point.kl,
        change=kept.change(point),
        search=None if point.paired is None else _seen(point.paired, labels=kept.has_labels),
        plan_sha256=point.plan.sha256,
        **counts.of(point.correct, kept.images),
    )


@dataclass(frozen=True)
class _Counts:
    """What a score counts: right answers, those of the float model; or the mean of a metric."""

    has_labels: bool
    metric: str | None

    @property
    def compared_with(self) -> str:
        if self.metric is not None:
            return f"labels, by {self.metric}"
        return doc.LABELS if self.has_labels else "the float model's own answers"

    def of(self, correct: float | None, images: int) -> dict[str, float | None]:
        if self.metric is not None:
            return {"mean": None if correct is None else correct / images}
        return {"correct" if self.has_labels else "same": correct}

    def score(self, score: Score) -> parts.Score:
        return parts.Score(
            total=score.total,
            measured=score.measured,
            loss=score.loss,
            **self.of(score.correct, score.total),
        )


def _part(value: object, kind: type[T]) -> T:
    """The fields of a part from attributes of the same names."""
    return msgspec.convert(value, kind, from_attributes=True)


def _maybe(value: object, kind: type[T]) -> T | None:
    return None if value is None else _part(value, kind)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _workload(result: BenchResult) -> parts.BenchPart:
    rows = [
        parts.BenchRowPart(
            model=str(row.model),
            folded=row.folded,
            file_bytes=row.file_bytes,
            load=row.load,
            peak_bytes=row.peak_bytes,
            latency={str(b): spread for b, spread in zip(result.batches, row.latency, strict=True)},
        )
        for row in result.rows
    ]
    return parts.BenchPart(threads=result.threads, rounds=result.rounds, rows=tuple(rows))


def _origin(origin: Origin) -> parts.OriginPart:
    return parts.OriginPart(
        processor=origin.there, processor_here=origin.here, summary=wording.origin(origin)
    )


def _seen(paired: Pairing, *, labels: bool) -> parts.Compared:
    """Float against a plan on the calibration images."""
    if isinstance(paired, Paired) and not labels:
        return _agreed(paired.total, paired.after)
    return _pairing(paired)


def _pairing(paired: Pairing) -> parts.Compared:
    if isinstance(paired, Paired):
        return _part(paired, parts.Compared)
    return parts.Compared(
        total=paired.total,
        metric=paired.name,
        mean_before=paired.before,
        mean_after=paired.after,
        broken=paired.broken,
        fixed=paired.fixed,
        change=paired.change,
        interval=paired.interval,
    )


def _agreed(images: int, same: int) -> parts.Compared:
    """How many images are answered as the float model does."""
    return parts.Compared(
        total=images,
        same=same,
        agreement=same / images,
        agreement_interval=exact_interval(same, images),
    )


def _comparison(comparison: Comparison, reference: str = wording.FLOAT_MODEL) -> parts.Compared:
    right = comparison.metric or comparison.top1
    agreed = _agreed(comparison.images, comparison.same)
    return replace(
        agreed if right is None else _pairing(right),
        top5=_maybe(comparison.top5, parts.Compared),
        same=agreed.same,
        agreement=agreed.agreement,
        agreement_interval=agreed.agreement_interval,
        kl=comparison.kl,
        summary=tuple(wording.summary(comparison, reference)),
    )


def _verdict(claim: Verdict, report: Comparison, next_command: str | None) -> parts.VerdictPart:
    return parts.VerdictPart(
        outcome=claim.outcome,
        summary=wording.verdict(claim, report),
        reason=claim.reason,
        asked=claim.asked,
        interval=claim.interval,
        coverage=claim.coverage,
        looks=claim.looks,
        images_needed=claim.images_needed,
        next_command=next_command,
    )


def _sensitivity(summary: results.SensitivitySummary) -> parts.SensitivityPart:
    """With widths as they are shown."""
    return replace(
        _part(summary, parts.SensitivityPart),
        agreement=tuple(
            replace(_part(each, parts.AgreementPart), bits=shown(each.bits))
            for each in summary.agreement
        ),
        exact_delta_loss=tuple(map(shown, summary.exact_delta_loss)),
        exact_kl=tuple(map(shown, summary.exact_kl)),
    )


def _plan(plan: BitPlan, coded: Mapping[str, CodedLayer] | None = None) -> parts.PlanPart:
    return parts.PlanPart(
        compression=plan.compression,
        mean_bits=plan.mean_bits,
        parameters=plan.parameters,
        layers={name: tuple(map(shown, bits)) for name, bits in plan.listed().items()},
        coded={name: _part(each, parts.CodedPart) for name, each in coded.items()}
        if coded
        else UNSET,
    )


def _point(point: Point, counts: "_Counts") -> parts.PointPart:
    return parts.PointPart(
        trial=point.trial,
        phase=point.phase,
        bits=None if point.bits is None else shown(point.bits),
        compression=point.plan.compression,
        saved_parameters=point.plan.saved_parameters,
        **asdict(counts.score(point.score)),
    )


def _trial(trial: Trial, counts: "_Counts") -> parts.TrialPart:
    paired, labels = trial.paired, counts.has_labels or counts.metric is not None
    part = parts.TrialPart(
        number=trial.number,
        phase=trial.phase,
        bar=trial.bar,
        decision=trial.decision,
        reason=trial.reason,
        compression=trial.compression,
        changed=None if paired is None or labels else paired.broken,
        broken=paired.broken if paired is not None and labels else None,
        fixed=paired.fixed if paired is not None and labels else None,
        predicted_kl_nats=trial.predicted,
        measured_kl_nats=trial.kl,
        **asdict(counts.score(trial.score)),
    )
    return part if trial.ranked is None else _with_semilayer(part, trial.ranked)


def _with_semilayer(part: parts.TrialPart, ranked: Ranked) -> parts.TrialPart:
    semilayer = ranked.semilayer
    return replace(
        part,
        layer=semilayer.layer,
        sign=semilayer.sign,
        channels=channel_ranges(semilayer.channels),
        bits=shown(semilayer.bits),
        kl_nats=ranked.kl,
        sensitivity=ranked.sensitivity,
    )
