"""Reading back what an emitted file stores, from the file alone.

A weight is traced from its node through Reshape, Transpose, Gather and Concat to its groups: a
DequantizeLinear, whose codes lead back to one initializer, or float32 channels.
"""

from dataclasses import dataclass

import onnx

from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.errors import ModelError
from onnxsemi.model.index import GraphIndex
from onnxsemi.model.roles import WEIGHTED

_REARRANGING = ("Reshape", "Transpose", "Gather")


@dataclass(frozen=True)
class StoredGroup:
    """Channels of one layer that a file stores at one bitwidth.

    Attributes:
        bits: 2 to 8, or 32.
        channels: Number of channels.
        code_bytes: Bytes of the codes, or of the float32 weights.
        scale_bytes: Bytes of scales and zero points.
    """

    bits: int
    channels: int
    code_bytes: int
    scale_bytes: int


@dataclass(frozen=True)
class InspectedLayer:
    """A weighted layer as ``inspect`` shows it.

    Attributes:
        name: Node name.
        shape: Shape of the weight as the operator stores it; empty if the file does not say.
        status: "target", "quantized", or why it is no target.
        groups: What the file stores, widest first.
    """

    name: str
    shape: tuple[int, ...]
    status: str
    groups: tuple[StoredGroup, ...]


def emitted_properties(model: onnx.ModelProto) -> dict[str, str]:
    """What onnxsemi wrote into a file about it; empty if another tool made the file."""
    return {p.key: p.value for p in model.metadata_props if p.key.startswith("onnxsemi.")}


def stored_layers(model: onnx.ModelProto) -> tuple[InspectedLayer, ...]:
    """Weighted layers in graph order with the groups of channels that the file stores."""
    index = GraphIndex.of(model.graph)
    layers = []
    seen: set[str] = set()
    for _, node in index.nodes(*WEIGHTED):
        if node.input[1] in seen:  # a shared weight is stored once
            continue
        seen.add(node.input[1])
        groups = tuple(_group(index, tensor) for tensor in _group_tensors(index, node.input[1]))
        quantized = any(group.bits != FLOAT_BITS for group in groups)
        shape = (
            tuple(index.constants[node.input[1]].dims) if node.input[1] in index.constants else ()
        )
        status = "quantized" if quantized else "float32"
        layers.append(InspectedLayer(node.name, shape, status, groups if quantized else ()))
    return tuple(layers)


def _group_tensors(index: GraphIndex, name: str) -> list[str]:
    """The tensors that a weight is put together from."""
    while (node := _producer(index, name)) is not None and node.op_type in _REARRANGING:
        name = node.input[0]
    return list(node.input) if node is not None and node.op_type == "Concat" else [name]


def _group(index: GraphIndex, name: str) -> StoredGroup:
    node = _producer(index, name)
    if node is None or node.op_type != "DequantizeLinear":
        tensor = index.constants.get(name)
        channels = tensor.dims[0] if tensor is not None else 0
        return StoredGroup(FLOAT_BITS, channels, _bytes(index, name), 0)
    codes = _root(index, node.input[0])
    bits = codes.rpartition("_")[2]
    if not bits.isdecimal() or node.input[1] not in index.constants:
        raise ModelError(f"weight {name!r} was changed since onnxsemi wrote it: not readable")
    return StoredGroup(
        bits=int(bits),
        channels=index.constants[node.input[1]].dims[0],
        code_bytes=_bytes(index, codes),
        scale_bytes=sum(_bytes(index, part) for part in node.input[1:]),
    )


def _root(index: GraphIndex, name: str) -> str:
    """The initializer that a chain of first inputs begins with."""
    while (node := _producer(index, name)) is not None:
        name = node.input[0]
    return name


def _producer(index: GraphIndex, name: str) -> onnx.NodeProto | None:
    position = index.producer.get(name)
    return None if position is None else index.graph.node[position]


def _bytes(index: GraphIndex, name: str) -> int:
    tensor = index.constants.get(name)
    return 0 if tensor is None else len(tensor.raw_data) or tensor.ByteSize()
