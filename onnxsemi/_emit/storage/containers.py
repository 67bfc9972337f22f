"""One code a byte, whatever its bitwidth: nothing to unpack, and nothing saved below 8 bits."""

from typing import Any, ClassVar

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import byte_codes
from onnxsemi._quantizer.affine import QuantizedChannels

OPSET = 13  # DequantizeLinear with an axis


class Containers:
    """Codes as uint8 or int8 initializers."""

    folds_early: ClassVar[bool] = False

    def __init__(self, build: Builder, *, signed: bool) -> None:
        """Store into a graph."""
        self._build = build
        self._signed = signed

    def codes(self, label: str, quantized: QuantizedChannels) -> gs.Tensor:
        """Codes [C, ...]: an initializer of their own."""
        return self._build.stored(label, byte_codes(quantized, signed=self._signed))

    def zero_points(self, label: str, values: NDArray[Any], bits: int) -> gs.Tensor:
        """One byte each, in the shape given."""
        del bits
        return self._build.stored(f"{label}z", values)

    def finish(self) -> None:
        """Nothing is shared."""

    @staticmethod
    def opset(quantized: QuantizedChannels) -> int:
        """The same for all."""
        del quantized
        return OPSET
