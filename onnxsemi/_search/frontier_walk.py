"""From one bitwidth for all, along the frontier, to the smallest plan that nothing speaks against.

*Uniform*: one bitwidth for all channels, halved for between the widest and the narrowest. What the
frontier gives is never worse than the narrowest that holds; and these plans, which no estimate has
picked, tell how far the estimates are right (:mod:`onnxsemi._search.frontier_course`).
*Bisection*: plans of the frontier at equal distances in size are halved until the smallest is found
that changes few enough answers. Which of them are broken is left open here: how many change grows
from plan to plan with little noise, which of them fall well does not. (With a guarantee that was
asked for, the smallest is found that holds it.)
*Retreat*: from there back, plan by plan, to the first that the guard has nothing against.
*Layers*: the plan of that size in which all channels of a layer have one KL increase; it takes the
place if its KL is less.
*Descent*: from there on semilayers, the channels of a layer that the frontier lowers next to one
bitwidth and that share the sign of Δloss there, are lowered one after the other, least predicted
KL increase per bit saved first; what fails is undone.

Every plan is measured on all calibration images, as it will be rounded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.frontier import between, merged_groups, predicted
from onnxsemi._search.frontier_course import Course, even
from onnxsemi._search.guard import Guard
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import Checker, DeltaLossTable, Tested
from onnxsemi._search.ranking import Ranked
from onnxsemi._search.trajectory import (
    Decision,
    Phase,
    Point,
    Trial,
    smallest,
)
from onnxsemi._stats.pairing import Pairing, pair

RETREATS = 16
FIRST_STEP = 4
"""Places that the bisection goes on by where nothing has failed yet; then twice as many."""


@dataclass
class FrontierWalk:
    """A walk under way, and the record of what was done so far.

    Attributes:
        course: The frontier as far as it is known.
        checker: Measures plans.
        watch: Told of every trial and of the best point; says when to stop.
        baseline: The float model.
        guard: What is asked of a point.
        balance: What is asked of how many answers change.
        points: Every plan that holds, in the order in which they were found.
        trials: Every decision so far.
        tested: What was measured so far.
        settled: The best point when the last phase ended.
        ended: Whether the time has ended.
    """

    course: Course
    checker: Checker
    watch: Watch
    baseline: Tested
    guard: Guard
    balance: Guard
    points: list[Point] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    tested: dict[BitPlan, Tested] = field(default_factory=dict)
    settled: Point | None = None
    ended: bool = False

    def uniform(self, ladder: Sequence[int]) -> int:
        """The last place of the frontier that is larger than the smallest uniform plan that holds.

        A plan of the frontier is taken to change no more answers than a uniform one of its size. -1
        if no uniform plan holds.

        Args:
            ladder: Bitwidths to try, widest first.
        """
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
        """Place of the last plan that changes few enough answers; -1 if none does.

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
        """The first place from one on back that the guard has nothing against, and its plan."""
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
        kl_increase = even(self.course.prediction.kl_increase)
        other = Course(self.course.start, self.course.free, kl_increase).at_most(plan)
        self.watch.progress.start(f"frontier phase, {Phase.LAYERS}", 1)
        if not self._is_known(other) and not self._out_of_time():
            self._try(other, Phase.LAYERS, than=self.tested[plan])

    def descend(
        self, plan: BitPlan, ahead: BitPlan, delta_loss: DeltaLossTable, tries: int
    ) -> None:
        """Lower semilayers towards a plan ahead.

        Args:
            plan: Where to begin.
            ahead: A plan that is nowhere wider.
            delta_loss: Δloss of every free channel at every bitwidth.
            tries: How many semilayers are tried.
        """
        kl_increase = self.course.prediction.kl_increase
        found = between(plan, ahead, delta_loss, kl_increase)[:tries]
        self.watch.progress.start(f"frontier phase, {Phase.DESCENT}", len(found))
        for price, semilayer in found:
            if self._out_of_time():
                return
            candidate = merged_groups(plan.with_semilayer(semilayer), self.course.free)
            if self._is_known(candidate):
                continue
            added = predicted(candidate, kl_increase) - predicted(plan, kl_increase)
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
        return smallest(self.points)

    def _guess(self, few: int) -> int:
        """Where to begin: where the KL is predicted to lie between what held and what did not."""
        known = [(kl_of(tested), self._changes_few(tested)) for tested in self.tested.values()]
        held = [kl for kl, holds in known if holds]
        failed = [kl for kl, holds in known if not holds]
        if not held or not failed:
            return (few + len(self.course)) // 2
        wanted = math.sqrt(max(held) * min(failed))
        return min(max(self.course.first_above(wanted) - 1, few + 1), self.course.last)

    def _changes_few(self, tested: Tested) -> bool:
        return self.balance.against(self._paired(tested), tested.close) is None

    def _paired(self, tested: Tested) -> Pairing:
        """Float against a plan."""
        return pair(self.baseline.judged, tested.judged)

    def _is_known(self, plan: BitPlan) -> bool:
        return plan in self.tested

    def _is_point(self, plan: BitPlan) -> bool:
        return any(point.plan == plan for point in self.points)

    @property
    def _smallest(self) -> int:
        """Bits of the smallest point."""
        return min(point.plan.weight_bits for point in self.points)

    def _look(self, plan: BitPlan, phase: Phase) -> Tested:
        """What is known of a plan; else it is tried."""
        return self.tested.get(plan) or self._try(plan, phase)

    def _try(
        self,
        plan: BitPlan,
        phase: Phase,
        *,
        ranked: Ranked | None = None,
        than: Tested | None = None,
    ) -> Tested:
        """Measure a plan; it becomes a point if the guard has nothing against it.

        Nor may it change more answers than are allowed if half of them are broken: many
        changes that fall well are luck.

        Args:
            plan: The plan.
            phase: What it is tried for.
            ranked: The semilayer that it lowers.
            than: What a plan of its size was found to do, of which it has to be the better.
        """
        tested = self.tested[plan] = self.checker.check(plan)
        paired = self._paired(tested)
        reason = self._objection(paired, tested, than)
        number, decision = len(self.trials) + 1, Decision.REJECTED if reason else Decision.KEPT
        said = reason or "nothing speaks against it"
        trial = Trial(number, phase, ranked, tested.score, None, decision, said)
        known = replace(trial, compression=plan.compression, plan=plan, paired=paired)
        expected = self.course.prediction.of(plan)
        self.trials.append(replace(known, predicted=expected, kl=tested.kl))
        self.watch.progress.step(f"{plan.compression:.2%} smaller: {said}")
        self.course.observe(plan, kl_of(tested))
        if reason is None:
            bits = None if ranked is None else ranked.semilayer.bits
            self._reach(Point(plan, tested.score, phase, bits, number))
        return tested

    def _reach(self, point: Point) -> None:
        self.points.append(point)
        self.watch.best(self._best)

    def _objection(self, paired: Pairing, tested: Tested, than: Tested | None) -> str | None:
        if than is not None and kl_of(tested) >= kl_of(than):
            return f"a KL of {kl_of(tested):.3g} nats, where the frontier has {kl_of(than):.3g}"
        reason = self.guard.against(paired, tested.close)
        return reason or self.balance.against(paired, tested.close)

    def _out_of_time(self) -> bool:
        self.ended = self.ended or self.watch.out_of_time()
        return self.ended


def kl_of(tested: Tested) -> float:
    """Mean KL of a plan that was measured on all images, nats per sample."""
    if tested.kl is None:
        raise ValueError("a plan of the frontier is measured on all images")
    return tested.kl
