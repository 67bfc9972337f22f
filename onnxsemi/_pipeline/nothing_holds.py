"""What is given where no plan holds what was asked: the best of those that were measured.

The *best* is the plan that needs the least to be allowed more: the one with the least ``max_drop``
at which nothing speaks against it, neither the guard of the search nor that of the choice; of
equals the most compressed. That figure is found by asking the guards themselves, so that a run that
is taken up with it takes the plan. A plan whose file cannot be given is the best only if there is
no other: it needs another profile then.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._errors import AccuracyError
from onnxsemi._pipeline.output import UNWRITABLE
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.search_outcome import SearchRecord
from onnxsemi._pipeline.selection import Chooser, JudgedPoint
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._results import wording
from onnxsemi._run.frontier import KeptFrontier
from onnxsemi._run.nothing_holds import NothingHoldsError
from onnxsemi._search.few_images import images_to_show
from onnxsemi._search.trajectory import Decision, Point
from onnxsemi._stats.pairing import pair


@dataclass(frozen=True)
class Best:
    """The best plan that was measured.

    Attributes:
        judged: The plan as it would be written.
        max_drop: The least allowed drop at which nothing speaks against it, percentage points.
    """

    judged: JudgedPoint
    max_drop: float


def best_measured(chooser: Chooser, searched: SearchRecord, refused: list[JudgedPoint]) -> Best:
    """The plan that needs the least to be allowed more.

    Args:
        chooser: Measures plans as they are to run.
        searched: What the search did.
        refused: Points that the search took and the choice did not.

    Raises:
        AccuracyError: If no plan was measured that saves anything.
    """
    candidates = _candidates(chooser.prepared, searched, known=bool(refused))
    judged = [*refused, *map(chooser.judge, candidates)]
    if not judged:
        count, asks = searched.trajectory.baseline.total, chooser.prepared.guard.asks
        raise AccuracyError(
            f"nothing could be compressed with {asks} on {count:,} calibration images, and no "
            "plan was measured that saves anything: begin with wider `bits`, or leave `pins` away"
        )
    ranked = [(item.unwritable, _needed(chooser, searched, item), item) for item in judged]
    _, least, best = min(ranked, key=lambda item: (*item[:2], -item[2].point.plan.compression))
    score = searched.checker.check(best.point.plan).score
    point = replace(best.point, score=score)
    objection = best.objection or "the search went by the answers that it looked at"
    return Best(replace(best, point=point, objection=objection), least)


def _candidates(prepared: Prepared, searched: SearchRecord, *, known: bool) -> list[Point]:
    """The best plan that the search measured and rejected, if there is one.

    Where the choice knows of no point, it may be one that the search passed through: the paper's
    goes on through plans that do not hold.
    """
    trajectory = searched.trajectory
    points = [
        Point(trial.plan, trial.score, trial.phase, trial=trial.number)
        for trial in trajectory.trials
        if trial.plan is not None and trial.decision is Decision.REJECTED
    ]
    if not known:
        points += [point for point in trajectory.points if point.plan.saved_parameters]
    ranked = sorted(
        points, key=lambda p: (_searched_drop(prepared, searched, p), -p.plan.compression)
    )
    return ranked[:1]


def _needed(chooser: Chooser, searched: SearchRecord, judged: JudgedPoint) -> float:
    """The least drop at which both the search and the choice take a plan."""
    chosen = chooser.prepared.guard.least_drop(judged.paired, judged.close)
    return max(chosen, _searched_drop(chooser.prepared, searched, judged.point))


def _searched_drop(prepared: Prepared, searched: SearchRecord, point: Point) -> float:
    """The least drop at which the search takes a point, in hundredths of a percentage point.

    A search without guards goes by its count of right answers alone.
    """
    guards = prepared.strategy.guards(has_labels=prepared.has_labels)
    tested = searched.checker.known(point.plan)
    if tested is None or not guards:
        fewer = searched.trajectory.baseline.correct - point.score.correct
        return max(0, -(-10_000 * fewer // point.score.total)) / 100
    paired = pair(searched.before, tested.judged)
    return max(guard.least_drop(paired, tested.close) for guard in guards)


def file_bytes(prepared: Prepared, plan: BitPlan, ranges: ActivationRanges | None) -> int:
    """Size of a plan's file: codes are other ones, but as many.

    Raises:
        PlanError: If the profile cannot hold it.
    """
    classifier = prepared.classifier
    codes = rounded(classifier.layers, plan, Nearest(prepared.settings.grids))
    model = emit(classifier, codes, prepared.settings.profile, ranges)
    return len(model.SerializeToString())


def estimated_bytes(prepared: Prepared, plan: BitPlan, ranges: ActivationRanges | None) -> int:
    """The same; of a file that cannot be written what its weights and the rest would take."""
    try:
        return file_bytes(prepared, plan, ranges)
    except UNWRITABLE:
        rest = max(0, prepared.classifier.source_bytes - 4 * plan.parameters)
        return rest + plan.weight_bits // 8


def nothing_holds(
    best: Best, frontier: KeptFrontier, chooser: Chooser, run: Path | None
) -> NothingHoldsError:
    """The error that says what holds best, and at which price.

    Args:
        best: The best plan that was measured.
        frontier: Every point.
        chooser: What plans were measured by.
        run: The run's folder; None if nothing is kept.
    """
    return NothingHoldsError(
        " ".join(_sentences(best, frontier, chooser, run)),
        frontier=frontier,
        best=frontier.first,
        max_drop=best.max_drop,
        run=run,
    )


def _sentences(
    best: Best, frontier: KeptFrontier, chooser: Chooser, run: Path | None
) -> Iterator[str]:
    if best.judged.unwritable:
        yield from _in_another_form(best, frontier, chooser, run)
        return
    how, instead = chooser.conditions
    guard = chooser.prepared.guard
    paired, size = best.judged.paired, f"{best.judged.point.plan.compression:.2%}"
    seen = f"{wording.change(paired)} ({paired.broken:,} broken, {paired.fixed:,} fixed)"
    if not frontier.has_labels:
        seen = f"{wording.same(paired)} the same answers"
    yield f"{how}nothing holds {guard.asks} on {paired.total:,} calibration images;"
    yield f"best measured: {size} smaller at {seen}: {best.judged.objection}."
    if guard.few(paired.total):
        needed = images_to_show(guard.asked)
        yield f"To show {guard.asked:g} points it takes about {needed:,} calibration images."
    if run is None:
        yield f"Ask for less with `max_drop` {best.max_drop:g},"
    else:
        profile = chooser.prepared.settings.profile
        form = () if profile is Profile.QDQ else ("--profile", profile)
        words = ("onnxsemi", "apply", str(run), *frontier.source.placeholder, "--at", size, *form)
        yield f"Write it with: {shlex.join(words)} --out FILE;"
        yield f"or ask for less with `resume` `max_drop` {best.max_drop:g}"
        yield "(what was measured is not measured again);"
    yield f"or {instead}"


def _in_another_form(
    best: Best, frontier: KeptFrontier, chooser: Chooser, run: Path | None
) -> Iterator[str]:
    """Of plans that none can be a file in the profile that was asked for."""
    profile = chooser.prepared.settings.profile
    other = Profile.QDQ if profile is Profile.FAST else Profile.FAST
    size = f"{best.judged.point.plan.compression:.2%}"
    yield f"no plan that was measured can be written in `profile` {profile};"
    yield f"the best, {size} smaller: {best.judged.objection}."
    if run is None:
        yield f"Choose another, such as `profile` {other}"
    else:
        words = ("onnxsemi", "apply", str(run), *frontier.source.placeholder, "--at", size)
        yield f"Write it with: {shlex.join(words)} --profile {other} --out FILE"
