"""How the codes of quantized channels lie in the file: one module a way."""

from typing import Any, ClassVar, Protocol

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._emit.builder import Builder
from onnxsemi._quantizer.affine import QuantizedChannels


class Storage(Protocol):
    """Puts codes into a graph, in the units of their zero points: doubled on a doubled grid.

    Signed codes are centred on zero and need no zero points: those of a bitwidth have the same.

    Attributes:
        folds_early: Whether runtimes fold what unpacks codes before they look for weights that are
            compressed in a way of their own.
    """

    folds_early: ClassVar[bool]

    def __init__(self, build: Builder, *, signed: bool) -> None:
        """Store into a graph."""

    def codes(self, label: str, quantized: QuantizedChannels) -> gs.Tensor:
        """Codes as integers of one type, [C, ...].

        Args:
            label: Name of what is stored, after the graph's prefix.
            quantized: The channels.
        """

    def zero_points(self, label: str, values: NDArray[Any], bits: int) -> gs.Tensor:
        """Zero points of codes, of the type of the codes and in the shape given."""

    def finish(self) -> None:
        """Add what all codes share; called once, after the last codes."""

    @staticmethod
    def opset(quantized: QuantizedChannels) -> int:
        """The lowest opset that serves for such codes."""


def byte_codes(quantized: QuantizedChannels, *, signed: bool) -> NDArray[Any]:
    """One code a byte: uint8[C, ...], or int8[C, ...] centred on zero."""
    if not signed:
        return quantized.units
    centred: NDArray[np.int8] = (quantized.units.astype(np.int16) - centre(quantized)).astype(
        np.int8
    )
    return centred


def centre(quantized: QuantizedChannels) -> int:
    """The zero point of signed codes, which all have."""
    return int(quantized.zero_point[0])
