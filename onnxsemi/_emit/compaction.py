"""A graph with nothing in it that costs bytes and says nothing."""

from collections.abc import Collection, Iterator
from itertools import count, product
from string import ascii_letters

import onnx
from onnx import AttributeProto, defs, helper

from onnxsemi._model.roles import WEIGHTED

_ONES = ("strides", "dilations")  # ones unless given, which the schemas say in words only


def slim(model: onnx.ModelProto, keep: Collection[str], *, every_byte: bool = False) -> None:
    """Drop attributes that only repeat a default, and shorten the names of inner tensors.

    Nodes with weights keep their names: plans and reports speak of them. Graphs with subgraphs,
    which name tensors of the graph around them, keep all names.

    Args:
        model: Changed in place.
        keep: Inner tensors that keep their names.
        every_byte: Whether to drop the kernel's shape, too, which follows from the weight (Conv,
            opset 1), and the mark that a node's name is empty.
    """
    graph = model.graph
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    for node in graph.node:
        _drop_defaults(node, opset)
        if every_byte and node.op_type == "Conv" and not node.domain:
            for attribute in [a for a in node.attribute if a.name == "kernel_shape"]:
                node.attribute.remove(attribute)
    if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in _attributes(graph)):
        return
    kept = {"", *keep, *(value.name for value in (*graph.input, *graph.output))}
    names = (name for name in _short_names() if name not in kept)
    short = {name: name for name in kept}
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            node.name = ""
        if every_byte and not node.name:
            node.ClearField("name")
        for tensors in (node.input, node.output):
            for place, name in enumerate(tensors):
                if name not in short:
                    short[name] = next(names)
                tensors[place] = short[name]
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)


def _attributes(graph: onnx.GraphProto) -> Iterator[AttributeProto]:
    return (attribute for node in graph.node for attribute in node.attribute)


def _short_names() -> Iterator[str]:
    """a, b, ..., Z, aa, ab, ..."""
    for length in count(1):
        yield from map("".join, product(ascii_letters, repeat=length))


def _drop_defaults(node: onnx.NodeProto, opset: int) -> None:
    if node.domain:
        return
    declared = defs.get_schema(node.op_type, opset, "").attributes
    kept = [a for a in node.attribute if not _is_default(a, declared[a.name].default_value)]
    del node.attribute[:]
    node.attribute.extend(kept)


def _is_default(attribute: AttributeProto, default: AttributeProto) -> bool:
    value = helper.get_attribute_value(attribute)
    if attribute.name in _ONES:
        return set(value) == {1}
    if default.type != attribute.type:
        return False  # none declared
    return bool(value == helper.get_attribute_value(default))
