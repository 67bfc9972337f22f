"""The frontier: for every size the plan that is predicted to do least harm. Not in the paper.

``harm[c, b]`` is the KL that quantizing channel c alone to b bits causes, from the Fisher table. A
channel's harm over its bits is replaced by its lower convex hull, so that the harm per bit saved
grows from step to step:

    price = (harm[c, narrower] - harm[c, wider]) / (weights of c * (wider - narrower))

All steps of all channels in the order of their price, cheapest first (ties by layer, channel and
bitwidth), lead from the widest bitwidth to the narrowest: each beginning of that walk is a plan,
and no plan of its size has less predicted harm in sum (Lagrange's multiplier is the price of the
next step).

At 0 bits a channel saves its scale and zero point, too: to a channel of n weights that is worth
``SCALE_BITS / n`` bits a weight more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnxsemi.arrays import Float64Array
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.layers import Semilayer, Sign
from onnxsemi.measure.seam import DeltaLossTable
from onnxsemi.plan import BitPlan

GROUP_BYTES = 120
"""What a group of channels takes in a file beyond codes and scales (measured: ``inspect``, qdq)."""

SCALE_BITS = 40
"""A channel's scale and zero point, which are not stored at 0 bits."""


@dataclass(frozen=True)
class Step:
    """A channel that goes to fewer bits.

    Attributes:
        price: Predicted harm for each bit saved, nats.
        layer: Its layer.
        channel: Its index.
        bits: Where it goes.
    """

    price: float
    layer: str
    channel: int
    bits: int


@dataclass(frozen=True)
class Frontier:
    """A walk through plans.

    Attributes:
        start: The widest plan.
        steps: All steps, cheapest first.
    """

    start: BitPlan
    steps: tuple[Step, ...]

    def plan(self, count: int) -> BitPlan:
        """The plan after so many steps."""
        bits = {layer: list(channels) for layer, channels in self.start.bits.items()}
        for step in self.steps[:count]:
            bits[step.layer][step.channel] = step.bits
        return BitPlan(
            {layer: tuple(channels) for layer, channels in bits.items()}, self.start.channel_params
        )

    def stops(self, count: int) -> list[int]:
        """Numbers of steps at which plans are about equally far apart in bits, ascending.

        Args:
            count: How many plans there are behind the widest, the last of them the narrowest; of a
                walk of few steps some are the same.
        """
        bits = {layer: list(channels) for layer, channels in self.start.bits.items()}
        saved = np.zeros(len(self.steps) + 1)
        for number, step in enumerate(self.steps):
            narrower = bits[step.layer][step.channel] - step.bits
            bits[step.layer][step.channel] = step.bits
            saved[number + 1] = saved[number] + narrower * self.start.channel_params[step.layer]
        wanted = np.linspace(0, saved[-1], count + 1)
        found = np.searchsorted(saved, wanted - 1e-9).clip(0, len(self.steps))
        return [int(number) for number in found]


def frontier(start: BitPlan, harm: DeltaLossTable, free: Sequence[str]) -> Frontier:
    """The walk of the layers that are searched.

    Args:
        start: Plan whose pinned layers stay as they are.
        harm: KL of every free channel quantized alone, nats per sample, at every bitwidth.
        free: Names of the layers whose bitwidths are searched.
    """
    steps = []
    plan = start
    for layer in free:
        weights = start.channel_params[layer]
        taken = [_taken(bits, weights) for bits in harm.bits]
        plan = plan.with_bits(layer, range(len(start.bits[layer])), harm.bits[0])
        for channel, row in enumerate(harm.nats[layer]):
            for wider, narrower in pairwise(hull(row, taken)):
                saved = weights * (taken[wider] - taken[narrower])
                price = max(0.0, float(row[narrower] - row[wider])) / saved
                steps.append(Step(price, layer, channel, harm.bits[narrower]))
    order = {layer: place for place, layer in enumerate(free)}
    steps.sort(key=lambda step: (step.price, order[step.layer], step.channel, -step.bits))
    return Frontier(plan, tuple(steps))


def _taken(bits: int, weights: int) -> float:
    """Bits that a weight takes in a file, less its share of the scale that 0 bits do not need."""
    return bits or -SCALE_BITS / weights


def hull(harm: Float64Array, bits: Sequence[float]) -> list[int]:
    """Places of the bitwidths on the lower convex hull of harm over bits saved, widest first.

    >>> hull(np.array([0.0, 0.1, 0.2, 1.0, 1.2]), (8, 6, 5, 4, 2))
    [0, 1, 2, 4]
    """
    kept: list[int] = []
    for place in range(len(bits)):
        while len(kept) > 1 and not _bends(harm, bits, (kept[-2], kept[-1], place)):
            kept.pop()
        kept.append(place)
    return kept


