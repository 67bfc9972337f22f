"""The search along the frontier: its settings, what it asks of plans, and its walk in order."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from onnxsemi._errors import BudgetError, SettingsError
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._plan.bitwidth import EVERY_BITWIDTH, coded_ladder
from onnxsemi._search.frontier_course import Course
from onnxsemi._search.frontier_walk import FrontierWalk, kl_of
from onnxsemi._search.guard import Guarantee, Guard, IntervalGuard, PointGuard
from onnxsemi._search.protocols import DeltaLossTable, Recalling
from onnxsemi._search.strategy import Measures, MethodSettings, Problem
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._search.trajectory import OUT_OF_TIME, Phase, Point, Trajectory, saving

REACH = 6
"""How many places ahead of the last that holds the semilayers of the descent are looked for."""


@dataclass(frozen=True, kw_only=True)
class FrontierSettings(MethodSettings):
    """What the search along the frontier is told."""

    tolerance: Annotated[float, Option(Panel.SEARCH, decides=Decides.CHOICE)] = 0.5
    """Percentage points that the paired 95 % interval of the change on the calibration images may
    reach below `max_drop`: bounds how many answers may change (frontier)."""
    tries: Annotated[int | None, Option(Panel.SEARCH, advanced=True)] = None
    """Semilayers that are tried on top of the best plan of the frontier; 4 (see `effort`)."""
    per_layer: Annotated[bool, Option(Panel.SEARCH, advanced=True)] = False
    """One bitwidth for all channels of a layer (frontier): what many converters take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guarantee is not None and self.tolerance != FrontierSettings.tolerance:
            raise SettingsError(
                f"`tolerance`: has no meaning with `guarantee` {self.guarantee}, which asks "
                "for `max_drop` as it is; leave one of them away"
            )
        if not 0 < self.tolerance <= 100:
            raise SettingsError(f"`tolerance`: {self.tolerance} is outside 0 to 100 points")
        if self.most_tries < 0:
            raise SettingsError(f"`tries`: {self.tries} must be 0 or more")

    @property
    def most_tries(self) -> int:
        """Semilayers that are tried on top of the best plan."""
        return self.effort.options.tries if self.tries is None else self.tries


@dataclass(frozen=True)
class FrontierSearch:
    """Along a frontier of plans over all bitwidths, by the Fisher table; weights compensated.

    Attributes:
        settings: What it is told.
    """

    name: ClassVar[str] = "frontier"
    splits: ClassVar[bool] = True
    independent: ClassVar[bool] = True
    compensates: ClassVar[bool] = True
    passes: ClassVar[tuple[int, int]] = (20, 65)  # ``benchmarks/search_cost.py``

    settings: FrontierSettings

    @property
    def bits(self) -> tuple[int, ...]:
        """The ladder, widest first: from 8 to 1 unless told otherwise."""
        bits = self.settings.bits or EVERY_BITWIDTH
        return coded_ladder(bits) if self.settings.coded else bits

    def check_metric(self) -> None:
        """Any metric will do."""

    def guard(self, *, has_labels: bool) -> Guard:
        """What is asked of every plan."""
        asked, most = self.settings, self.settings.max_drop
        if asked.guarantee is None:
            guard = ToleranceGuard(max_drop=most, tolerance=asked.tolerance)
            return guard.with_labels(has_labels=has_labels)
        kind = IntervalGuard if asked.guarantee is Guarantee.INTERVAL else PointGuard
        return kind(max_drop=most, has_labels=has_labels)

    def guards(self, *, has_labels: bool) -> tuple[Guard, Guard]:
        """The guard, and what is asked of how many answers change: half of them count as broken.

        A guarantee that was asked for is taken at its word.
        """
        guard = self.guard(has_labels=has_labels)
        return guard, guard.balance

    def search(self, problem: Problem) -> Trajectory:
        """Search the frontier."""
        checker, start = problem.measures.checker, problem.start
        baseline, first = checker.check(start.all_float()), checker.check(start)
        if problem.kl_increase is None or problem.delta_loss is None:
            raise ValueError("the frontier follows from the KL and Δloss of channels")
        per_layer = self.settings.per_layer
        course = Course(
            start, tuple(problem.free), problem.kl_increase, kl_of(first), per_layer=per_layer
        )
        guards = self.guards(has_labels=problem.has_labels)
        scout = problem.measures.scout
        effort = self.settings.effort.options
        begin = effort.caution, effort.patience
        walk = FrontierWalk(course, checker, scout, problem.watch, baseline, *guards, *begin)
        walk.points.append(Point(start, first.score, Phase.START))
        try:
            self._go_along(walk, problem.delta_loss)
        except BudgetError:  # within a plan: it is not known then
            walk.ended = True
        stop = OUT_OF_TIME if walk.ended else "the tries were used up"
        return Trajectory(
            baseline=baseline.score,
            points=tuple(walk.points),
            trials=tuple(walk.trials),
            stop=stop,
            prediction=course.prediction,
            redrawn=tuple(course.redrawn),
            points_between=course.plans,
        )

    def _go_along(self, walk: FrontierWalk, delta_loss: DeltaLossTable) -> None:
        """All phases, one after the other."""
        ladder = [bits for bits in self.bits if bits]
        uniform = walk.uniform(ladder)
        walk.scouted(-1 if uniform is None else walk.course.place_of(uniform) - 1)
        found = walk.measured()
        walk.fall_back(uniform, ladder)
        walk.settle()
        if found is not None:
            place, plan = found
            if self.settings.per_layer:
                return
            if not walk.caution:
                walk.layers(plan)
            ahead = walk.course.plan(min(place + REACH, walk.course.last))
            walk.descend(plan, ahead, delta_loss, self.settings.most_tries)
            walk.settle()

    def measured_by(self, measures: Measures) -> Recalling:
        """What its plans were measured by."""
        return measures.checker

    def holding(self, trajectory: Trajectory) -> list[Point]:
        """All of its points: the guard has judged them."""
        return saving(trajectory.points)
