"""``pareto``: the points that a run has kept; and keeping them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import structs

from onnxsemi._emit.profile import Profile
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.search_outcome import SearchOutcome, SearchRecord
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._plan.groups import GROUP_BYTES, SCALE_BITS
from onnxsemi._run.frontier import KeptFrontier, KeptPoint, Source, by_size
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._run.plan_file import PlanFile
from onnxsemi._search.correction import Prediction
from onnxsemi._search.trajectory import Decision, Point
from onnxsemi._stats.pairing import Pairing, pair


def pareto(run: str | os.PathLike[str]) -> KeptFrontier:
    """The points that a run of :func:`compress` has kept: any of them can be written by ``apply``.

    Args:
        run: The run's folder.

    Raises:
        RunError: If it is no run's folder, or the run has not come so far.
    """
    return read_frontier(Path(run))


@dataclass(frozen=True)
class Anchor:
    """The plan that a frontier is kept with.

    Attributes:
        document: The plan's file, with what is needed to apply it.
        plan: The plan.
        file_bytes: Size of its model file: the sizes of the others follow from it.
        search: Float against it on the calibration images as it is to run; None if it was not
            written.
        others: Points that did not hold as they were to run, each with what speaks against it.
    """

    document: PlanFile
    plan: BitPlan
    file_bytes: int
    search: Pairing | None = None
    others: Sequence[tuple[Point, str]] = ()


def kept_frontier(prepared: Prepared, searched: SearchRecord, anchor: Anchor) -> KeptFrontier:
    """Every point of a run.

    Args:
        prepared: Model, images, settings.
        searched: What the search did.
        anchor: The plan that was written; or the best, if none held.
    """
    settings, baseline = prepared.settings, searched.trajectory.baseline
    known = {point.plan: point for point in _points(searched, anchor)}
    own = _bytes(anchor.plan, settings.profile)
    points = [
        replace(
            point,
            chosen=point.plan == anchor.plan and anchor.search is not None,
            file_bytes=anchor.file_bytes + _bytes(point.plan, settings.profile) - own,
        )
        for point in known.values()
    ]
    integers = settings.profile.quantizes_activations
    return KeptFrontier(
        document=structs.replace(anchor.document, evidence=None),
        source=_source(prepared),
        method=prepared.strategy.name,
        profile=settings.profile,
        guard=prepared.guard,
        has_labels=prepared.has_labels,
        head=prepared.classifier.ends.head,
        images=baseline.total,
        correct=baseline.correct,
        as_written=anchor.search if integers else None,
        points=by_size(points),
    )


def _points(searched: SearchRecord, anchor: Anchor) -> Iterator[KeptPoint]:
    """Every plan that saves something; of those that come again, the last tells most."""
    trajectory = searched.trajectory
    prediction, kl_increase = trajectory.prediction, searched.sensitivity.kl_increase
    if prediction is None and kl_increase is not None:
        prediction = Prediction(kl_increase)

    def predicted(plan: BitPlan) -> float | None:
        return None if prediction is None else prediction.of(plan)

    for plan in trajectory.points_between:
        yield KeptPoint(plan=plan, predicted=predicted(plan), file_bytes=0)
    rejected = [
        (Point(t.plan, t.score, t.phase, trial=t.number), t.reason)
        for t in trajectory.trials
        if t.plan is not None and t.decision is Decision.REJECTED
    ]
    reached = [(point, None) for point in trajectory.points]
    if isinstance(searched, SearchOutcome):
        reached.append((searched.chosen, None))
    for point, reason in (*rejected, *reached, *anchor.others):
        plan = point.plan
        if not plan.saved_parameters:
            continue
        tested = searched.checker.known(plan)
        yield KeptPoint(
            plan=plan,
            phase=str(point.phase),
            trial=point.trial or None,
            rejected=reason,
            correct=point.score.correct if tested is None else tested.score.correct,
            paired=None if tested is None else pair(searched.before, tested.judged),
            kl=None if tested is None else tested.kl,
            predicted=predicted(plan),
            file_bytes=0,
        )


def _source(prepared: Prepared) -> Source:
    settings, paths = prepared.settings, prepared.files
    model, data, report = (None if path is None else path.absolute() for path in paths)
    return Source(
        model=model,
        data=data,
        options=settings.data,
        report=report,
        test_labels=None if settings.test_labels is None else os.fspath(settings.test_labels),
        test_fraction=settings.test_fraction if prepared.splits else None,
        seed=settings.seed,
    )


def _bytes(plan: BitPlan, profile: Profile) -> int:
    """What codes, scales and groups of channels take: estimated; with float32 weights, nothing."""
    if profile is Profile.FAKE:
        return 0
    scaled = int((~np.isin(plan.channel_bits, (0, FLOAT_BITS))).sum())
    groups = sum(len(np.unique(bits)) for bits in plan.bits.values())
    return plan.weight_bits // 8 + SCALE_BITS // 8 * scaled + GROUP_BYTES * groups