def _bends(harm: Float64Array, bits: Sequence[float], places: tuple[int, int, int]) -> bool:
    """Whether the middle one lies below the line between the others."""
    first, middle, last = places
    before = (harm[middle] - harm[first]) * (bits[middle] - bits[last])
    behind = (harm[last] - harm[middle]) * (bits[first] - bits[middle])
    return bool(before < behind)


def between(
    plan: BitPlan, narrower: BitPlan, table: DeltaLossTable, harm: DeltaLossTable
) -> list[tuple[float, Semilayer]]:
    """The semilayers in which a plan is wider than another, least harm per bit saved first.

    The channels of a layer that go to one bitwidth, split by the sign of Δloss there.

    Args:
        plan: Where to begin.
        narrower: A plan that is nowhere wider.
        table: Δloss.
        harm: KL of every channel quantized alone.
    """
    found = []
    for layer, now in plan.bits.items():
        then = narrower.bits[layer]
        lower = [c for c in range(len(now)) if then[c] < now[c]]
        for bits in sorted({then[c] for c in lower}, reverse=True):
            signs = table.column(layer, bits) > 0
            for sign in (Sign.NEGATIVE, Sign.POSITIVE):
                positive = sign is Sign.POSITIVE
                channels = tuple(c for c in lower if then[c] == bits and signs[c] == positive)
                if channels:
                    semilayer = Semilayer(layer, sign, channels, bits)
                    found.append((price(semilayer, plan, harm), semilayer))
    return sorted(found, key=lambda item: (item[0], item[1].layer, item[1].sign, -item[1].bits))


def price(semilayer: Semilayer, plan: BitPlan, harm: DeltaLossTable) -> float:
    """Predicted harm for each bit that lowering a semilayer saves, nats."""
    layer, target = semilayer.layer, harm.bits.index(semilayer.bits)
    added, saved, weights = 0.0, 0.0, plan.channel_params[layer]
    for channel in semilayer.channels:
        bits = plan.bits[layer][channel]
        row = harm.nats[layer][channel]
        added += float(row[target] - row[harm.bits.index(bits)])
        saved += (_taken(bits, weights) - _taken(semilayer.bits, weights)) * weights
    return max(0.0, added) / saved


def tidied(plan: BitPlan, free: Sequence[str]) -> BitPlan:
    """The plan without groups of channels that cost more to keep apart than wider codes would.

    All channels of a layer with one bitwidth are one group in the file, with nodes and names of
    their own. While there is a group that takes fewer bits at the layer's next wider bitwidth than
    its ``GROUP_BYTES``, the cheapest goes there: the file shrinks, and no channel gets fewer bits.

    Args:
        plan: Bits of every target channel.
        free: Layers that may change.
    """
    for layer in free:
        weights = plan.channel_params[layer]
        while len(ladder := sorted(set(plan.bits[layer]))) > 1:
            counts = [plan.bits[layer].count(bits) for bits in ladder]
            added = [
                count * weights * (_taken(wider, weights) - _taken(bits, weights))
                for count, (bits, wider) in zip(counts, pairwise(ladder), strict=False)
            ]
            least = min(added)
            if least > 8 * GROUP_BYTES:
                break
            place = added.index(least)
            narrow = [c for c, bits in enumerate(plan.bits[layer]) if bits == ladder[place]]
            plan = plan.with_bits(layer, narrow, ladder[place + 1])
    return plan


def predicted(plan: BitPlan, harm: DeltaLossTable) -> float:
    """Sum of the harm of all channels, as if they were independent: nats per sample."""
    return sum(layer_harm(plan, harm).values())


def layer_harm(plan: BitPlan, harm: DeltaLossTable) -> dict[str, float]:
    """The same for each layer of the table: nats per sample."""
    columns = {bits: place for place, bits in enumerate(harm.bits)} | {FLOAT_BITS: len(harm.bits)}
    found = {}
    for layer, nats in harm.nats.items():
        places = [columns[bits] for bits in plan.bits[layer]]
        with_float = np.append(nats, np.zeros((len(nats), 1)), axis=1)
        found[layer] = float(with_float[np.arange(len(nats)), places].sum())
    return found


def monotone(nats: Mapping[str, Float64Array]) -> dict[str, Float64Array]:
    """Harm that never falls with fewer bits: noise of the measurement aside, it does not."""
    return {layer: np.maximum.accumulate(values, axis=1) for layer, values in nats.items()}
