"""Along the frontier to the smallest plan that nothing speaks against (``--method frontier``).

*Bisection*: plans of the frontier at equal distances in size are halved until the smallest is found
that changes few enough answers. Which of them are lost is left open here: how many change grows
from plan to plan with little noise, which of them fall well does not. (With a guarantee that was
asked for, the smallest is found that holds it.)
*Retreat*: from there back, plan by plan, to the first that the guard has nothing against.
*Descent*: from there on semilayers, the channels of a layer that the frontier lowers next to one
bitwidth and that share the sign of Δloss there, are lowered one after the other, least predicted
harm per bit saved first; what fails is undone.

Every plan is measured on all search images, as it will be rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onnxsemi.measure.paired import Paired
from onnxsemi.measure.seam import Checker, DeltaLossTable, Tested
from onnxsemi.plan import BitPlan
from onnxsemi.search.frontier import Frontier, between, frontier, predicted, tidied
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

STOPS = 128
RETREATS = 16
REACH = 6
"""How many stops ahead of the last that holds the semilayers of the descent are looked for."""


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
        checker: Measures plans on the search images.
        settings: Allowed drop, tolerance, number of tries.
        watch: Told of every trial and of what is best; may stop the search.
    """
    float_plan = start.all_float()
    baseline = checker.check(float_plan)
    walk = _Walk(predictions, tuple(free), checker, settings, watch, baseline)
    walk.points.append(Point(start, checker.check(start).score, Phase.START))
    path = frontier(start, predictions.harm, free)
    stops = path.stops(STOPS)
    place = walk.retreat(path, stops, walk.bisect(path, stops))
    if place is not None:
        ahead = path.plan(stops[min(place + REACH, len(stops) - 1)])
        walk.descend(tidied(path.plan(stops[place]), free), ahead)
    stop = OUT_OF_TIME if walk.ended else "the tries were used up"
    return Trajectory(baseline.score, tuple(walk.points), tuple(walk.trials), stop)


def every_stop(start: BitPlan, free: Sequence[str], harm: DeltaLossTable) -> list[BitPlan]:
    """The plans that the bisection looks among, widest first: as they would be measured.

    Args:
        start: All float32, but for pinned layers.
        free: Names of the layers whose bitwidths are searched, in graph order.
        harm: KL of every free channel quantized alone.
    """
    path = frontier(start, harm, free)
    return [tidied(path.plan(stop), free) for stop in path.stops(STOPS)]


@dataclass
class _Walk:
    predictions: Predictions
    free: tuple[str, ...]
    checker: Checker
    settings: SearchSettings
    watch: Watch
    baseline: Tested
    points: list[Point] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    rejected: list[BitPlan] = field(default_factory=list)
    ended: bool = False

    def bisect(self, path: Frontier, stops: list[int]) -> int:
        """Place of the last stop that changes few enough answers; -1 if none does."""
        few, many = -1, len(stops)
        self.watch.progress.start("frontier phase, bisection", len(stops).bit_length())
        while many - few > 1 and not self._out_of_time():
            place = (few + many) // 2
            tested = self._try(tidied(path.plan(stops[place]), self.free), Phase.BISECTION)
            if self._balanced.objection(self.baseline.right, tested.right, tested.kl) is None:
                few = place
            else:
                many = place
        return few

    def retreat(self, path: Frontier, stops: list[int], place: int) -> int | None:
        """Place of the first stop from one on back that the guard has nothing against."""
        self.watch.progress.start("frontier phase, retreat", RETREATS)
        for back in range(place, max(-1, place - RETREATS), -1):
            if self._out_of_time():
                break
            plan = tidied(path.plan(stops[back]), self.free)
            if any(point.plan == plan for point in self.points):
                return back
            if all(tried != plan for tried in self.rejected):
                self._try(plan, Phase.RETREAT)
                if self.points[-1].plan == plan:
                    return back
        return None

    def descend(self, plan: BitPlan, ahead: BitPlan) -> None:
        """Lower semilayers towards a plan ahead."""
        tables = self.predictions
        found = between(plan, ahead, tables.delta_loss, tables.harm)[: self.settings.tries]
        self.watch.progress.start("frontier phase, descent", len(found))
        for price, semilayer in found:
            if self._out_of_time():
                return
            candidate = tidied(plan.with_semilayer(semilayer), self.free)
            if candidate == plan:
                continue
            added = predicted(candidate, tables.harm) - predicted(plan, tables.harm)
            self._try(candidate, Phase.DESCENT, Ranked(semilayer, added, price))
            if self.points[-1].plan == candidate:
                plan = candidate

    def _try(self, plan: BitPlan, phase: Phase, ranked: Ranked | None = None) -> Tested:
        """Measure a plan; it becomes a point if the guard has nothing against it.

        Nor may it change more answers than are allowed if half of them are lost: many changes that
        fall well are luck.
        """
        tested, before = self.checker.check(plan), self.baseline.right
        reason = self._guard.objection(before, tested.right, tested.kl)
        reason = reason or self._balanced.objection(before, tested.right, tested.kl)
        number, decision = len(self.trials) + 1, Decision.REJECTED if reason else Decision.KEPT
        said = reason or "nothing speaks against it"
        ratio, score = plan.compression, tested.score
        trial = Trial(number, phase, ranked, score, None, decision, said, ratio, plan)
        self.trials.append(replace(trial, paired=Paired.of(before, tested.right)))
        self.watch.progress.step(f"{plan.compression:.2%} smaller: {said}")
        if reason is not None:
            self.rejected.append(plan)
            return tested
        bits = None if ranked is None else ranked.semilayer.bits
        self.points.append(Point(plan, tested.score, phase, bits, number))
        best = best_point(self.points, self.baseline.score, self.settings.allowed_drop)
        self.watch.best(best)
        self.watch.improved(best)
        return tested

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
