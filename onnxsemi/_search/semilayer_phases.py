"""The two phases of the search (paper, section 3.4 and Algorithm 1).

A trial looks only at the images whose answer may change. So the plan that a bitwidth led to is
checked on all images before the next bitwidth begins; if too few are right, the last steps are
undone until the check agrees.

The time may end between two trials or within one. What is under way then is left out; the best plan
so far is measured on all images if it was not, which takes as long as was left for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from onnxsemi._errors import BudgetError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import Evaluator, Score, Tested
from onnxsemi._search.ranking import Ranked
from onnxsemi._search.trajectory import OUT_OF_TIME, Decision, Phase, Point, Trial, best_point


@dataclass
class PhaseRecord:
    """A search under way: the evaluator and the record of what was done so far.

    Attributes:
        evaluator: Measures plans.
        watch: Told of every trial and of the best point; says when to stop.
        baseline: Score of the float model.
        max_drop: Percentage points that the final choice may lose.
        trials: Every decision so far.
        points: Every plan passed through so far.
        ended: Whether the time has ended.
    """

    evaluator: Evaluator
    watch: Watch
    baseline: Score
    max_drop: float
    trials: list[Trial] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    ended: bool = False

    @property
    def out_of_time(self) -> bool:
        """Whether to stop."""
        self.ended = self.ended or self.watch.out_of_time()
        return self.ended

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """What is measured within is left out if the time ends before it is."""
        try:
            yield
        except BudgetError:
            self.ended = True

    @property
    def best(self) -> Point:
        """The most compressed point so far that holds the accuracy."""
        return best_point(self.points, self.baseline, self.max_drop)

    def reach(self, point: Point) -> None:
        """Record a plan that the search passes through."""
        self.points.append(point)
        self.watch.best(self.best)

    def record(self, phase: Phase, ranked: Ranked, score: Score, verdict: "TrialDecision") -> int:
        """Record a decision; gives the number of the trial."""
        number = len(self.trials) + 1
        trial = Trial(number, phase, ranked, score, verdict.bar, verdict.decision, verdict.reason)
        self.trials.append(trial)
        self.watch.progress.step(str(ranked.semilayer))
        return number

    def undo(self, kept: Sequence["KeptSemilayer"], reason: str) -> None:
        """Turn decisions to keep into undone ones, and drop the points that they led to."""
        numbers = {step.trial for step in kept}
        for number in numbers:
            trial = self.trials[number - 1]
            self.trials[number - 1] = replace(trial, decision=Decision.UNDONE, reason=reason)
        self.points = [point for point in self.points if point.trial not in numbers]

    def check(self, plan: BitPlan) -> "Checked":
        """Measure a plan on all images; its point gets that score."""
        checked = Checked(plan, self.evaluator.check(plan))
        self.points = [
            replace(point, score=checked.score) if point.plan is plan else point
            for point in self.points
        ]
        return checked

    def go_on_from(self, checked: "Checked") -> None:
        """Compare the trials to come with a plan that was checked."""
        self.evaluator.keep(checked.plan, checked.tested)


@dataclass(frozen=True, eq=False)
class Checked:
    """A plan measured on all images."""

    plan: BitPlan
    tested: Tested

    @property
    def score(self) -> Score:
        """Its score."""
        return self.tested.score


@dataclass(frozen=True)
class TrialDecision:
    """What was decided about one trial, and why."""

    decision: Decision
    reason: str
    bar: float | None = None


@dataclass(frozen=True, eq=False)
class KeptSemilayer:
    """A semilayer that was kept: the plan that it led to."""

    plan: BitPlan
    trial: int


def accuracy_increasing(
    walk: PhaseRecord, start: Checked, ranked_by_bits: Mapping[int, Sequence[Ranked]]
) -> tuple[Checked, str]:
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
    reached, bar = start, walk.baseline.correct
    for bits, ranked in ranked_by_bits.items():
        walk.go_on_from(reached)
        steps = _try_all(walk, reached.plan, bar, bits, ranked)
        held: Checked | None = None
        with walk.in_time():
            held = None if walk.ended else _longest_holding(walk, steps, bar)
        if held is not None:
            reached, bar = held, held.score.correct
            walk.watch.settled(walk.best)
        if walk.out_of_time:
            return reached, OUT_OF_TIME
        if held is None:
            return reached, f"{bits} bits raised nothing: no semilayer reached the bar"
    return reached, "every bitwidth of the ladder was tried"


def _try_all(
    walk: PhaseRecord, plan: BitPlan, bar: float, bits: int, ranked: Sequence[Ranked]
) -> list[KeptSemilayer]:
    """Try every semilayer of one bitwidth; gives those that were kept."""
    steps: list[KeptSemilayer] = []
    walk.watch.progress.start(f"{Phase.ACCURACY_INCREASING} phase, {bits} bits", len(ranked))
    with walk.in_time():
        for item in ranked:
            if walk.out_of_time:
                break
            candidate = plan.with_semilayer(item.semilayer)
            tested = walk.evaluator.trial(candidate, bar)
            verdict = _test(tested.score, bar)
            number = walk.record(Phase.ACCURACY_INCREASING, item, tested.score, verdict)
            if verdict.decision is Decision.KEPT:
                plan, bar = candidate, tested.score.correct
                walk.evaluator.keep(plan, tested)
                steps.append(KeptSemilayer(plan, number))
                walk.reach(Point(plan, tested.score, Phase.ACCURACY_INCREASING, bits, number))
    return steps


def _longest_holding(
    walk: PhaseRecord, steps: Sequence[KeptSemilayer], bar: float
) -> Checked | None:
    """The longest beginning of the steps that holds the bar on all images, found by halving.

    The steps behind it are undone. None if not even the first step holds.
    """
    holding, failing, middle = 0, len(steps) + 1, len(steps)
    held: Checked | None = None
    reason = ""
    while failing - holding > 1:
        checked = walk.check(steps[middle - 1].plan)
        if checked.score.correct >= bar:
            holding, held = middle, checked
        else:
            failing = middle
            reason = f"only {checked.score.correct} on all images; the bar was {bar}"
        middle = (holding + failing) // 2
    walk.undo(steps[holding:], reason)
    return held


def postponing(walk: PhaseRecord, start: Checked, ranked: Sequence[Ranked], bits: int) -> None:
    """Quantize one postponed semilayer after the other, with no test and no restoring.

    Args:
        walk: Evaluator and record.
        start: The plan that the accuracy-increasing phase reached.
        ranked: Semilayers of the channels that are still float32, in the order to quantize.
        bits: The one bitwidth that they take.
    """
    walk.watch.progress.start(f"postponing phase, {bits} bits", len(ranked))
    walk.go_on_from(start)
    for item, candidate in zip(ranked, _cumulative(start.plan, ranked), strict=True):
        if walk.out_of_time:
            return
        tested = walk.evaluator.trial(candidate, None)
        walk.evaluator.keep(candidate, tested)
        verdict = TrialDecision(Decision.QUANTIZED, "postponing phase: quantized without a test")
        number = walk.record(Phase.POSTPONING, item, tested.score, verdict)
        walk.reach(Point(candidate, tested.score, Phase.POSTPONING, bits, number))


def check_choice(walk: PhaseRecord) -> None:
    """Measure the best point on all images; if it does not hold, the next best, until one does.

    Where the time has ended that is one point at the most, and of the others only those are left
    that were measured before.
    """
    with walk.in_time():
        while not walk.out_of_time and not walk.best.score.in_full:
            walk.check(walk.best.plan)
    if not walk.ended:
        return
    walk.watch.ending()
    if not walk.best.score.in_full:
        walk.check(walk.best.plan)
    walk.points = [point for point in walk.points if point.score.in_full]


def unsettled(plan: BitPlan, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Channels of the given layers that are still float32."""
    return {layer: plan.float_channels(layer) for layer in layers if plan.float_channels(layer)}


def _cumulative(plan: BitPlan, ranked: Sequence[Ranked]) -> Iterator[BitPlan]:
    for item in ranked:
        plan = plan.with_semilayer(item.semilayer)
        yield plan


def _test(score: Score, bar: float) -> TrialDecision:
    if score.correct >= bar:
        gained = score.correct - bar
        return TrialDecision(Decision.KEPT, f"{gained} more than the bar of {bar}", bar)
    short = bar - score.correct
    at_least = "" if score.in_full else "at least "
    reason = f"{at_least}{short} fewer than the bar of {bar}"
    return TrialDecision(Decision.POSTPONED, reason, bar)
