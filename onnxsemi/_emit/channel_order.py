"""The orders that channels are put into: all of a file in one initializer of one or two bytes each.

every order -> Cast(int32) -> Split, one output for each
"""

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnxsemi._arrays import Int64Array
from onnxsemi._emit.builder import Builder


class Orders:
    """Collects permutations for Gather, which takes no index below 32 bits."""

    def __init__(self, build: Builder) -> None:
        """Store into a graph."""
        self._build = build
        self._waiting: list[tuple[Int64Array, gs.Variable]] = []

    def tensor(self, order: Int64Array) -> gs.Tensor:
        """int32[C]; what gives it is added when all are known."""
        for known, tensor in self._waiting:
            if np.array_equal(known, order):
                return tensor
        self._waiting.append((order, self._build.variable(np.int32)))
        return self._waiting[-1][1]

    def finish(self) -> None:
        """Store the orders."""
        if not self._waiting:
            return
        orders, tensors = zip(*self._waiting, strict=True)
        every = np.concatenate(orders)
        stored = self._build.stored("o", every.astype(np.min_scalar_type(int(every.max()))))
        if len(tensors) == 1:
            self._build.append("Cast", [stored], tensors, to=TensorProto.INT32)
            return
        sizes = self._build.integers(*map(len, orders))
        whole = self._build.cast(stored, np.int32)
        self._build.append("Split", [whole, sizes], tensors, axis=0)
