"""Sizes that a model claims, compared with what it holds, before anything is made of them.

A tensor has as many values as its shape says, or it is damaged. What nodes make of constants alone
(a ``ConstantOfShape``, an ``Expand``) would be held in memory when the model is folded, however few
bytes say so: their sizes are inferred first, as far as onnx can, and too large ones refused.
"""

from collections.abc import Iterator
from math import prod

import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper

from onnxsemi._errors import ModelError
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.inference import inferred

MOST_NODES = 100_000
MOST_VALUES = 2**32
"""Values of a tensor that a file holds, at the most: of float32 16 GB."""
MOST_COMPUTED = 2**28
"""Values of a tensor that nodes make of constants, at the most: of float32 1 GB. The largest layers
of known classifiers have less than half of that."""

_SMALL = 4096  # values of a tensor that may be a shape
_NARROW = {4: ("UINT4", "INT4", "FLOAT4E2M1"), 2: ("UINT2", "INT2")}
_BITS = {
    getattr(TensorProto, name): bits
    for bits, names in _NARROW.items()
    for name in names
    if hasattr(TensorProto, name)
}


def check_bounds(model: onnx.ModelProto) -> None:
    """Refuse a model that claims more than it holds, or more than can be held.

    Raises:
        ModelError: With the tensor.
    """
    _check_text(model)
    if len(model.graph.node) > MOST_NODES:
        raise ModelError(f"it has {len(model.graph.node):,} nodes; at most {MOST_NODES:,} are read")
    for tensor in _tensors(model.graph):
        _check_tensor(tensor)
    for name, values in _computed(model):
        if values > MOST_COMPUTED:
            raise ModelError(
                f"tensor {name!r} is to have {values:,} values, more than a classifier can hold"
            )


def _check_text(message: Message) -> None:
    """Refuse names that are no text: protobuf gives them as bytes, and libraries fail on them."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for part in [value] if isinstance(value, str | bytes | Message) else value:
            if isinstance(part, bytes):
                raise ModelError(f"{field.full_name} holds {part!r}, which is no text in UTF-8")
            if isinstance(part, Message):
                _check_text(part)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (entry.t for entry in node.attribute if entry.HasField("t"))


def _check_tensor(tensor: TensorProto) -> None:
    """Refuse a tensor with other bytes than its type and shape say."""
    if min(tensor.dims, default=0) < 0:
        raise ModelError(f"tensor {tensor.name!r} has the shape {list(tensor.dims)}")
    values = prod(tensor.dims)
    if values > MOST_VALUES:
        raise ModelError(f"tensor {tensor.name!r} claims {values:,} values")
    if tensor.data_type not in TensorProto.DataType.values():
        raise ModelError(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}")
    if not tensor.HasField("raw_data"):
        return
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if len(tensor.raw_data) != -(-values * bits // 8):
        raise ModelError(
            f"tensor {tensor.name!r} of shape {list(tensor.dims)} has {len(tensor.raw_data):,} "
            f"bytes, and {-(-values * bits // 8):,} are needed: damaged"
        )


def _computed(model: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    """Tensors that nodes make of constants alone, with their sizes as far as they are known."""
    index = GraphIndex.of(model.graph)
    images = {value.name for value in model.graph.input} - index.constants.keys()
    varying = index.downstream(images)
    nodes = [n for at, n in enumerate(model.graph.node) if at not in varying]
    if all(node.op_type == "Constant" for node in nodes):
        return
    taken = {name for node in nodes for name in node.input}
    inputs, small = [], []
    for name, tensor in index.constants.items():
        if name in taken and prod(tensor.dims) <= _SMALL:
            small.append(tensor)
        elif name in taken:
            inputs.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    graph = helper.make_graph(nodes, "constants", inputs, [], small)
    part = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    part.ir_version = model.ir_version
    for value in inferred(part, with_values=True).value_info:
        dims = value.type.tensor_type.shape.dim
        yield value.name, prod(dim.dim_value for dim in dims if dim.HasField("dim_value"))
