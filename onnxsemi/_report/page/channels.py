"""What is known of each channel, side by side: layer, bits in the file, sign of Δloss there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array
from onnxsemi._plan.bitwidth import BITS_TAKEN, FLOAT_BITS, shown, width_of
from onnxsemi._report.record import RunRecord


@dataclass(frozen=True, eq=False)
class LayerChannels:
    """The channels of one layer.

    Attributes:
        name: Of the layer.
        bits: int64[O], width in the plan.
        delta_loss: float64[O], at these bits, or at the widest measured where the channel stayed
            float32 or has bits that were not measured; NaN where Δloss was not measured.
        parameters: Weights in one channel.
    """

    name: str
    bits: Int64Array
    delta_loss: Float64Array
    parameters: int

    @property
    def signs(self) -> Int64Array:
        """int64[O]: -1 where Δloss <= 0, 1 where it is > 0, 0 where it was not measured."""
        signs = np.where(self.delta_loss > 0, 1, -1)
        return np.where(np.isnan(self.delta_loss), 0, signs).astype(np.int64)

    @property
    def mean_bits(self) -> float:
        """Bits of a weight."""
        return float(BITS_TAKEN[self.bits].mean())

    @property
    def grouped(self) -> Int64Array:
        """Channels by sign, then bits from narrow to wide, then number: int64[O]."""
        return np.lexsort((np.arange(len(self.bits)), BITS_TAKEN[self.bits], self.signs)).astype(
            np.int64
        )


def layers_of(kept: RunRecord) -> Iterator[LayerChannels]:
    """The layers in graph order."""
    evidence, start = kept.evidence, 0
    for name, values in kept.document.plan.layers.items():
        bits = np.array([width_of(value) for value in values], np.int64)
        rows = evidence.delta_loss[start : start + len(bits)]
        columns = [_column(evidence.bits, value) for value in bits.tolist()]
        delta_loss = rows[np.arange(len(bits)), columns]
        yield LayerChannels(name, bits, delta_loss, kept.document.channel_parameters[name])
        start += len(bits)


def bits_in(kept: RunRecord) -> list[int]:
    """Widths of the ladder and of the plan, widest first."""
    layers = kept.document.plan.layers.values()
    used = {width_of(bits) for values in layers for bits in values}
    return sorted({*kept.evidence.bits.tolist(), *used}, key=lambda width: -BITS_TAKEN[width])


def bits_name(bits: int) -> str:
    """``0 bits``, ``1 bit``, ``2.5 bits``, ``float32``."""
    if bits == FLOAT_BITS:
        return "float32"
    return f"{shown(bits)} bit{'s' * (bits != 1)}"


def _column(ladder: Int64Array, bits: int) -> int:
    places = np.flatnonzero(ladder == bits)
    return int(places[0]) if len(places) else 0
