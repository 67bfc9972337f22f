"""Which point of a search is written: the most compressed one that holds as it is to run.

A search measures plans with float32 activations and whatever number of channels at each bitwidth.
What is written may have uint8 activations, or bitwidths rounded up to blocks of channels; and the
paper's search compares counts of right answers, whatever guarantee is asked for. Points are
measured as they are written, from the most compressed one on, until the guard has nothing against
one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

from onnxsemi._arrays import BoolArray
from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._emit.model import emit
from onnxsemi._evaluation.workload import Workload
from onnxsemi._pipeline.output import UNWRITABLE, Writer, not_given
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.rounding import Codes
from onnxsemi._pipeline.search_outcome import SearchOutcome, SearchRecord
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Progress, warn
from onnxsemi._run.journal import Journal, Question
from onnxsemi._search.align import aligned
from onnxsemi._search.protocols import Closeness, Recalling
from onnxsemi._search.trajectory import Point, Trajectory
from onnxsemi._stats.metric import Values
from onnxsemi._stats.pairing import Pairing, PerImage, pair


@dataclass(frozen=True)
class JudgedPoint:
    """A point as it is written, and what the guard says of it.

    Attributes:
        point: Its plan and its score with float32 activations, on all calibration images if it
            holds.
        paired: Float against the plan on the calibration images as it is to run; with float32
            activations if its file cannot be run.
        close: How close the plan is to the float model.
        objection: What speaks against it; None if nothing does.
        unwritable: Whether that is its file.
    """

    point: Point
    paired: Pairing
    close: Closeness | None
    objection: str | None
    unwritable: bool = False


class OnIntegers(Question, frozen=True):
    """A plan, by its digest, on integer kernels; and the metric that it is judged by."""

    plan: str
    metric: str | None


@dataclass(frozen=True, eq=False)
class Seen:
    """What is seen of a plan on all calibration images.

    Attributes:
        right: bool[N], whether the answer is the label.
        close: How close it is to the float model.
        values: What a metric gives on the images; None without one.
    """

    right: BoolArray
    close: Closeness | None
    values: Values | None = None


def objections(judged: Iterable[JudgedPoint]) -> list[tuple[Point, str]]:
    """Points with what speaks against each."""
    return [(item.point, item.objection or "") for item in judged]


@dataclass(frozen=True, eq=False)
class Chooser:
    """Measures points as they are to run.

    Attributes:
        prepared: Model, calibration images, settings.
        codes: Where codes come from.
        writer: Writes plans in the profile that was asked for.
        checker: Measures plans with float32 activations.
        before: Which calibration images the float model answers rightly; or its values of the
            metric.
        journal: Recalls and keeps what is measured.
    """

    prepared: Prepared
    codes: Codes
    writer: Writer
    checker: Recalling
    before: PerImage
    journal: Journal

    def choose(self, trajectory: Trajectory, progress: Progress) -> list[JudgedPoint]:
        """Points as they are written, the most compressed first, down to the first that holds.

        Args:
            trajectory: What the search did.
            progress: Told of every point, if what is asked of them differs from what was searched.

        Returns:
            The last has no objection; unless none holds.
        """
        prepared, judged = self.prepared, list[JudgedPoint]()
        points = prepared.strategy.holding(trajectory)
        differs = self.as_written or prepared.guard.asked_again
        if differs:
            progress.start("choice", len(points))
        for point in points:
            judged.append(self.judge(point))
            if differs:
                plan, paired = judged[-1].point.plan, judged[-1].paired
                progress.step(f"{plan.compression:.2%} smaller: {paired.levels[1]}")
            if judged[-1].objection is None:
                break
            if judged[-1].unwritable:
                smaller = judged[-1].point.plan.compression
                warn(
                    progress, [f"{smaller:.2%} smaller, left for the next: {judged[-1].objection}"]
                )
        return judged

    def judge(self, point: Point) -> JudgedPoint:
        """A point as it is written."""
        plan = self._rounded_up(point.plan)
        try:
            seen, close = self._seen(plan)
        except UNWRITABLE as error:
            return self._unwritable(replace(point, plan=plan), error)
        paired = pair(self.before, seen)
        objection = self.prepared.guard.against(paired, close)
        score = self.checker.check(plan).score if objection is None else point.score
        point = replace(point, plan=plan, score=score)
        if objection is not None or plan.saved_parameters == 0:
            return JudgedPoint(point, paired, close, objection)
        refused = self.writer.refusal(self.codes.rounder(plan))
        return JudgedPoint(point, paired, close, refused, unwritable=refused is not None)

    def _unwritable(self, point: Point, error: Exception) -> JudgedPoint:
        """A point that integer kernels cannot run: it is known with float32 activations only."""
        tested = self.checker.check(point.plan)
        paired = pair(self.before, tested.judged)
        return JudgedPoint(point, paired, tested.close, not_given(error), unwritable=True)

    @property
    def ranges(self) -> ActivationRanges | None:
        """Ranges of the activations, if those are quantized."""
        return self.writer.ranges

    @property
    def as_written(self) -> bool:
        """Whether what is written differs from what was searched."""
        return self.ranges is not None or self.prepared.settings.align > 1

    @property
    def conditions(self) -> tuple[str, str]:
        """Under what conditions plans were measured, and what could be done about that."""
        if self.ranges is not None:
            other = "try another `calibration`, or leave activations float32 with `profile` fast"
            kind = self.prepared.settings.profile.activation_type
            return f"with activations in {kind} ", other
        align = self.prepared.settings.align
        if align > 1:
            blocks = f"with bitwidths rounded up to blocks of {align} channels "
            return blocks, "leave `align` away"
        return "", "give more images, or begin with wider `bits`"

    def _rounded_up(self, plan: BitPlan) -> BitPlan:
        settings = self.prepared.settings
        free = set(self.prepared.free())
        layers = [layer for layer in self.prepared.classifier.layers if layer.name in free]
        return aligned(plan, layers, self.codes.rounding, settings.align)

    def _seen(self, plan: BitPlan) -> tuple[PerImage, Closeness | None]:
        """What a plan is judged by as it is to run, calibration image by image; how close it is."""
        if self.ranges is None:
            tested = self.checker.check(plan)
            return tested.judged, tested.close
        asked, ranges = OnIntegers(plan.sha256, self.prepared.metric_id), self.ranges
        seen = self.journal.ask(asked, Seen, lambda: self._on_integers(plan, ranges))
        return seen.right if seen.values is None else seen.values, seen.close

    def _on_integers(self, plan: BitPlan, ranges: ActivationRanges) -> Seen:
        """A plan's answers on integer kernels."""
        written = partial(emit, profile=self.prepared.settings.profile, ranges=ranges)
        found = self.codes.folds.outcomes(plan, written, integers=True)
        tested = found.tested(self.prepared.unseen)
        return Seen(tested.right, tested.close, tested.values)

    @property
    def _workload(self) -> Workload:
        return self.writer.workload


@dataclass(frozen=True, eq=False)
class Judged:
    """Points of a search as they are to run.

    Attributes:
        searched: What the search did.
        chooser: What they were measured by.
        points: The most compressed first, down to the first that holds.
    """

    searched: SearchRecord
    chooser: Chooser
    points: list[JudgedPoint]

    @property
    def outcome(self) -> SearchOutcome | None:
        """The first that holds; None if none does."""
        if not self.points or self.points[-1].objection is not None:
            return None
        *refused, taken = self.points
        return SearchOutcome(
            **vars(self.searched),
            chosen=taken.point,
            search=taken.paired,
            close=taken.close,
            refused=objections(refused),
        )
