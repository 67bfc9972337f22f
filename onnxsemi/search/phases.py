"""The two phases of the search (paper, section 3.4 and Algorithm 1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onnxsemi.measure.seam import Evaluator, Score
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress
from onnxsemi.search.ranking import Ranked
from onnxsemi.search.trajectory import Decision, Phase, Point, Trial, best_point


@dataclass
class Walk:
    """A search under way: the evaluator and the record of what was done so far.

    Attributes:
        evaluator: Measures plans.
        progress: Told of every trial and of the best point.
        baseline: Score of the float model.
        max_drop: Percentage points that the final choice may lose.
        trials: Every decision so far.
        points: Every plan passed through so far.
    """

    evaluator: Evaluator
    progress: Progress
    baseline: Score
    max_drop: float
    trials: list[Trial] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    def reach(self, point: Point) -> None:
        """Record a plan that the search passes through."""
        self.points.append(point)
        best = best_point(self.points, self.baseline, self.max_drop)
        self.progress.best(best.plan.compression, best.score.accuracy)

    def record(self, phase: Phase, ranked: Ranked, score: Score, verdict: "Verdict") -> None:
        """Record a decision."""
        number = len(self.trials) + 1
        trial = Trial(number, phase, ranked, score, verdict.bar, verdict.decision, verdict.reason)
        self.trials.append(trial)
        self.progress.step(str(ranked.semilayer))


@dataclass(frozen=True)
class Verdict:
    """What was decided about one trial, and why."""

    decision: Decision
    reason: str
    bar: int | None = None


def accuracy_increasing(
    walk: Walk, start: BitPlan, ranked_by_bits: Mapping[int, Sequence[Ranked]]
) -> tuple[BitPlan, str]:
    """Keep whatever does not lower accuracy, from the widest bitwidth to the narrowest.

    The bar starts at the float model's correct answers and rises with every semilayer that is kept.
    A semilayer that falls below it gets back the bitwidths that its channels had. The phase ends
    after the first bitwidth at which no semilayer was kept. (Reaching the bar counts: were a rise
    above it asked for, a model whose answers 8 bits leave all unchanged would stop at 8 bits.)

    Args:
        walk: Evaluator and record.
        start: The plan to start from.
        ranked_by_bits: Bitwidth -> semilayers in the order to try; widest bitwidth first.

    Returns:
        The plan reached, and why the phase ended.
    """
    plan, bar = start, walk.baseline.correct
    for bits, ranked in ranked_by_bits.items():
        before = plan
        walk.progress.start(f"accuracy-increasing phase, {bits} bits", len(ranked))
        for item in ranked:
            candidate = plan.with_semilayer(item.semilayer)
            score = walk.evaluator.score(candidate)
            verdict = _test(score, bar)
            walk.record(Phase.ACCURACY_INCREASING, item, score, verdict)
            if verdict.decision is Decision.KEPT:
                plan, bar = candidate, score.correct
                number = len(walk.trials)
                walk.reach(Point(plan, score, Phase.ACCURACY_INCREASING, bits, number))
        if plan is before:
            return plan, f"{bits} bits raised nothing: no semilayer reached the bar"
    return plan, "every bitwidth of the ladder was tried"


def postponing(walk: Walk, start: BitPlan, ranked: Sequence[Ranked], bits: int) -> None:
    """Quantize one postponed semilayer after the other, with no test and no restoring.

    Args:
        walk: Evaluator and record.
        start: The plan that the accuracy-increasing phase reached.
        ranked: Semilayers of the channels that are still float32, in the order to quantize.
        bits: The one bitwidth that they take.
    """
    walk.progress.start(f"postponing phase, {bits} bits", len(ranked))
    plan = start
    for item, candidate in zip(ranked, _cumulative(plan, ranked), strict=True):
        score = walk.evaluator.score(candidate)
        verdict = Verdict(Decision.QUANTIZED, "postponing phase: quantized without a test")
        walk.record(Phase.POSTPONING, item, score, verdict)
        walk.reach(Point(candidate, score, Phase.POSTPONING, bits, len(walk.trials)))


def unsettled(plan: BitPlan, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Channels of the given layers that are still float32."""
    return {layer: plan.float_channels(layer) for layer in layers if plan.float_channels(layer)}


def _cumulative(plan: BitPlan, ranked: Sequence[Ranked]) -> Iterator[BitPlan]:
    for item in ranked:
        plan = plan.with_semilayer(item.semilayer)
        yield plan


def _test(score: Score, bar: int) -> Verdict:
    if score.correct >= bar:
        gained = score.correct - bar
        return Verdict(Decision.KEPT, f"{gained} more than the bar of {bar} correct", bar)
    lost = bar - score.correct
    return Verdict(Decision.POSTPONED, f"{lost} fewer than the bar of {bar} correct", bar)
