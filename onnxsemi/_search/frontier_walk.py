"""From one bitwidth for all, along the frontier, to the smallest plan that nothing speaks against.

*Uniform*: one bitwidth for all channels, the narrowest that is expected to hold. What the frontier
gives is never worse than those that were seen to; and these plans, which no estimate has picked,
tell how far the estimates are right (:mod:`onnxsemi._search.frontier_course`).
*Scouting*: of the plans of the frontier the smallest is looked for that changes few enough answers.
What is seen of one says how many times as much might change, and so how large the KL might be,
which grows about with the square of how much changes; the next is the smallest that is predicted to
cost no more. So far plans were only looked at, which takes a part of what measuring takes.
*Frontier*: the same by measuring, from there on, ahead or back. Which of the changed answers are
broken is left open while it is looked for: how many change grows from plan to plan with little
noise, which of them fall well does not; but only what the guard has nothing against is taken.
*Layers*: the plan of that size in which all channels of a layer have one KL increase; it takes the
place if its KL is less; it is measured only where it looks clearly less.
*Descent*: from there on semilayers are lowered, the channels of a layer that the frontier lowers
next to one bitwidth and that share the sign of Δloss there, least predicted KL increase per bit
saved first: all that may be tried at once, and where that fails, half as many.

Every plan that is taken was measured on all calibration images, as it will be rounded. Where a look
would save nothing (few images, a metric), all are measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import Semilayer
from onnxsemi._search.boundary import Boundary, Seen
from onnxsemi._search.frontier import between, merged_groups, predicted
from onnxsemi._search.frontier_course import Course, even
from onnxsemi._search.guard import Guard
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import (
    Checker,
    Closeness,
    DeltaLossTable,
    Scout,
    Scouted,
    Tested,
    foresee,
)
from onnxsemi._search.ranking import Ranked
from onnxsemi._search.trajectory import (
    FEW_CHANGES,
    Decision,
    Phase,
    Point,
    Trial,
    smallest,
)
from onnxsemi._stats.pairing import Pairing, pair

MOST_LOOKS = 4
MOST_MEASURED = 8
"""Plans of the frontier that are looked at, and that are measured, at most."""
CLOSE = 3
"""Places between a plan and what is expected after it that end the scouting: what is left is for
measuring to find out."""
CLEARLY = 0.9
"""Of the KL of the frontier's plan, what that of another of its size is to look like before it is
measured: less than this tells two plans apart no better than a look does."""
_UNKNOWN = Closeness(0.0, 0)


@dataclass
class FrontierWalk:
    """A walk under way, and the record of what was done so far.

    Attributes:
        course: The frontier as far as it is known.
        checker: Measures plans.
        scout: Looks at plans; None if all are measured.
        watch: Told of every trial and of the best point; says when to stop.
        baseline: The float model.
        guard: What is asked of a point.
        balance: What is asked of how many answers change.
        caution: Places before the expected one where measuring begins, and ends at once.
        patience: Plans of the frontier that are measured until the first that holds will do, if
            looks have led there.
        points: Every plan that holds, in the order in which they were found.
        trials: Every decision so far.
        tested: What was measured so far.
        boundary: Where the last plan lies that changes few enough answers, as far as is known.
        settled: The best point when the last phase ended.
        ended: Whether the time has ended.
    """

    course: Course
    checker: Checker
    scout: Scout | None
    watch: Watch
    baseline: Tested
    guard: Guard
    balance: Guard
    caution: int = 0
    patience: int = MOST_MEASURED
    points: list[Point] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    tested: dict[BitPlan, Tested] = field(default_factory=dict)
    boundary: Boundary = field(init=False)
    settled: Point | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        self.boundary = Boundary(self.course)

    def uniform(self, ladder: Sequence[int]) -> BitPlan | None:
        """The smallest uniform plan that changes few enough answers, as far as is seen.

        Args:
            ladder: Bitwidths to try, widest first.
        """
        self.watch.progress.start(f"frontier phase, {Phase.UNIFORM}", len(ladder).bit_length())
        few, many, place = -1, len(ladder), self._uniform_place(ladder)
        while many - few > 1 and not self._out_of_time():
            place = min(max(place, few + 1), many - 1)
            beside = (other for other in (place + 1, place - 1) if few < other < many)
            self._foresee([self.course.uniform(ladder[other]) for other in beside])
            holds = self._changes_few(self.course.uniform(ladder[place]), Phase.UNIFORM)
            few, many = (place, many) if holds else (few, place)
            expected = self._uniform_place(ladder)
            if holds and expected <= place:
                break
            place = expected
        self.course.correct()
        return self.course.uniform(ladder[few]) if few >= 0 else None

    def _uniform_place(self, ladder: Sequence[int]) -> int:
        """The narrowest bitwidth for all that is expected to change few enough answers."""
        found = [self.course.prediction.of(self.course.uniform(bits)) for bits in ladder]
        return sum(kl <= self.boundary.kl for kl in found) - 1

    def scouted(self, few: int) -> None:
        """Look at plans of the frontier until it is clear about where the last that holds lies.

        Args:
            few: A place that holds, as far as is known; -1 for none.
        """
        if self.scout is None:
            return
        self.watch.progress.start(f"frontier phase, {Phase.SCOUTING}", MOST_LOOKS)
        place = -1
        for _ in range(MOST_LOOKS):
            expected = max(self.boundary.place, few + 1)
            if abs(expected - place) <= CLOSE or self._out_of_time():
                return
            place = expected
            self._changes_few(self.course.plan(place), Phase.SCOUTING)

    def measured(self) -> tuple[int, BitPlan] | None:
        """The last place that the guard has nothing against, as far as it was found; its plan."""
        self.watch.progress.start(f"frontier phase, {Phase.FRONTIER}", MOST_MEASURED)
        few, many, failed = -1, len(self.course), 0
        place = self.boundary.place - self.caution
        found: tuple[int, BitPlan] | None = None
        for count in range(MOST_MEASURED):
            if many - few <= 1 or self._out_of_time():
                break
            redrawn, place = len(self.course.redrawn), min(max(place, few + 1), many - 1)
            plan, before = self.course.plan(place), place - max(1, 2 ** (failed + 1) // 4)
            foresee(self.checker, [self.course.plan(before)] if before > few else [])
            holds = self._holds(plan, first=not count)
            if holds:
                few, failed, found = place, 0, (place, plan)
            else:
                many, failed = place, failed + 1
            if len(self.course.redrawn) > redrawn:
                many = len(self.course)  # the new frontier may hold where the old one failed
            expected = self.boundary.place
            patient = self.scout is None or count + 1 < self.patience
            if holds and (self.caution or expected <= place or not patient):
                break
            # one by one at first: which of the answers are broken is luck
            place = expected if holds else min(expected, place - max(1, 2**failed // 4))
        return found

    def _holds(self, plan: BitPlan, *, first: bool) -> bool:
        """Measure a plan of the frontier."""
        tested = self._look(plan, Phase.FRONTIER)
        if first and self.scout is not None:
            self.course.calibrate(plan, kl_of(tested))
        self._note(plan, self._paired(tested), tested.close)
        return self._is_point(plan)

    def _changes_few(self, plan: BitPlan, phase: Phase) -> bool:
        """Look at a plan, or measure it: whichever way the answers fell that change."""
        if self.scout is None:
            tested = self._look(plan, phase)
            return self._note(plan, self._paired(tested), tested.close)
        found = self.scout.look(plan)
        self._record_look(plan, phase, found)
        return self._note(plan, found.paired, found.close)

    def _foresee(self, plans: Sequence[BitPlan]) -> None:
        """Tell which plans may be the next that is looked at, or measured."""
        foresee(self.checker if self.scout is None else self.scout, plans)

    def _note(self, plan: BitPlan, paired: Pairing, close: Closeness | None) -> bool:
        """Take note of what was seen of a plan: whether few enough answers change."""
        room = self.balance.room(paired, close or _UNKNOWN)
        self.boundary.seen.append(Seen(plan, room))
        return self.balance.against(paired, close) is None

    def fall_back(self, uniform: BitPlan | None, ladder: Sequence[int]) -> None:
        """Measure uniform plans that were only looked at, if they are smaller than the best.

        Args:
            uniform: The smallest that seemed to change few enough answers.
            ladder: Bitwidths to try, widest first.
        """
        if uniform is None:
            return
        for bits in reversed(ladder):
            plan = self.course.uniform(bits)
            if plan.weight_bits >= self._smallest or self._out_of_time():
                return
            if plan.weight_bits >= uniform.weight_bits and not self._is_known(plan):
                self._look(plan, Phase.UNIFORM)
                if self._is_point(plan):
                    return

    def layers(self, plan: BitPlan) -> None:
        """Try the plan of a plan's size that tells the channels of a layer apart by nothing."""
        kl_increase = even(self.course.prediction.kl_increase)
        other = Course(self.course.start, self.course.free, kl_increase).at_most(plan)
        self.watch.progress.start(f"frontier phase, {Phase.LAYERS}", 1)
        if self._is_known(other) or self._out_of_time():
            return
        if self.scout is not None:
            found = self.scout.look(other)
            if self.course.factor * found.kl >= CLEARLY * kl_of(self.tested[plan]):
                self._record_look(other, Phase.LAYERS, found)
                return
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
        self.watch.progress.start(f"frontier phase, {Phase.DESCENT}", len(found).bit_length())
        lowered = [plan]  # by so many semilayers
        for _, semilayer in found:
            lowered.append(merged_groups(lowered[-1].with_semilayer(semilayer), self.course.free))
        few, many, count = 0, len(lowered), len(found)
        while many - few > 1:
            if not self._is_known(lowered[count]):
                if self._out_of_time():
                    return
                others = {(few + count) // 2, (count + many) // 2} - {few, count}
                foresee(self.checker, [lowered[other] for other in sorted(others)])
                self._try(
                    lowered[count], Phase.DESCENT, ranked=self._last_of(lowered, found, count)
                )
            holds = self._is_point(lowered[count])
            few, many = (count, many) if holds else (few, count)
            count = (few + many) // 2

    def _last_of(
        self, lowered: list[BitPlan], found: list[tuple[float, Semilayer]], count: int
    ) -> Ranked | None:
        """The semilayer that a plan lowers, if it lowers but one more than the plan that holds."""
        price, semilayer = found[count - 1]
        kl_increase = self.course.prediction.kl_increase
        added = predicted(lowered[count], kl_increase) - predicted(lowered[count - 1], kl_increase)
        return Ranked(semilayer, added, price) if self._is_point(lowered[count - 1]) else None

    def settle(self) -> None:
        """Tell of the best point, if it is another one than when the last phase ended."""
        if self._best is not (self.settled or self.points[0]):
            self.settled = self._best
            self.watch.settled(self.settled)

    @property
    def _best(self) -> Point:
        return smallest(self.points)

    def _record_look(self, plan: BitPlan, phase: Phase, found: Scouted) -> None:
        said = self.balance.against(found.paired, found.close) or FEW_CHANGES
        trial = Trial(
            number=len(self.trials) + 1,
            phase=phase,
            ranked=None,
            score=found.score,
            bar=None,
            decision=Decision.SCOUTED,
            reason=said,
            compression=plan.compression,
            plan=plan,
            predicted=self.course.prediction.of(plan),
            kl=found.kl if found.whole else None,
        )
        self.trials.append(trial)
        self.watch.progress.step(f"{plan.compression:.2%} smaller: {said}")
        if found.whole:
            self.course.observe(plan, self.course.factor * found.kl)

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
