"""The paper's search: split, rank, both phases, trajectory (section 3)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from onnxsemi.errors import BudgetError
from onnxsemi.layers import Semilayer
from onnxsemi.measure.seam import DeltaLossTable, Evaluator
from onnxsemi.plan import BitPlan
from onnxsemi.search.phases import (
    Checked,
    Walk,
    accuracy_increasing,
    check_choice,
    postponing,
    unsettled,
)
from onnxsemi.search.ranking import Ranked, rank
from onnxsemi.search.semilayers import Split, by_sign, whole_layers
from onnxsemi.search.settings import SearchSettings
from onnxsemi.search.trajectory import OUT_OF_TIME, Phase, Point, Trajectory
from onnxsemi.search.watch import Watch


def search(
    start: BitPlan,
    free: Sequence[str],
    table: DeltaLossTable | None,
    evaluator: Evaluator,
    settings: SearchSettings,
    watch: Watch,
) -> Trajectory:
    """Lower the bitwidths of semilayers while accuracy holds.

    Args:
        start: All float32, but for pinned layers.
        free: Names of the layers whose bitwidths are searched, in graph order.
        table: Δloss of their channels at every bitwidth; None if layers are not split.
        evaluator: Measures plans on the calibration images.
        settings: Ladder, order, split, allowed drop.
        watch: Told of every trial and of what is best; may stop the search.

    Returns:
        Everything done; :meth:`Trajectory.choose` gives the answer, measured on all images.
    """
    ranking = _Ranking(table, evaluator, settings, start.channel_params)
    float_plan = start.all_float()
    baseline = Checked(float_plan, evaluator.check(float_plan))
    walk = Walk(evaluator, watch, baseline.score, settings.max_drop)
    first = baseline if start == float_plan else walk.check(start)
    walk.reach(Point(first.plan, first.score, Phase.START))

    every = {layer: range(len(start.bits[layer])) for layer in free}
    reached, stop = accuracy_increasing(walk, first, ranking.by_bits(every))
    if stop != OUT_OF_TIME:
        with suppress(BudgetError):  # there is a best so far
            for bits, ranked in ranking.by_bits(unsettled(reached.plan, free)).items():
                postponing(walk, reached, ranked, bits)
    if watch.out_of_time():
        stop = OUT_OF_TIME
    check_choice(walk)
    return Trajectory(baseline.score, tuple(walk.points), tuple(walk.trials), stop)


@dataclass(frozen=True)
class _Ranking:
    """Splits channels and ranks what comes of it."""

    table: DeltaLossTable | None
    evaluator: Evaluator
    settings: SearchSettings
    channel_params: Mapping[str, int]

    def by_bits(self, channels: Mapping[str, Sequence[int]]) -> dict[int, list[Ranked]]:
        """Bitwidth -> ranked semilayers of the channels, widest first; KL measured in one go."""
        groups = {bits: self._split(channels, bits) for bits in self.settings.bits}
        everything = [semilayer for group in groups.values() for semilayer in group]
        kl = self.evaluator.kl(everything) if everything else np.zeros(0)
        ends = np.cumsum([len(group) for group in groups.values()])
        parts = np.split(kl, ends[:-1])
        return {
            bits: rank(group, part, self.channel_params, self.settings.order)
            for (bits, group), part in zip(groups.items(), parts, strict=True)
        }

    def _split(self, channels: Mapping[str, Sequence[int]], bits: int) -> list[Semilayer]:
        if self.settings.split is Split.NONE:
            return whole_layers(channels, bits)
        if self.table is None:
            raise ValueError("splitting by sign needs a Δloss table")
        return by_sign(channels, self.table, bits)
