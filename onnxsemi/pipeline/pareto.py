"""``pareto``: the points that a run has kept; and keeping them."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.data.load import Data
from onnxsemi.emit.profile import Profile
from onnxsemi.measure.paired import Paired
from onnxsemi.pipeline.found import Found
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.plan import BitPlan
from onnxsemi.plan_file import PlanFile
from onnxsemi.points.file import read_frontier, write_frontier
from onnxsemi.points.frontier import KeptFrontier, KeptPoint, Source, by_size
from onnxsemi.search.frontier import GROUP_BYTES, predicted
from onnxsemi.search.settings import SearchMethod
from onnxsemi.search.trajectory import Decision
from onnxsemi.search.walk import every_stop

CHANNEL_BYTES = 5
"""Scale and zero point of a quantized channel."""


def pareto(run: str | os.PathLike[str]) -> KeptFrontier:
    """The points that a run of :func:`compress` has kept: any of them can be written by ``apply``.

    Args:
        run: The run's folder.

    Raises:
        RunError: If it is no run's folder, or the run has not come so far.
    """
    return read_frontier(Path(run))


def keep_points(
    prepared: Prepared,
    found: Found,
    document: PlanFile,
    inputs: tuple[str | os.PathLike[str], Data],
    written: tuple[Path, Path],
) -> None:
    """Write the frontier into the run's folder.

    Args:
        prepared: Model, images, settings.
        found: What the search came to.
        document: The chosen plan's file.
        inputs: The model, and the images that were searched on.
        written: The run's folder, and the file that the search wrote.
    """
    settings, (folder, output) = prepared.settings, written
    known = {point.plan.sha256: point for point in _points(prepared, found)}.values()
    chosen, size = found.chosen.plan, output.stat().st_size
    points = [
        replace(
            point,
            chosen=point.plan == chosen,
            file_bytes=size + _longer(point.plan, chosen, settings.profile),
        )
        for point in known
    ]
    integers = settings.profile.quantizes_activations
    kept = KeptFrontier(
        document=replace(document, evidence=None),
        source=_source(prepared, *inputs),
        method=settings.search.method,
        profile=settings.profile,
        has_labels=prepared.has_labels,
        images=found.search.total,
        correct=found.search.before,
        as_written=found.search if integers else None,
        points=by_size(points),
    )
    write_frontier(kept, folder)


def _points(prepared: Prepared, found: Found) -> Iterator[KeptPoint]:
    """Every plan that saves something; of those that come again, the last tells most."""
    harm = found.sensitivity.harm
    if prepared.settings.search.method is SearchMethod.FRONTIER and harm is not None:
        for plan in every_stop(prepared.start(), prepared.free(), harm):
            yield KeptPoint(plan=plan, predicted=predicted(plan, harm), file_bytes=0)
    trials = {trial.number: trial for trial in found.trajectory.trials}
    rejected = [
        (t.plan, str(t.phase), t.number, t.reason, t.score)
        for t in trials.values()
        if t.plan is not None and t.decision is Decision.REJECTED
    ]
    reached = [
        (p.plan, str(p.phase), p.trial, None, p.score)
        for p in (*found.trajectory.points, found.chosen)
    ]
    for plan, phase, trial, reason, score in (*rejected, *reached):
        if not plan.saved_parameters:
            continue
        tested = found.checker.known(plan)
        yield KeptPoint(
            plan=plan,
            phase=phase,
            trial=trial or None,
            rejected=reason,
            correct=score.correct if tested is None else tested.score.correct,
            paired=None if tested is None else Paired.of(found.before, tested.right),
            predicted=None if harm is None else predicted(plan, harm),
            file_bytes=0,
        )


def _source(prepared: Prepared, model: str | os.PathLike[str], data: Data) -> Source:
    return Source(
        model=Path(model).absolute(),
        data=Path(data).absolute() if isinstance(data, str | os.PathLike) else None,
        options=prepared.settings.data,
    )


def _longer(plan: BitPlan, other: BitPlan, profile: Profile) -> int:
    """By how many bytes a plan's file is longer than another's: estimated."""
    return 0 if profile is Profile.FAKE else _bytes(plan) - _bytes(other)


def _bytes(plan: BitPlan) -> int:
    """What codes, scales and groups of channels take."""
    scaled = sum(bit not in (0, FLOAT_BITS) for bits in plan.bits.values() for bit in bits)
    groups = sum(len(set(bits)) for bits in plan.bits.values())
    return plan.weight_bits // 8 + CHANNEL_BYTES * scaled + GROUP_BYTES * groups
