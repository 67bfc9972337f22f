"""Tracing an emitted weight back to the codes of its groups, which a file stores in many forms."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx
from onnx import numpy_helper

from onnxsemi._emit.coded_sizes import bits_of_outputs
from onnxsemi._model.index import GraphIndex

REARRANGING = ("Reshape", "Transpose", "Gather")


@dataclass(frozen=True)
class GroupCodes:
    """Codes of one group as a file stores them.

    Attributes:
        bits: Bitwidth, 0 to 8.
        channels: Number of channels.
        count: Number of codes.
        tensor: What gives them.
        root: Initializer that holds them, with those of other groups; none if they are coded.
        stream: Output of what divides decoded codes, if they are coded.
    """

    bits: int
    channels: int
    count: int
    tensor: str
    root: str
    stream: str = ""


def tail_of(index: GraphIndex, node: onnx.NodeProto) -> tuple[str, list[str]]:
    """The codes that a tail begins with, and its scales and zero points."""
    if node.op_type == "DequantizeLinear":
        return node.input[0], list(node.input[1:])
    if node.op_type != "Mul":
        raise ValueError(node.op_type)
    scales, inner = [node.input[1]], producer(index, node.input[0])
    if inner is not None and inner.op_type == "Sub":
        zero = producer(index, inner.input[1])
        scales.append(zero.input[0] if zero is not None else inner.input[1])
        inner = producer(index, inner.input[0])
    if inner is not None and inner.op_type == "Cast":
        return inner.input[0], scales
    if inner is None or inner.op_type not in REARRANGING:  # of codes that are float32 already
        raise ValueError(node.op_type)
    return inner.output[0], scales


def codes_in(index: GraphIndex, name: str) -> Iterator[GroupCodes]:
    """The groups that a tensor of integers is put together from."""
    node = producer(index, name)
    if node is None:
        dims = index.constants[name].dims
        yield GroupCodes(_bits(name), dims[0], prod(dims), name, name)
    elif node.op_type == "ConstantOfShape":
        shape = zeros_shape(index, node)
        yield GroupCodes(0, shape[0], prod(shape), name, name)
    elif node.op_type == "Concat":
        for part in node.input:
            yield from codes_in(index, part)
    elif node.op_type in ("Gather", "Transpose"):
        yield from codes_in(index, node.input[0])
    else:
        yield from _unpacked(index, node)


def _unpacked(index: GraphIndex, reshape: onnx.NodeProto) -> Iterator[GroupCodes]:
    """Groups of what is unpacked or decoded together."""
    each = prod(numpy_helper.to_array(index.constants[reshape.input[1]])[1:].tolist())
    name, made = reshape.output[0], producer(index, reshape.input[0])
    joined = made is not None and made.op_type == "Concat"
    for piece in made.input if made is not None and joined else [reshape.input[0]]:
        split = producer(index, piece)
        if split is None or split.op_type != "Split":
            root = _root(index, name)
            count = stored_bytes(index, root) * 8 // _bits(root)
            yield GroupCodes(_bits(root), count // each, count, name, root)
            continue
        place = list(split.output).index(piece)
        count = int(numpy_helper.to_array(index.constants[split.input[1]])[place])
        coded = bits_of_outputs(split)
        if coded is not None:
            yield GroupCodes(coded[place], count // each, count, piece, "", piece)
        else:
            root = _root(index, name)
            yield GroupCodes(_bits(root), count // each, count, name, root)


def zeros_shape(index: GraphIndex, node: onnx.NodeProto) -> list[int]:
    """Shape of a tensor of zeros that the file does not hold: channels at 0 bits."""
    shape: list[int] = numpy_helper.to_array(index.constants[node.input[0]]).tolist()
    return shape


def _root(index: GraphIndex, name: str) -> str:
    """The initializer that a chain of first inputs begins with."""
    while (node := producer(index, name)) is not None:
        name = node.input[0]
    return name


def _bits(name: str) -> int:
    """Bitwidth of stored codes, which their name ends with."""
    return int(name.rpartition("_")[2])


def producer(index: GraphIndex, name: str) -> onnx.NodeProto | None:
    """The node that makes a tensor; None for an initializer or an input."""
    position = index.producer.get(name)
    return None if position is None else index.graph.node[position]


def stored_bytes(index: GraphIndex, name: str) -> int:
    """Bytes of an initializer's values; 0 if there is none of that name."""
    tensor = index.constants.get(name)
    return 0 if tensor is None else len(tensor.raw_data) or tensor.ByteSize()
