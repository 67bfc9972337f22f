"""Weights in the place and the form in which an operator's channels can be quantized.

A folded graph -> the same function, in which a stored weight is the second factor of a product:

    MatMul(x, W[1, ..., I, O])      MatMul(x, W[I, O]), if x has at least as many axes
    MatMul(W[C, I], x[N, I, T])     Conv(x, W[C, I, 1]): the rows are the channels
    MatMul(W[C, I], x) else         Transpose(MatMul(Transpose(x), W^T[I, C]))
    Einsum(x, W) of the last axes   Reshape(MatMul(Reshape(x), W[I, O])), I and O any number of axes
    W used in several layouts       one W for each of them
"""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxsemi._model.contraction import contraction
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.inference import inferred
from onnxsemi._model.layout import layout_of
from onnxsemi._model.roles import WEIGHTED

_THREE = 3  # axes of [N, I, T], the input of a convolution of one dimension


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with weights where they can be quantized; the model itself may change.

    Args:
        model: A folded model, whose nodes have names.
    """
    if any(node.op_type in ("MatMul", "Einsum") for node in model.graph.node):
        rewrite = _Rewrite(model.graph, _ranks(model))
        nodes = [new for node in model.graph.node for new in rewrite.products(node)]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        rewrite.finish()
    _untie(model.graph)
    return model


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Number of axes of every tensor that onnx infers."""
    graph = inferred(model)
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


class _Rewrite:
    """Products of one graph, node by node."""

    def __init__(self, graph: onnx.GraphProto, ranks: Mapping[str, int]) -> None:
        self._graph, self._ranks = graph, ranks
        self._index = GraphIndex.of(graph)
        self._names = {name for node in graph.node for name in (*node.input, *node.output)}
        self._names |= set(self._index.constants)
        self._new: dict[str, onnx.TensorProto] = {}
        self._stored_as: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def products(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What stands in a node's place; the node itself if it can stay."""
        if len(node.input) != 2 or node.op_type not in ("MatMul", "Einsum"):
            return [_copy(node)]
        first, second = (self._weight(name) for name in node.input)
        if node.op_type == "Einsum":
            made = None if second is None else self._einsum(node, second)
        elif second is not None:
            made = self._without_axes(node, second)
        else:
            made = None if first is None else self._weight_first(node, first)
        return made or [_copy(node)]

    def finish(self) -> None:
        """Add the new weights; drop those that nothing takes any more."""
        graph = self._graph
        used = {name for node in graph.node for name in node.input}
        used |= {value.name for value in graph.output}
        every = (*graph.initializer, *self._new.values())
        kept = [_copy(tensor) for tensor in every if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)

    def _weight(self, name: str) -> NDArray[Any] | None:
        tensor = self._index.constants.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            return None
        return numpy_helper.to_array(tensor)

    def _without_axes(
        self, node: onnx.NodeProto, weight: NDArray[Any]
    ) -> list[onnx.NodeProto] | None:
        lead = weight.shape[:-2]
        if not lead or set(lead) != {1} or self._ranks.get(node.input[0], 0) < weight.ndim:
            return None
        plain = self._stored(node.input[1], weight.reshape(weight.shape[-2:]))
        return [_node("MatMul", (node.input[0], plain), node.output, node.name)]

    def _weight_first(
        self, node: onnx.NodeProto, weight: NDArray[Any]
    ) -> list[onnx.NodeProto] | None:
        own, other = node.input
        rank = self._ranks.get(other, 0)
        if set(weight.shape[:-2]) - {1} or rank < max(2, weight.ndim):
            return None
        matrix = weight.reshape(weight.shape[-2:])
        if rank == _THREE:
            kernel = self._stored(own, matrix[..., None])
            return [_node("Conv", (other, kernel), node.output, node.name)]
        order = [*range(rank - 2), rank - 1, rank - 2]
        before, after = (self._fresh(f"{node.output[0]}_{part}") for part in ("rows", "columns"))
        factor = self._stored(own, matrix.T)
        return [
            _node("Transpose", (other,), (before,), f"{node.name}_in", perm=order),
            _node("MatMul", (before, factor), (after,), node.name),
            _node("Transpose", (after,), node.output, f"{node.name}_out", perm=order),
        ]

    def _einsum(self, node: onnx.NodeProto, weight: NDArray[Any]) -> list[onnx.NodeProto] | None:
        equation = helper.get_attribute_value(node.attribute[0]).decode()
        found = contraction(equation, self._ranks.get(node.input[0], 0))
        if found is None:
            return None
        turned, kept = weight.transpose(found.order), [0] * found.kept
        sizes = turned.shape[found.summed :]
        factor = self._stored(node.input[1], turned.reshape(-1, int(np.prod(sizes))))
        (name, _), (last,) = node.input, node.output
        before, after = [], []
        if found.summed > 1:
            flat = self._fresh(f"{last}_flat")
            before.append(self._reshape(name, flat, [*kept, -1], f"{node.name}_flat"))
            name = flat
        if found.made > 1:
            joined = self._fresh(f"{last}_joined")
            after.append(self._reshape(joined, last, [*kept, *sizes], f"{node.name}_apart"))
            last = joined
        return [*before, _node("MatMul", (name, factor), (last,), node.name), *after]

    def _reshape(self, given: str, gives: str, shape: list[int], name: str) -> onnx.NodeProto:
        """A Reshape whose zeros leave an axis as it is."""
        tensor = self._fresh(f"{gives}_shape")
        self._new[tensor] = numpy_helper.from_array(np.array(shape, np.int64), tensor)
        return _node("Reshape", (given, tensor), (gives,), name)

    def _stored(self, name: str, value: NDArray[Any]) -> str:
        """Store a weight under a name of its own: once, if it is used alike in several places."""
        value = np.ascontiguousarray(value)
        key = name, value.shape, value.tobytes()
        if key not in self._stored_as:
            fresh = self._fresh(f"{name}_{'x'.join(map(str, value.shape))}")
            self._new[fresh] = numpy_helper.from_array(value, fresh)
            self._stored_as[key] = fresh
        return self._stored_as[key]

    def _fresh(self, wanted: str) -> str:
        names = (wanted if number == 1 else f"{wanted}_{number}" for number in count(1))
        name = next(name for name in names if name not in self._names)
        self._names.add(name)
        return name


def _untie(graph: onnx.GraphProto) -> None:
    """Give each way to store a weight that several nodes share a tensor of its own."""
    index = GraphIndex.of(graph)
    taken = {*index.producer, *index.consumers, *index.constants}
    for name, tensor in index.constants.items():
        users = [graph.node[position] for position in index.consumers.get(name, ())]
        if len(tensor.dims) < 2 or not all(_is_weight_of(user, name) for user in users):
            continue
        layouts = [layout_of(user, tuple(tensor.dims)) for user in users]
        for number, layout in enumerate(list(dict.fromkeys(layouts))[1:], 2):
            own = next(n for n in (f"{name}_{k}" for k in count(number)) if n not in taken)
            taken.add(own)
            copy = _copy(tensor)
            copy.name = own
            graph.initializer.append(copy)
            for user, its in zip(users, layouts, strict=True):
                if its == layout:
                    user.input[1] = own


def _is_weight_of(node: onnx.NodeProto, name: str) -> bool:
    return node.op_type in WEIGHTED and [*node.input].index(name) == 1


Message = TypeVar("Message", onnx.NodeProto, onnx.TensorProto)


def _copy(message: Message) -> Message:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _node(
    kind: str, inputs: Iterable[str], outputs: Iterable[str], name: str, **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node(kind, [*inputs], [*outputs], name, **attributes)
