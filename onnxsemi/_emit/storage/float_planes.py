"""Bit planes, unpacked by float32 arithmetic (opset 13): for runtimes without operators on bits.

    planes -> Split -> Cast -> Mul -> Floor ---------> Sub -> Reshape (-> Mul) -> Add -> Cast
                            -> Mul -> Floor -> Mul ---^

A byte v holds the field of ``width`` bits that begins at bit ``low`` as

    floor(v / 2^low) - 2^width * floor(v / 2^(low + width))

Bytes are whole numbers below 256 and the factors powers of two, so that every step is exact in
float32. The same bytes are stored as in :mod:`onnxsemi._emit.storage.planes`, and a hundred bytes
of nodes a bitwidth more (measured: 0.1 to 0.4 % of a ResNet-20's file). A table of 256 rows for a
Gather would have 512 to 2,048 bytes for each width of a field.
"""

from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._arrays import UInt8Array
from onnxsemi._emit.bitplanes import field_widths
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage.containers import OPSET
from onnxsemi._emit.storage.planes import BitPlanes, stored_planes
from onnxsemi._quantizer.affine import QuantizedChannels


class FloatPlanes(BitPlanes):
    """Codes in exactly their bits; no operator of the file works on bits."""

    folds_early: ClassVar[bool] = True

    @staticmethod
    def opset(quantized: QuantizedChannels) -> int:
        """The same for all: Split with sizes, and DequantizeLinear with an axis."""
        del quantized
        return OPSET

    def _flat(self, kind: QuantizedChannels, codes: UInt8Array) -> gs.Tensor:
        """uint8[n], padded: one initializer and what unpacks it."""
        build, below = self._build, 0
        parts = []
        for plane, width in zip(
            stored_planes(build, kind, codes), field_widths(kind.bits), strict=True
        ):
            unit = 2.0 ** (below + kind.doubled)
            fields = _fields(build, plane, width)
            parts.append(fields if unit == 1 else _times(build, fields, np.array([unit])))
            below += width
        joined = parts[0]
        for part in parts[1:]:
            joined = build.node("Add", joined, part, dtype=np.float32)
        return build.cast(joined, np.uint8)


def _fields(build: Builder, plane: gs.Tensor, width: int) -> gs.Tensor:
    """uint8[m] bytes -> float32[n] fields."""
    low = np.arange(0, 8, width)[:, None]
    values = build.cast(plane, np.float32)
    kept = build.node("Floor", _times(build, values, 2.0**-low), dtype=np.float32)  # [k, m]
    above = build.node("Floor", _times(build, values, 2.0 ** -(low + width)), dtype=np.float32)
    fields = build.node("Sub", kept, _times(build, above, np.array([2.0**width])), dtype=np.float32)
    return build.node("Reshape", fields, build.integers(-1), dtype=np.float32)


def _times(build: Builder, values: gs.Tensor, factors: np.ndarray) -> gs.Tensor:
    return build.node("Mul", values, build.shared(factors.astype(np.float32)), dtype=np.float32)
