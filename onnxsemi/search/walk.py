"""From one bitwidth for all, along the frontier, to the smallest plan that nothing speaks against.

*Uniform*: one bitwidth for all channels, halved for between the widest and the narrowest. What the
frontier gives is never worse than the narrowest that holds; and these plans, which no estimate has
picked, tell how far the estimates are right (:mod:`onnxsemi.search.course`).
*Bisection*: plans of the frontier at equal distances in size are halved until the smallest is found
that changes few enough answers. Which of them are lost is left open here: how many change grows
from plan to plan with little noise, which of them fall well does not. (With a guarantee that was
asked for, the smallest is found that holds it.)
*Retreat*: from there back, plan by plan, to the first that the guard has nothing against.
*Layers*: the plan of that size in which all channels of a layer have one harm; it takes the place
if its KL is less.
*Descent*: from there on semilayers, the channels of a layer that the frontier lowers next to one
bitwidth and that share the sign of Δloss there, are lowered one after the other, least predicted
harm per bit saved first; what fails is undone.

Every plan is measured on all calibration images, as it will be rounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onnxsemi.measure.pairing import Pairing, pair
from onnxsemi.measure.seam import Checker, DeltaLossTable, Tested
from onnxsemi.plan import BitPlan
from onnxsemi.search.course import Course, even
from onnxsemi.search.frontier import between, predicted, tidied
from onnxsemi.search.guard import Guard
from onnxsemi.search.ranking import Ranked
from onnxsemi.search.settings import SearchSettings
from onnxsemi.search.trajectory import (
    OUT_OF_TIME,
    Decision,
    Phase,
    Point,
    Trajectory,
    Trial,
    best_point,
)
from onnxsemi.search.watch import Watch

RETREATS = 16
REACH = 6
"""How many stops ahead of the last that holds the semilayers of the descent are looked for."""
FIRST_STEP = 4
"""Stops that the bisection goes on by where nothing has failed yet; then twice as many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What the search goes by.

    Attributes:
        delta_loss: Δloss of every free channel at every bitwidth.
        harm: KL of every free channel quantized alone, likewise.
        has_labels: Whether right answers are known, or those of the float model count as right.
    """

    delta_loss: DeltaLossTable
    harm: DeltaLossTable
    has_labels: bool


def walk_frontier(
    start: BitPlan,
    free: Sequence[str],
    predictions: Predictions,
    checker: Checker,
    settings: SearchSettings,
    watch: Watch,
) -> Trajectory:
    """Search the frontier.

    Args:
        start: All float32, but for pinned layers.
        free: Names of the layers whose bitwidths are searched, in graph order.
        predictions: What the frontier follows from.
        checker: Measures plans on the calibration images.
        settings: Allowed drop, tolerance, number of tries.
        watch: Told of every trial and of what is best; may stop the search.
    """
    baseline, first = checker.check(start.all_float()), checker.check(start)
    course = Course(start, tuple(free), predictions.harm, _kl(first))
    walk = _Walk(predictions, course, checker, settings, watch, baseline)
    walk.points.append(Point(start, first.score, Phase.START))
    found = walk.retreat(walk.bisect(walk.uniform()))
    walk.settle()
    if found is not None:
        place, plan = found
        walk.layers(plan)
        walk.descend(plan, course.plan(min(place + REACH, course.last)))
        walk.settle()
    stop = OUT_OF_TIME if walk.ended else "the tries were used up"
    told = tuple(course.redrawn)
    points, trials = tuple(walk.points), tuple(walk.trials)
    return Trajectory(baseline.score, points, trials, stop, course.prediction, told)


def every_stop(start: BitPlan, free: Sequence[str], harm: DeltaLossTable) -> list[BitPlan]:
    """The plans that the bisection looks among, widest first: as they would be measured.

    Args:
        start: All float32, but for pinned layers.
        free: Names of the layers whose bitwidths are searched, in graph order.
        harm: KL of every free channel quantized alone, as it was corrected.
    """
    course = Course(start, free, harm)
    return [course.plan(place) for place in range(len(course))]


@dataclass
class _Walk:
    predictions: Predictions
    course: Course
    checker: Checker
    settings: SearchSettings
    watch: Watch
    baseline: Tested
    points: list[Point] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    tested: dict[str, Tested] = field(default_factory=dict)
    settled: Point | None = None
    ended: bool = False

    def uniform(self) -> int:
        """The last place of the frontier that is larger than the smallest uniform plan that holds.

        A plan of the frontier is taken to change no more answers than a uniform one of its size. -1
        if no uniform plan holds.
        """
        ladder = [bits for bits in self.settings.bits if bits]
        self.watch.progress.start(f"frontier phase, {Phase.UNIFORM}", len(ladder).bit_length())
        few, many = -1, len(ladder)
        while many - few > 1 and not self._out_of_time():
            middle = (few + many) // 2
            plan = self.course.uniform(ladder[middle])
            if self._changes_few(self._look(plan, Phase.UNIFORM)):
                few = middle
            else:
                many = middle
        self.course.correct()
        return -1 if few < 0 else self.course.place_of(self.course.uniform(ladder[few])) - 1

    def bisect(self, few: int) -> int:
        """Place of the last stop that changes few enough answers; -1 if none does.

        Where nothing has failed yet it goes on in steps that double, from where it is predicted to
        lie; then it halves.

        Args:
            few: A place that does, as far as is known; -1 for none.
        """
        many, step = len(self.course), FIRST_STEP
        self.watch.progress.start(
            f"frontier phase, {Phase.BISECTION}", max(1, many - few).bit_length()
        )
        place = self._guess(few)
        while many - few > 1 and not self._out_of_time():
            redrawn = len(self.course.redrawn)
            if self._changes_few(self._look(self.course.plan(place), Phase.BISECTION)):
                few = place
            else:
                many = place
            if len(self.course.redrawn) > redrawn:
                many = len(self.course)  # the new frontier may hold where the old one failed
            if many < len(self.course):
                place = (few + many) // 2
            else:
                place, step = min(few + step, many - 1), 2 * step
        return few

    def retreat(self, place: int) -> tuple[int, BitPlan] | None:
        """The first stop from one on back that the guard has nothing against, and its place."""
        self.watch.progress.start(f"frontier phase, {Phase.RETREAT}", RETREATS)
        for back in range(place, max(-1, place - RETREATS), -1):
            plan = self.course.plan(back)
            if plan.weight_bits > self._smallest and not self._is_known(plan):
                break  # a uniform plan is smaller
            if not self._is_known(plan) and self._out_of_time():
                break
            self._look(plan, Phase.RETREAT)
            if self._is_point(plan):
                return back, plan
        return None

    def layers(self, plan: BitPlan) -> None:
        """Try the plan of a plan's size that tells the channels of a layer apart by nothing."""
        harm = even(self.course.prediction.harm)
        other = Course(self.course.start, self.course.free, harm).at_most(plan)
        self.watch.progress.start(f"frontier phase, {Phase.LAYERS}", 1)
        if not self._is_known(other) and not self._out_of_time():
            self._try(other, Phase.LAYERS, than=self.tested[plan.sha256])

    def descend(self, plan: BitPlan, ahead: BitPlan) -> None:
        """Lower semilayers towards a plan ahead."""
        harm = self.course.prediction.harm
        found = between(plan, ahead, self.predictions.delta_loss, harm)[: self.settings.tries]
        self.watch.progress.start(f"frontier phase, {Phase.DESCENT}", len(found))
        for price, semilayer in found:
            if self._out_of_time():
                return
            candidate = tidied(plan.with_semilayer(semilayer), self.course.free)
            if self._is_known(candidate):
                continue
            added = predicted(candidate, harm) - predicted(plan, harm)
            self._try(candidate, Phase.DESCENT, ranked=Ranked(semilayer, added, price))
            if self._is_point(candidate):
                plan = candidate

    def settle(self) -> None:
        """Tell of the best point, if it is another one than when the last phase ended."""
        if self._best is not (self.settled or self.points[0]):
            self.settled = self._best
            self.watch.settled(self.settled)

    @property
    def _best(self) -> Point:
        return best_point(self.points, self.baseline.score, self.settings.allowed_drop)

    def _guess(self, few: int) -> int:
        """Where to begin: where the KL is predicted to lie between what held and what did not."""
        known = [(_kl(tested), self._changes_few(tested)) for tested in self.tested.values()]
        held = [kl for kl, holds in known if holds]
        failed = [kl for kl, holds in known if not holds]
        if not held or not failed:
            return (few + len(self.course)) // 2
        wanted = math.sqrt(max(held) * min(failed))
        return min(max(self.course.first_above(wanted) - 1, few + 1), self.course.last)

    def _changes_few(self, tested: Tested) -> bool:
        return self._balanced.against(self._paired(tested), tested.close) is None

    def _paired(self, tested: Tested) -> Pairing:
        """Float against a plan."""
        return pair(self.baseline.judged, tested.judged)

    def _is_known(self, plan: BitPlan) -> bool:
        return plan.sha256 in self.tested

    def _is_point(self, plan: BitPlan) -> bool:
        return any(point.plan == plan for point in self.points)

    @property
    def _smallest(self) -> int:
        """Bits of the smallest point."""
        return min(point.plan.weight_bits for point in self.points)

    def _look(self, plan: BitPlan, phase: Phase) -> Tested:
        """What is known of a plan; else it is tried."""
        return self.tested.get(plan.sha256) or self._try(plan, phase)

    def _try(
        self,
        plan: BitPlan,
        phase: Phase,
        *,
        ranked: Ranked | None = None,
        than: Tested | None = None,
    ) -> Tested:
        """Measure a plan; it becomes a point if the guard has nothing against it.

        Nor may it change more answers than are allowed if half of them are lost: many changes that
        fall well are luck.

        Args:
            plan: The plan.
            phase: What it is tried for.
            ranked: The semilayer that it lowers.
            than: What a plan of its size was found to do, of which it has to be the better.
        """
        tested = self.tested[plan.sha256] = self.checker.check(plan)
        paired = self._paired(tested)
        reason = self._objection(paired, tested, than)
        number, decision = len(self.trials) + 1, Decision.REJECTED if reason else Decision.KEPT
        said = reason or "nothing speaks against it"
        trial = Trial(number, phase, ranked, tested.score, None, decision, said)
        known = replace(trial, compression=plan.compression, plan=plan, paired=paired)
        expected = self.course.prediction.of(plan)
        self.trials.append(replace(known, predicted=expected, kl=tested.kl))
        self.watch.progress.step(f"{plan.compression:.2%} smaller: {said}")
        self.course.observe(plan, _kl(tested))
        if reason is None:
            bits = None if ranked is None else ranked.semilayer.bits
            self._reach(Point(plan, tested.score, phase, bits, number))
        return tested

    def _reach(self, point: Point) -> None:
        self.points.append(point)
        self.watch.best(self._best)

    def _objection(self, paired: Pairing, tested: Tested, than: Tested | None) -> str | None:
        if than is not None and _kl(tested) >= _kl(than):
            return f"a KL of {_kl(tested):.3g} nats, where the frontier has {_kl(than):.3g}"
        reason = self._guard.against(paired, tested.close)
        return reason or self._balanced.against(paired, tested.close)

    @property
    def _guard(self) -> Guard:
        return self.settings.guard(has_labels=self.predictions.has_labels)

    @property
    def _balanced(self) -> Guard:
        """The guard that takes half of what changes to be lost."""
        return self.settings.balance(has_labels=self.predictions.has_labels)

    def _out_of_time(self) -> bool:
        self.ended = self.ended or self.watch.out_of_time()
        return self.ended


def _kl(tested: Tested) -> float:
    if tested.kl is None:
        raise ValueError("a plan of the frontier is measured on all images")
    return tested.kl
