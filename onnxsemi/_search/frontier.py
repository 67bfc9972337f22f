"""The frontier: for every size the plan that is predicted to raise the KL least. Not in the paper.

``kl_increase[c, b]`` is the KL that quantizing channel c alone to b bits causes, from the Fisher
table. A channel's KL increase over its bits is replaced by its lower convex hull, so that what a
bit saved costs grows from step to step:

    price = (kl_increase[c, narrower] - kl_increase[c, wider]) / (weights of c * (wider - narrower))

All steps of all channels in the order of their price, cheapest first (ties by layer, channel and
bitwidth), lead from the widest bitwidth to the narrowest: each beginning of that walk is a plan,
and no plan of its size is predicted to raise the KL less (Lagrange's multiplier is the price of the
next step).

What entropy-coded weights take is what the codes of each channel do, not what its width is called.
At 0 bits a channel saves its scale and zero point, too (:mod:`onnxsemi._plan.groups`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import BoolArray, Float64Array, Int8Array, Int64Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import BITS_TAKEN, FLOAT_BITS, is_coded
from onnxsemi._plan.groups import merged
from onnxsemi._plan.layers import Semilayer
from onnxsemi._search.protocols import DeltaLossTable


@dataclass(frozen=True, eq=False)
class Frontier:
    """A walk through plans: at each step a channel goes to fewer bits.

    Attributes:
        start: The widest plan.
        prices: float64[S], predicted KL increase for each bit saved, nats; ascending.
        channels: int64[S], the channel of each step, among those of all layers.
        bits: int8[S], where it goes.
        saved: float64[S], bits that it saves.
    """

    start: BitPlan
    prices: Float64Array
    channels: Int64Array
    bits: Int8Array
    saved: Float64Array

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.prices)

    def plan(self, count: int) -> BitPlan:
        """The plan after so many steps."""
        channel_bits = self.start.channel_bits.copy()
        np.minimum.at(channel_bits, self.channels[:count], self.bits[:count])
        return self.start.with_channel_bits(channel_bits)

    def points_between(self, count: int) -> list[int]:
        """Numbers of steps at which plans are about equally far apart in bits, ascending.

        Args:
            count: How many plans there are behind the widest, the last of them the narrowest; of a
                walk of few steps some are the same.
        """
        saved = np.concatenate([[0], np.cumsum(self.saved)])
        wanted = np.linspace(0, saved[-1], count + 1)
        found: list[int] = np.searchsorted(saved, wanted - 1e-9).clip(0, len(self)).tolist()
        return found


def frontier(start: BitPlan, kl_increase: DeltaLossTable, free: Sequence[str]) -> Frontier:
    """The walk of the layers that are searched.

    Args:
        start: Plan whose pinned layers stay as they are.
        kl_increase: KL of every free channel quantized alone, nats per sample, at every bitwidth.
        free: Names of the layers whose bitwidths are searched.
    """
    places = start.layout.places
    every = [np.arange(places[layer].start, places[layer].stop) for layer in free]
    channels = np.concatenate([np.zeros(0, np.int64), *every])  # [F], in the order of the layers
    nats = np.concatenate(
        [np.zeros((0, len(kl_increase.bits))), *(kl_increase.nats[layer] for layer in free)]
    )
    weights = start.layout.weights[channels][:, None]
    params = start.channel_params
    each = np.concatenate(
        [np.zeros((0, len(kl_increase.bits))), *(kl_increase.taken(n, params[n]) for n in free)]
    )
    rows, columns = np.nonzero(hulls(nats, each))
    same = rows[1:] == rows[:-1]
    rows, wider, narrower = rows[1:][same], columns[:-1][same], columns[1:][same]
    added = np.maximum(0.0, nats[rows, narrower] - nats[rows, wider])
    saved = weights[rows, 0] * (each[rows, wider] - each[rows, narrower])
    prices = added / saved
    order = np.argsort(prices, kind="stable")  # ties: by layer, channel and bitwidth
    bits = np.array(kl_increase.bits, np.int8)[narrower]
    widest = start.with_layers(free, kl_increase.bits[0])
    return Frontier(widest, prices[order], channels[rows][order], bits[order], saved[order])


def hulls(kl_increase: Float64Array, bits: Float64Array) -> BoolArray:
    """Which bitwidths are on the lower convex hull of a channel's KL increase over bits saved.

    >>> kl_increase = np.array([[0.0, 0.1, 0.2, 1.0, 1.2]])
    >>> hulls(kl_increase, np.array([[8.0, 6.0, 5.0, 4.0, 2.0]]))
    array([[ True,  True,  True, False,  True]])

    Args:
        kl_increase: float64[C, B], nats, widest bitwidth first.
        bits: float64[C, B], what a weight takes there.

    Returns:
        bool[C, B].
    """
    channels, width = np.arange(len(kl_increase)), kl_increase.shape[1]
    kept = np.zeros((len(kl_increase), width), np.int64)  # places on the hull so far, as a stack
    count = np.zeros(len(kl_increase), np.int64)
    for place in range(width):
        rows = channels[count > 1]
        while len(rows):
            first, middle = kept[rows, count[rows] - 2], kept[rows, count[rows] - 1]
            (h0, h1, h2), (b0, b1, b2) = (
                (values[rows, first], values[rows, middle], values[rows, place])
                for values in (kl_increase, bits)
            )
            rows = rows[~((h1 - h0) * (b1 - b2) < (h2 - h1) * (b0 - b1))]  # not below the line
            count[rows] -= 1
            rows = rows[count[rows] > 1]
        kept[channels, count] = place
        count += 1
    on_hull = np.zeros(kl_increase.shape, np.bool_)
    rows, stacked = np.nonzero(np.arange(width) < count[:, None])
    on_hull[rows, kept[rows, stacked]] = True
    return on_hull


def between(
    plan: BitPlan, narrower: BitPlan, table: DeltaLossTable, kl_increase: DeltaLossTable
) -> list[tuple[float, Semilayer]]:
    """The semilayers in which a plan is wider than another, least KL increase per bit saved first.

    The channels of a layer that go to one bitwidth, split by the sign of Δloss there.

    Args:
        plan: Where to begin.
        narrower: A plan that is nowhere wider.
        table: Δloss.
        kl_increase: KL of every channel quantized alone.
    """
    found: list[tuple[float, Semilayer]] = []
    for layer, now in plan.bits.items():
        then = narrower.bits[layer]
        for bits in np.unique(then[then < now])[::-1].tolist():
            moved = np.flatnonzero((then < now) & (then == bits))
            split = table.by_sign(layer, moved.tolist(), bits)
            found += [(price(semilayer, plan, kl_increase), semilayer) for semilayer in split]
    return sorted(found, key=lambda item: (item[0], item[1].layer, item[1].sign, -item[1].bits))


def price(semilayer: Semilayer, plan: BitPlan, kl_increase: DeltaLossTable) -> float:
    """Predicted KL increase for each bit that lowering a semilayer saves, nats."""
    layer, channels = semilayer.layer, np.array(semilayer.channels)
    now, weights = _columns(kl_increase)[plan.bits[layer][channels]], plan.channel_params[layer]
    nats, bits = kl_increase.nats[layer][channels], kl_increase.taken(layer, weights)[channels]
    each, there = np.arange(len(channels)), kl_increase.bits.index(semilayer.bits)
    added = float((nats[:, there] - nats[each, now]).sum())
    saved = float((bits[each, now] - bits[:, there]).sum()) * weights
    return max(0.0, added) / saved


def merged_groups(plan: BitPlan, free: Sequence[str]) -> BitPlan:
    """The plan without groups of channels that cost more to keep apart than wider codes would.

    Entropy-coded channels are left as they are: how many bits their codes are stored in follows
    from the codes (:func:`onnxsemi._quantizer.narrowing.narrowed`).

    Args:
        plan: Bits of every target channel.
        free: Layers that may change.
    """
    found = plan.channel_bits.copy()
    for layer in free:
        bits = plan.bits[layer]
        if not any(map(is_coded, np.unique(bits).tolist())):
            found[plan.layout.places[layer]] = merged(bits, plan.channel_params[layer])
    return plan.with_channel_bits(found)


def one_bitwidth(plan: BitPlan, free: Sequence[str]) -> BitPlan:
    """The plan with every channel of a layer at the widest bitwidth that the layer has.

    Args:
        plan: Bits of every target channel.
        free: Layers that may change.
    """
    found = plan.channel_bits.copy()
    for layer in free:
        found[plan.layout.places[layer]] = plan.bits[layer].max()
    return plan.with_channel_bits(found)


def predicted(plan: BitPlan, kl_increase: DeltaLossTable) -> float:
    """Sum of the KL increase of all channels, as if they were independent: nats per sample."""
    return sum(layer_kl_increase(plan, kl_increase).values())


def layer_kl_increase(plan: BitPlan, kl_increase: DeltaLossTable) -> dict[str, float]:
    """The same for each layer of the table: nats per sample."""
    columns = _columns(kl_increase)
    found = {}
    for layer, nats in kl_increase.nats.items():
        bits = plan.bits[layer]
        known = nats[np.arange(len(nats)), columns[bits]]
        found[layer] = float(np.where(bits == FLOAT_BITS, 0.0, known).sum())
    return found


def _columns(kl_increase: DeltaLossTable) -> Int64Array:
    """int64[80]: where a width stands in the table; one that is not there is out of range."""
    columns = np.full(len(BITS_TAKEN), len(kl_increase.bits))
    columns[list(kl_increase.bits)] = np.arange(len(kl_increase.bits))
    columns[FLOAT_BITS] = 0  # any: float32 adds no KL
    return columns


def monotone(nats: Mapping[str, Float64Array]) -> dict[str, Float64Array]:
    """KL that never falls with fewer bits: noise of the measurement aside, it does not."""
    return {layer: np.maximum.accumulate(values, axis=1) for layer, values in nats.items()}
