"""Adding nodes to a graph, with short names and constants that are stored once."""

from collections.abc import Iterable, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import helper
from onnx_graphsurgeon.ir.tensor import LazyValues


class Builder:
    """Adds nodes and constants to a graph under a prefix that no tensor of it has."""

    def __init__(self, graph: gs.Graph) -> None:
        """Build into ``graph``."""
        self.graph = graph
        self._nodes = {node.name for node in graph.nodes}
        names = [*graph.tensors(), *self._nodes]
        self._prefix = "q"
        while any(name.startswith(self._prefix) for name in names):
            self._prefix += "q"
        self._shared: dict[tuple[str, tuple[int, ...], bytes], gs.Constant] = {}
        self._count = 0

    def stored(self, label: str, values: NDArray[Any]) -> gs.Constant:
        """A constant of its own."""
        return gs.Constant(f"{self._prefix}{label}", np.array(values, order="C"))

    def shared(self, values: NDArray[Any]) -> gs.Constant:
        """A small constant: equal values are stored once in the file."""
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._shared:
            self._shared[key] = self.stored(f"c{len(self._shared)}", values)
        return self._shared[key]

    def packed(self, label: str, tensor: onnx.TensorProto) -> gs.Constant:
        """A constant of its own, of a type that numpy has not."""
        return gs.Constant(f"{self._prefix}{label}", LazyValues(tensor))

    def integers(self, *values: int) -> gs.Constant:
        """A shared int64 vector."""
        return self.shared(np.array(values, np.int64))

    def node(self, op: str, *inputs: gs.Tensor, dtype: Any, **attributes: Any) -> gs.Variable:
        """Add a node with one output, which is returned."""
        return self.nodes(op, *inputs, dtype=dtype, outputs=1, **attributes)[0]

    def nodes(
        self, op: str, *inputs: gs.Tensor, dtype: Any, outputs: int, **attributes: Any
    ) -> list[gs.Variable]:
        """Add a node with several outputs of one type, which are returned."""
        made = [self.variable(dtype) for _ in range(outputs)]
        self.append(op, inputs, made, **attributes)
        return made

    def zeros(self, shape: Sequence[int], dtype: Any) -> gs.Variable:
        """A tensor of zeros that the file does not hold (ConstantOfShape, opset 9)."""
        value = {} if dtype is np.float32 else {"value": gs.Constant("", np.zeros(1, dtype))}
        return self.node("ConstantOfShape", self.integers(*shape), dtype=dtype, **value)

    def filled(self, count: int, value: np.generic) -> gs.Variable:
        """A vector of one value that the file does not hold (ConstantOfShape, opset 9)."""
        one = gs.Constant("", np.array([value]))
        return self.node("ConstantOfShape", self.integers(count), dtype=value.dtype, value=one)

    def gather(self, table: gs.Tensor, index: gs.Tensor, axis: int = 0) -> gs.Variable:
        """Rows of a table, or its columns."""
        return self.node("Gather", table, index, dtype=table.dtype, axis=axis)

    def cast(self, tensor: gs.Tensor, dtype: Any) -> gs.Variable:
        """The tensor as another type."""
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", tensor, dtype=dtype, to=to)

    def variable(self, dtype: Any) -> gs.Variable:
        """A tensor that a node is yet to give."""
        self._count += 1
        return gs.Variable(f"{self._prefix}v{self._count}", dtype=np.dtype(dtype))

    def node_name(self, wanted: str) -> str:
        """A name that no node has: the one that is wanted, or with a number behind it."""
        names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
        name = next(name for name in names if name not in self._nodes)
        self._nodes.add(name)
        return name

    def append(
        self,
        op: str,
        inputs: Iterable[gs.Tensor],
        outputs: Iterable[gs.Tensor],
        name: str = "",
        **attributes: Any,
    ) -> None:
        """Add a node between given tensors."""
        self.graph.nodes.append(
            gs.Node(op=op, name=name, attrs=attributes, inputs=list(inputs), outputs=list(outputs))
        )
