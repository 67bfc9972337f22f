"""An evaluator without a model: accuracy and KL follow from a damage given to each channel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._plan.layers import Semilayer
from onnxsemi._progress import Silent
from onnxsemi._search.frontier import predicted
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import Closeness, DeltaLossTable, Score, Scouted, Tested
from onnxsemi._search.strategy import Problem
from onnxsemi._stats.paired import Paired

Damage = Mapping[tuple[str, int, int], int]
"""(layer, channel, bits) -> answers that are broken; below 0: fixed."""


@dataclass
class FakeEvaluator:
    """Every quantized channel breaks or fixes a number of answers, whatever the others do.

    Trials overlook ``overlooked`` broken answers a channel below 32 bits; checks see them all.
    """

    damage: Damage
    correct: int = 500
    total: int = 1000
    overlooked: int = 0
    scored: list[BitPlan] = field(default_factory=list)
    checked: list[BitPlan] = field(default_factory=list)
    current: BitPlan | None = None

    def score(self, plan: BitPlan) -> Score:
        """The float model's correct answers less the damage of every quantized channel."""
        self.scored.append(plan)
        broken = sum(
            self.damage[layer, channel, bits]
            for layer, all_bits in plan.listed().items()
            for channel, bits in enumerate(all_bits)
            if bits != FLOAT_BITS
        )
        return Score(self.correct - broken, self.total, self.total, 1.0)

    def check(self, plan: BitPlan) -> Tested:
        """The true score."""
        self.checked.append(plan)
        return tested(self.score(plan))

    def trial(self, plan: BitPlan, _bar: int | None) -> Tested:
        """The true score, or more if some images are overlooked."""
        assert self.current is not None
        score = self.score(plan)
        if not self.overlooked:
            return tested(score)
        narrow = int((plan.channel_bits != FLOAT_BITS).sum())
        correct = score.correct + self.overlooked * narrow
        return tested(Score(correct, self.total, self.total - 1, None))

    def keep(self, plan: BitPlan, _tested: Tested) -> None:
        """Remember the current plan."""
        self.current = plan

    def kl(self, semilayers: Sequence[Semilayer]) -> NDArray[np.float64]:
        """Sum of the channels' absolute damages."""
        return np.array(
            [
                sum(abs(self.damage[s.layer, channel, s.bits]) for channel in s.channels)
                for s in semilayers
            ],
            np.float64,
        )

    def table(self, bits: tuple[int, ...], channels: Mapping[str, int]) -> DeltaLossTable:
        """Δloss with the sign of the damage."""
        nats = {
            layer: np.array([[float(self.damage[layer, c, b]) for b in bits] for c in range(count)])
            for layer, count in channels.items()
        }
        return DeltaLossTable(bits, nats, samples=1)


def tested(score: Score) -> Tested:
    """A test of which only the score matters."""
    nothing = np.zeros(0)
    return Tested(score, nothing.astype(np.int64), nothing, nothing.astype(np.bool_), 0.0)


@dataclass
class FakeMeasures:
    """The one of the two ways to measure that is there."""

    checker: object = None
    scout: object = None
    evaluator: object = None


def problem(
    start, free, measures, *, delta_loss=None, kl_increase=None, has_labels=True, watch=None
):
    """What a search is given, with nobody to watch it unless told otherwise."""
    return Problem(
        start=start, free=free, delta_loss=delta_loss, kl_increase=kl_increase,
        has_labels=has_labels, measures=measures, watch=watch or Watch(Silent()),
    )  # fmt: skip


def plan_of(channels: Mapping[str, int], params: int = 10) -> BitPlan:
    """All float32, ``params`` weights a channel."""
    return BitPlan(
        {layer: (FLOAT_BITS,) * count for layer, count in channels.items()},
        dict.fromkeys(channels, params),
    )


def random_damage(
    rng: np.random.Generator, channels: Mapping[str, int], bits: tuple[int, ...]
) -> dict[tuple[str, int, int], int]:
    """Damages from -2 to 3 images, on average worse at narrower bitwidths."""
    return {
        (layer, channel, b): int(rng.integers(-2, 3)) + (8 - b) // 4
        for layer, count in channels.items()
        for channel in range(count)
        for b in bits
    }


@dataclass
class FakeChecker:
    """Every quantized channel turns the answers of images of its own, more with fewer bits.

    Channel number c (counted over all layers) turns the first ``turned[layer][c, b]`` of the
    images c, c + C, c + 2 C ...
    """

    turned: DeltaLossTable
    before: NDArray[np.bool_]
    truth: DeltaLossTable | None = None
    """KL of every channel: a plan's is the sum; none at all if it is not given."""
    checked: list[BitPlan] = field(default_factory=list)

    def check(self, plan: BitPlan) -> Tested:
        """The answers of a plan, image by image."""
        self.checked.append(plan)
        right, total = self.before.copy(), len(self.before)
        starts = [(layer, c) for layer, nats in self.turned.nats.items() for c in range(len(nats))]
        for place, (layer, channel) in enumerate(starts):
            bits = int(plan.bits[layer][channel])
            if bits != FLOAT_BITS:
                count = int(self.turned.column(layer, bits)[channel])
                own = np.arange(place, total, len(starts))[:count]
                right[own] = ~right[own]
        score = Score(int(right.sum()), total, total, 1.0)
        kl = 0.0 if self.truth is None else predicted(plan, self.truth)
        return Tested(score, np.arange(total), np.zeros(total), right, 0.0, kl)


@dataclass
class FakeScout:
    """Looks at plans that a checker measures: by so many times their KL, a look at half of them."""

    checker: FakeChecker
    worse: float = 1.25
    looked: list[BitPlan] = field(default_factory=list)

    def look(self, plan: BitPlan) -> Scouted:
        """What the checker would say, with a larger KL."""
        self.looked.append(plan)
        tested = replace(self.checker, checked=[]).check(plan)
        paired = Paired.of(self.checker.before, tested.right)
        score = replace(tested.score, measured=tested.score.total // 2)
        changed = paired.broken + paired.fixed
        return Scouted(score, paired, Closeness(0.0, changed), self.worse * tested.kl)
