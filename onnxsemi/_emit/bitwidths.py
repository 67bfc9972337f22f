"""Which channel of an emitted file has which bitwidth, from the file alone.

A weight is traced back through what puts its channels in order (Concat, Gather) to the groups that
are stored; where a layer is divided into a node for each bitwidth, so is what puts their outputs
in order.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from onnxsemi._arrays import Int64Array
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.stored_codes import codes_in, producer, tail_of, zeros_shape
from onnxsemi._emit.stored_weights import emitted_properties, layer_nodes
from onnxsemi._errors import ModelError
from onnxsemi._model.index import GraphIndex
from onnxsemi._plan.bitwidth import FLOAT_BITS

Bits = Mapping[str, tuple[int, ...] | None]


def bits_of(model: onnx.ModelProto) -> Bits:
    """Layer -> bitwidth of each channel; None for a layer that is float32 as a whole.

    Raises:
        ModelError: If onnxsemi did not write the file, it was changed since, or its profile stores
            float32 weights.
    """
    profile = emitted_properties(model).get("onnxsemi.profile")
    if profile is None:
        raise ModelError("was not written by onnxsemi: it stores no bitwidths")
    if profile == Profile.FAKE:
        raise ModelError("profile fake stores float32 weights: look at its plan instead")
    index = GraphIndex.of(model.graph)
    found: dict[str, tuple[int, ...] | None] = {}
    for name, nodes in layer_nodes(model, index).items():
        try:
            divided = len(nodes) > 1
            bits = _divided(index, nodes[0]) if divided else _weight(index, nodes[0].input[1])
            found[name] = None if bits is None else tuple(bits.tolist())
        except (KeyError, ValueError, IndexError):
            raise ModelError(
                f"the weight of {name!r} was changed since onnxsemi wrote it: not readable"
            ) from None
    return found


def _weight(index: GraphIndex, name: str) -> Int64Array | None:
    """int64[C]; None for an initializer."""
    node = producer(index, name)
    if node is None:
        if name not in index.constants:
            raise KeyError(name)
        return None
    if node.op_type == "Concat":
        return np.concatenate([_part(index, part) for part in node.input])
    if node.op_type == "Gather":
        return _part(index, node.input[0])[_order(index, node.input[1])]
    if node.op_type in ("Reshape", "Transpose"):
        return _weight(index, node.input[0])
    if node.op_type == "ConstantOfShape":
        return np.zeros(zeros_shape(index, node)[0], np.int64)
    return _codes(index, tail_of(index, node)[0])


def _part(index: GraphIndex, name: str) -> Int64Array:
    """The same of a part of a weight, channels first."""
    bits = _weight(index, name)
    if bits is not None:
        return bits
    while (node := producer(index, name)) is not None:  # put into the operator's own layout
        name = node.input[0]
    return np.full(index.constants[name].dims[0], FLOAT_BITS)


def _codes(index: GraphIndex, name: str) -> Int64Array:
    """int64[C] of a tensor of integers."""
    node = producer(index, name)
    if node is not None and node.op_type == "Gather":
        return _codes(index, node.input[0])[_order(index, node.input[1])]
    if node is not None and node.op_type == "Concat":
        return np.concatenate([_codes(index, part) for part in node.input])
    if node is not None and node.op_type == "Transpose":
        return _codes(index, node.input[0])
    return np.concatenate([np.full(c.channels, c.bits) for c in codes_in(index, name)])


def _divided(index: GraphIndex, node: onnx.NodeProto) -> Int64Array:
    """int64[C] of a layer that one of its nodes is given."""
    whole = _consumer(index, node.output[0])
    if whole is None or whole.op_type != "Concat":
        raise ValueError(node.name)
    nodes = [index.graph.node[index.producer[output]] for output in whole.input]
    bits = np.concatenate([_part(index, node.input[1]) for node in nodes])
    behind = _consumer(index, whole.output[0])
    if behind is None or behind.op_type != "Gather":
        return bits
    made_by = producer(index, behind.input[1])
    ordered = made_by is not None and made_by.op_type in ("Cast", "Split")  # else the model's own
    return bits[_order(index, behind.input[1])] if ordered else bits


def _consumer(index: GraphIndex, name: str) -> onnx.NodeProto | None:
    positions = index.consumers.get(name, [])
    return index.graph.node[positions[0]] if len(positions) == 1 else None


def _order(index: GraphIndex, name: str) -> Int64Array:
    """int64[C]: a permutation, which stands among those of all layers."""
    node = producer(index, name)
    if node is None:
        return numpy_helper.to_array(index.constants[name]).astype(np.int64)
    if node.op_type == "Cast":
        return _order(index, node.input[0])
    if node.op_type != "Split":
        raise ValueError(node.op_type)
    sizes = numpy_helper.to_array(index.constants[node.input[1]])
    place = list(node.output).index(name)
    return np.split(_order(index, node.input[0]), np.cumsum(sizes)[:-1])[place]
