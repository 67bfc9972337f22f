"""What is known of each channel, side by side: layer, bits in the file, sign of Δloss there."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._report.record import RunRecord


@dataclass(frozen=True, eq=False)
class LayerChannels:
    """The channels of one layer.

    Attributes:
        name: Of the layer.
        bits: int64[O], in the file.
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
    def grouped(self) -> Int64Array:
        """Channels by sign, then bits from narrow to wide, then number: int64[O]."""
        return np.lexsort((np.arange(len(self.bits)), self.bits, self.signs)).astype(np.int64)


def layers_of(kept: RunRecord) -> Iterator[LayerChannels]:
    """The layers in graph order."""
    evidence, start = kept.evidence, 0
    for name, values in kept.document.plan.layers.items():
        bits = np.array(values, np.int64)
        rows = evidence.delta_loss[start : start + len(bits)]
        columns = [_column(evidence.bits, value) for value in values]
        delta_loss = rows[np.arange(len(bits)), columns]
        yield LayerChannels(name, bits, delta_loss, kept.document.channel_parameters[name])
        start += len(bits)


def bits_in(kept: RunRecord) -> list[int]:
    """Bitwidths of the ladder and of the file, widest first."""
    used = {bits for values in kept.document.plan.layers.values() for bits in values}
    return sorted({*kept.evidence.bits.tolist(), *used}, reverse=True)


def bits_name(bits: int) -> str:
    """``0 bits``, ``1 bit``, ``float32``."""
    if bits == FLOAT_BITS:
        return "float32"
    return f"{bits} bit{'s' * (bits != 1)}"


def _column(ladder: Int64Array, bits: int) -> int:
    places = np.flatnonzero(ladder == bits)
    return int(places[0]) if len(places) else 0
