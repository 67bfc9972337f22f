"""What a search did: every decision with its reason, every plan passed through, the choice."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.correction import Prediction
from onnxsemi._search.protocols import Score
from onnxsemi._search.ranking import Ranked
from onnxsemi._stats.pairing import Pairing

OUT_OF_TIME = "the time budget ended"
FEW_CHANGES = "few enough answers change"
"""What a quick look says of a plan that is not refused."""


class Phase(StrEnum):
    """Part of the search that a step belongs to."""

    START = "start"
    """The float model, with pinned layers at their bitwidths."""
    ACCURACY_INCREASING = "increasing"
    """The paper's accuracy-increasing phase: a semilayer is kept only if accuracy does not fall."""
    POSTPONING = "postponing"
    """What is still float32 is quantized step by step, without a test."""
    UNIFORM = "uniform"
    """One bitwidth for all channels."""
    SCOUTING = "scouting"
    """Plans of the frontier, looked at quickly: where to measure."""
    FRONTIER = "frontier"
    """Plans of the frontier, measured: from where they are expected to be the smallest that hold,
    ahead or back."""
    LAYERS = "layers"
    """A plan of the same size, with one KL increase for all channels of a layer."""
    DESCENT = "descent"
    """Semilayers lowered from the best plan of the frontier, each tested."""


class Decision(StrEnum):
    """What became of a trial."""

    KEPT = "kept"
    """Accuracy reached the bar: the bitwidth stays."""
    POSTPONED = "postponed"
    """Accuracy fell below the bar: the previous bitwidths are restored."""
    UNDONE = "undone"
    """Kept at first; taken back when the check on all images found too few right."""
    QUANTIZED = "quantized"
    """Postponing phase: quantized without a test."""
    SCOUTED = "scouted"
    """Frontier: looked at quickly; what is taken is measured."""
    REJECTED = "rejected"
    """Frontier: the answers on the calibration images speak against the plan."""


@dataclass(frozen=True)
class Trial:
    """One decision.

    Attributes:
        number: Counted from 1 over the whole search.
        phase: Part of the search.
        ranked: The semilayer with its KL and sensitivity; None for a plan of the frontier. In the
            descent these are the predicted KL increase, added and for each bit saved.
        score: Measured with the semilayer quantized, on the images whose answer may change. Where
            the trial was broken off, ``correct`` is the most that it could have been.
        bar: Correct answers that were asked for; None where nothing was asked.
        decision: What became of it.
        reason: Why, in words.
        compression: The paper's ratio of the plan that was tried; None where the semilayer says it.
        plan: The plan that was tried, likewise.
        paired: Float against the plan, where all images were looked at.
        predicted: For the frontier: the KL that was predicted of the plan before it was measured,
            nats per sample.
        kl: Its measured mean KL, over the images that nothing was fitted to.
    """

    number: int
    phase: Phase
    ranked: Ranked | None
    score: Score
    bar: float | None
    decision: Decision
    reason: str
    compression: float | None = None
    plan: BitPlan | None = None
    paired: Pairing | None = None
    predicted: float | None = None
    kl: float | None = None


@dataclass(frozen=True)
class Point:
    """A plan that the search passed through.

    Attributes:
        plan: Bits of every target channel.
        score: Measured on the calibration images: on all of them if ``score.in_full``, else on
            those whose answer may have changed.
        phase: Part of the search that reached it.
        bits: Bitwidth of the step that reached it; None at the start.
        trial: Number of the trial that reached it; 0 at the start.
    """

    plan: BitPlan
    score: Score
    phase: Phase
    bits: int | None = None
    trial: int = 0


@dataclass(frozen=True)
class Trajectory:
    """Everything that a search did.

    Attributes:
        baseline: Score of the float model.
        points: Every plan kept or passed through, in the order of the search. The postponing
            phase gives one branch for each bitwidth, all from the same start.
        trials: Every decision.
        stop: Why the search, or its accuracy-increasing phase, ended.
        prediction: For the frontier: what plans are predicted to cost, as it was corrected.
        redrawn: Each time that the frontier was drawn anew: why, and what was corrected.
        points_between: Every plan of the frontier as drawn last, widest first, measured or not.
    """

    baseline: Score
    points: tuple[Point, ...]
    trials: tuple[Trial, ...]
    stop: str
    prediction: Prediction | None = field(default=None, compare=False)
    redrawn: tuple[str, ...] = ()
    points_between: tuple[BitPlan, ...] = field(default=(), compare=False, repr=False)

    @property
    def out_of_time(self) -> bool:
        """Whether there would have been more to try."""
        return self.stop == OUT_OF_TIME

    @property
    def smallest(self) -> Point:
        """The most compressed point, whatever its accuracy."""
        return smallest(self.points)

    def choose(self, max_drop: float) -> Point:
        """The most compressed point whose accuracy is at most ``max_drop`` points below float32."""
        return best_point(self.points, self.baseline, max_drop)

    def holding(self, max_drop: float) -> list[Point]:
        """Points that hold the accuracy and save something, most compressed first; a plan once."""
        return saving(_holding(self.points, self.baseline, max_drop))


def best_point(points: Sequence[Point], baseline: Score, max_drop: float) -> Point:
    """The most compressed point that holds the accuracy; of equals the most accurate, then first.

    Args:
        points: At least one of them holds the accuracy, or the first is returned.
        baseline: Score of the float model on the same images.
        max_drop: Percentage points of top-1 accuracy that may be lost.
    """
    return smallest(_holding(points, baseline, max_drop) or points[:1])


def smallest(points: Sequence[Point]) -> Point:
    """The most compressed point; of equals the most accurate, then first."""
    return max(points, key=lambda p: (p.plan.compression, p.score.correct))


def saving(points: Sequence[Point]) -> list[Point]:
    """Points that save something, most compressed first; a plan once."""
    plans: dict[BitPlan, Point] = {}
    for point in points:
        if point.plan.saved_parameters:
            plans.setdefault(point.plan, point)
    return sorted(plans.values(), key=lambda p: (-p.plan.compression, -p.score.correct))


def _holding(points: Sequence[Point], baseline: Score, max_drop: float) -> list[Point]:
    allowed = max_drop / 100 * baseline.total + 1e-9  # right answers that may be lost
    return [point for point in points if baseline.correct - point.score.correct <= allowed]
