"""How integer codes become float32 weights: one module a way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import Storage


@dataclass(frozen=True, eq=False)
class Integers:
    """Codes in a graph, and what makes weights of them: ``scale * (codes - zero_point)``.

    Attributes:
        codes: Integers of one type, C of them along ``axis``.
        axis: Channel axis.
        rank: Number of axes.
        bits: Bitwidth of their type, as the storage counts it.
        scale: float32[C].
        zero_point: uint8[C], or int8[C] of zeros; None for signed codes, centred on zero.
    """

    codes: gs.Tensor
    axis: int
    rank: int
    bits: int
    scale: Float32Array
    zero_point: NDArray[Any] | None


Tail = Callable[[Builder, Storage, str, Integers], gs.Tensor]
"""Adds the nodes; the text names what is stored."""
