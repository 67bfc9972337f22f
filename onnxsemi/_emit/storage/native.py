"""ONNX's own types of 2 and 4 bits where a bitwidth has one, bit planes for the others.

INT4 and UINT4 need opset 21, INT2 and UINT2 opset 25. Doubled codes have no type of their width.
"""

from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import byte_codes
from onnxsemi._emit.storage.planes import BitPlanes
from onnxsemi._quantizer.affine import QuantizedChannels

OPSETS = {4: 21, 2: 25}
RUNTIMES = {4: "1.19", 2: "1.24"}  # the lowest ONNX Runtime that dequantizes the type
_TYPES = {2: ("UINT2", "INT2"), 4: ("UINT4", "INT4")}


def has_type(quantized: QuantizedChannels) -> bool:
    """Whether ONNX has a type for such codes that is narrower than a byte."""
    return quantized.bits in OPSETS and not quantized.doubled


def narrow_type(quantized: QuantizedChannels, *, signed: bool) -> str | None:
    """Name of that type; None if there is none."""
    return _TYPES[quantized.bits][signed] if has_type(quantized) else None


class NativeTypes:
    """Codes as initializers of the narrowest type that ONNX has."""

    folds_early: ClassVar[bool] = False

    def __init__(self, build: Builder, *, signed: bool) -> None:
        """Store into a graph."""
        self._build = build
        self._signed = signed
        self._planes = BitPlanes(build, signed=signed)

    def codes(self, label: str, quantized: QuantizedChannels) -> gs.Tensor:
        """Codes [C, ...]: an initializer of their own where there is a type."""
        if not has_type(quantized):
            return self._planes.codes(label, quantized)
        values = byte_codes(quantized, signed=self._signed)
        return self._build.packed(label, _typed(values, quantized.bits, signed=self._signed))

    def zero_points(self, label: str, values: NDArray[Any], bits: int) -> gs.Tensor:
        """Of the type of the codes, in the shape given."""
        if bits not in OPSETS:
            return self._planes.zero_points(label, values, bits)
        return self._build.packed(f"{label}z", _typed(values, bits, signed=False))

    def finish(self) -> None:
        """Unpack the planes."""
        self._planes.finish()

    @staticmethod
    def opset(quantized: QuantizedChannels) -> int:
        """21 for 4 bits, 25 for 2."""
        return OPSETS[quantized.bits] if has_type(quantized) else BitPlanes.opset(quantized)


def _typed(values: np.ndarray, bits: int, *, signed: bool) -> onnx.TensorProto:
    """A tensor of 2 or 4 bits a value, the first value in the lowest bits of the first byte."""
    each = 8 // bits
    fields = np.zeros(-(-values.size // each) * each, np.uint8)
    fields[: values.size] = values.ravel().view(np.uint8) & (2**bits - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed = np.bitwise_or.reduce(fields.reshape(-1, each) << shifts, axis=1).astype(np.uint8)
    tensor = onnx.TensorProto()
    tensor.data_type = TensorProto.DataType.Value(_TYPES[bits][signed])
    tensor.dims.extend(values.shape)
    tensor.raw_data = packed.tobytes()
    return tensor
