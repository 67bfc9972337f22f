"""The paper's search: split, rank, both phases, trajectory (section 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from onnxsemi._enum_choice import choice
from onnxsemi._errors import SettingsError
from onnxsemi._option import Option, Panel
from onnxsemi._plan.bitwidth import DEFAULT_LADDER
from onnxsemi._plan.layers import Semilayer
from onnxsemi._search.guard import Guarantee, Guard, IntervalGuard, PointGuard
from onnxsemi._search.protocols import DeltaLossTable, Evaluator, Recalling
from onnxsemi._search.ranking import Order, Ranked, rank
from onnxsemi._search.semilayer_phases import (
    Checked,
    PhaseRecord,
    accuracy_increasing,
    check_choice,
    postponing,
    unsettled,
)
from onnxsemi._search.semilayers import Split, by_sign, whole_layers
from onnxsemi._search.strategy import Measures, MethodSettings, Problem
from onnxsemi._search.trajectory import OUT_OF_TIME, Phase, Point, Trajectory


@dataclass(frozen=True, kw_only=True)
class SemilayerSettings(MethodSettings):
    """What the paper's search is told."""

    order: Annotated[Order, Option(Panel.SEARCH, advanced=True)] = Order.DESCENDING
    """Try the most or the least sensitive semilayer first (semilayer)."""
    split: Annotated[Split, Option(Panel.SEARCH, advanced=True)] = Split.SIGN
    """sign: two semilayers a layer by the sign of Δloss; none: whole layers (semilayer)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "order", choice(Order, self.order))
        object.__setattr__(self, "split", choice(Split, self.split))


@dataclass(frozen=True)
class SemilayerSearch:
    """The paper's: semilayer after semilayer, a bitwidth at a time, weights rounded to nearest.

    It goes by counts of right answers; a guarantee is asked of what it comes to.

    Attributes:
        settings: What it is told.
    """

    name: ClassVar[str] = "semilayer"
    independent: ClassVar[bool] = False
    compensates: ClassVar[bool] = False
    passes: ClassVar[tuple[int, int]] = (20, 70)  # ``benchmarks/real_models.py``

    settings: SemilayerSettings

    def __post_init__(self) -> None:
        if 0 in self.bits:
            raise SettingsError("`bits`: 0 bits are for `method` frontier, which corrects biases")

    @property
    def bits(self) -> tuple[int, ...]:
        """The ladder, widest first: 8, 6, 4 unless told otherwise."""
        return self.settings.bits or DEFAULT_LADDER

    @property
    def splits(self) -> bool:
        """Whether layers are split by Δloss."""
        return self.settings.split is Split.SIGN

    def check_metric(self) -> None:
        """Refuse it.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(
            "`method` semilayer goes by counts of right answers: metric is for `method` frontier"
        )

    def guard(self, *, has_labels: bool) -> Guard:
        """What is asked of the plan that is chosen."""
        interval = self.settings.guarantee is Guarantee.INTERVAL
        kind = IntervalGuard if interval else PointGuard
        return kind(max_drop=self.settings.max_drop, has_labels=has_labels)

    def guards(self, *, has_labels: bool) -> tuple[Guard, ...]:
        """Nothing: it goes by counts of right answers."""
        del has_labels
        return ()

    def search(self, problem: Problem) -> Trajectory:
        """Lower the bitwidths of semilayers while accuracy holds.

        Returns:
            Everything done; its points that hold are measured on all images, as far as one is
            chosen.
        """
        start, free, watch = problem.start, problem.free, problem.watch
        evaluator = problem.measures.evaluator
        ranking = _Ranking(self, problem.delta_loss, evaluator, start.channel_params)
        float_plan = start.all_float()
        baseline = Checked(float_plan, evaluator.check(float_plan))
        walk = PhaseRecord(evaluator, watch, baseline.score, self.settings.max_drop)
        first = baseline if start == float_plan else walk.check(start)
        walk.reach(Point(first.plan, first.score, Phase.START))

        every = {layer: range(len(start.bits[layer])) for layer in free}
        reached, stop = accuracy_increasing(walk, first, ranking.by_bits(every))
        if stop != OUT_OF_TIME:
            with walk.in_time():  # there is a best so far
                for bits, ranked in ranking.by_bits(unsettled(reached.plan, free)).items():
                    postponing(walk, reached, ranked, bits)
        check_choice(walk)
        if walk.ended:
            stop = OUT_OF_TIME
        return Trajectory(baseline.score, tuple(walk.points), tuple(walk.trials), stop)

    def measured_by(self, measures: Measures) -> Recalling:
        """What its trials were measured by."""
        return measures.evaluator

    def holding(self, trajectory: Trajectory) -> list[Point]:
        """Points that lose no more answers than are allowed, most compressed first."""
        return trajectory.holding(self.settings.max_drop)


@dataclass(frozen=True)
class _Ranking:
    """Splits channels and ranks what comes of it."""

    method: SemilayerSearch
    table: DeltaLossTable | None
    evaluator: Evaluator
    channel_params: Mapping[str, int]

    def by_bits(self, channels: Mapping[str, Sequence[int]]) -> dict[int, list[Ranked]]:
        """Bitwidth -> ranked semilayers of the channels, widest first; KL measured in one go."""
        groups = {bits: self._split(channels, bits) for bits in self.method.bits}
        everything = [semilayer for group in groups.values() for semilayer in group]
        kl = self.evaluator.kl(everything) if everything else np.zeros(0)
        ends = np.cumsum([len(group) for group in groups.values()])
        parts = np.split(kl, ends[:-1])
        return {
            bits: rank(group, part, self.channel_params, self.method.settings.order)
            for (bits, group), part in zip(groups.items(), parts, strict=True)
        }

    def _split(self, channels: Mapping[str, Sequence[int]], bits: int) -> list[Semilayer]:
        if not self.method.splits:
            return whole_layers(channels, bits)
        if self.table is None:
            raise ValueError("splitting by sign needs a Δloss table")
        return by_sign(channels, self.table, bits)
