"""Every channel of every layer, rounded for the float model's inputs, at every bitwidth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array, Int8Array
from onnxsemi._plan.bitwidth import is_coded
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme
from onnxsemi._rounding.grid import Grid
from onnxsemi._rounding.rate import rate_grid


@dataclass(frozen=True, eq=False)
class RoundingTable:
    """What the channels of each layer become, as rounding gives it.

    Attributes:
        scheme: Of the grids.
        entries: Layer name -> bitwidth -> all its channels.
        shifts: Layer name -> bitwidth -> float32[O], what the biases take up; a layer whose bias is
            left alone is missing.
        damping: Layer name -> float64[G], what its second moments were damped by.
    """

    scheme: Scheme
    entries: Mapping[str, Mapping[int, QuantizedChannels]]
    shifts: Mapping[str, Mapping[int, Float32Array]]
    damping: Mapping[str, Float64Array]

    def at(self, layer: TargetLayer, bits: int) -> QuantizedChannels:
        """Every channel of a layer at one bitwidth."""
        return self.entries[layer.name][bits]

    def bias_shift(self, layer: TargetLayer, bits: int) -> Float32Array | None:
        """What quantizing takes from the mean of each channel's output: float32[O]."""
        shifts = self.shifts.get(layer.name)
        return None if shifts is None else shifts[bits]

    def grid(self, layer: TargetLayer, bits: Int8Array) -> Grid:
        """The grids of the channels at their widths; any grid for float32 channels."""
        if any(map(is_coded, np.unique(bits).tolist())):
            return rate_grid(layer.weight.reshape(layer.channels, -1), bits.astype(np.int64))
        entries = self.entries[layer.name]
        rows = np.where(np.isin(bits, list(entries)), bits, min(entries))
        whole = Grid.of(entries[int(rows[0])])
        for value in sorted(set(rows.tolist())):
            chosen, part = np.flatnonzero(rows == value), Grid.of(entries[value])
            for name in ("step", "zero", "top"):
                getattr(whole, name)[chosen] = getattr(part, name)[chosen]
        return whole
