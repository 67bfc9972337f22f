"""Cutting a model into segments, one after the other, each joined to the next by a single tensor.

A residual block is such a segment: only its output goes on. Whatever lies before the first segment
whose weights change keeps its values. A model in which several tensors always go on side by side
(dense connections) is one segment.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxsemi.arrays import Float32Array
from onnxsemi.model.bias import give_bias
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.index import GraphIndex, shape_nodes

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of the model between two tensors.

    Attributes:
        source: Name of the tensor that it takes: the image, or the output of the one before.
        result: Name of the tensor that it gives: the input of the next, or the logits.
        nodes: Positions of its nodes.
        layers: Names of the target layers whose weights it uses.
    """

    source: str
    result: str
    nodes: tuple[int, ...]
    layers: frozenset[str]


def find_segments(classifier: Classifier, shapes: Mapping[str, Shape]) -> list[Segment]:
    """The model's segments in order; every one but the first begins close before a target layer.

    Args:
        classifier: The model.
        shapes: Shape of one row of every float tensor whose first axis is the batch.
    """
    index = GraphIndex.of(classifier.proto.graph)
    users = {node: site.layer.name for site in classifier.sites for node in site.nodes}
    joints = {i: name for i, name in _joints(index, classifier).items() if name in shapes}
    names = [node.name for node in index.graph.node]
    targets = [position for position, name in enumerate(names) if name in users]
    cuts = sorted({max((j for j in joints if j < p), default=-1) for p in targets} - {-1})
    segments, source = [], classifier.ends.image.name
    for result in (*(joints[cut] for cut in cuts), classifier.ends.logits):
        inside = _between(index, source, result)
        layers = frozenset(users[names[i]] for i in inside if names[i] in users)
        segments.append(Segment(source, result, tuple(sorted(inside)), layers))
        source = result
    return segments


def segment_model(
    classifier: Classifier,
    segment: Segment,
    weights: Mapping[str, Float32Array],
    biases: Mapping[str, Float32Array] | None = None,
    outputs: Sequence[str] = (),
) -> bytes:
    """A segment as a serialized model.

    Args:
        classifier: The model.
        segment: One of its segments.
        weights: Layer name -> float32[O, ...], channels first, of its layers that are changed.
        biases: Layer name -> float32[O], of its layers whose bias is changed.
        outputs: What it gives; the segment's result unless told.
    """
    graph, changed_biases = classifier.proto.graph, biases or {}
    part = onnx.ModelProto(ir_version=classifier.proto.ir_version)
    part.opset_import.extend(classifier.proto.opset_import)
    part.graph.name = "segment"
    part.graph.node.extend(graph.node[position] for position in segment.nodes)
    sites = [classifier.site(layer) for layer in changed_biases if layer in segment.layers]
    owners = {site.nodes[0]: site.layer.name for site in sites}
    for node in part.graph.node:
        if node.name in owners:
            give_bias(part.graph, node, changed_biases[owners[node.name]])
    used = {name for node in part.graph.node for name in node.input}
    changed = {classifier.site(layer).initializer: layer for layer in weights}
    for tensor in graph.initializer:
        if tensor.name in used and tensor.name in changed:
            layer = changed[tensor.name]
            stored = classifier.site(layer).layout.to_stored(weights[layer])
            part.graph.initializer.append(numpy_helper.from_array(stored, tensor.name))
        elif tensor.name in used:
            part.graph.initializer.append(tensor)
    source, *results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in (segment.source, *(outputs or [segment.result]))
    ]
    part.graph.input.append(source)
    part.graph.output.extend(results)
    return bytes(part.SerializeToString())


def _between(index: GraphIndex, source: str, result: str) -> set[int]:
    """Nodes that the result needs beyond the source, shape arithmetic repeated where needed."""
    found: set[int] = set()
    pending = [result]
    while pending:
        name = pending.pop()
        position = index.producer.get(name)
        if name != source and position is not None and position not in found:
            found.add(position)
            pending.extend(index.graph.node[position].input)
    return found


def _joints(index: GraphIndex, classifier: Classifier) -> dict[int, str]:
    """Position -> the only tensor that goes on behind it."""
    last_use: dict[str, int] = {}
    for position, names in _data_inputs(index, classifier.ends.logits):
        last_use.update((name, position) for name in names)
    last_use[classifier.ends.logits] = len(index.graph.node)
    joints: dict[int, str] = {}
    live = {classifier.ends.image.name}
    for position, node in enumerate(index.graph.node):
        live |= {name for name in node.output if name in last_use}
        live = {name for name in live if last_use[name] > position}
        if len(live) == 1 and live != {classifier.ends.image.name}:
            joints[position] = next(iter(live))
    return joints


def _data_inputs(index: GraphIndex, logits: str) -> Iterator[tuple[int, set[str]]]:
    """Nodes with the data that they need; shapes count as the tensors that they are taken from."""
    shapes = shape_nodes(index)
    roots: dict[str, set[str]] = {}
    needed = index.upstream([logits])
    for position, node in enumerate(index.graph.node):
        inputs = {name for name in node.input if name and name not in index.constants}
        data = set().union(*(roots.get(name, {name}) for name in inputs))
        if position in shapes:
            roots.update((name, data) for name in node.output)
        elif position in needed:
            yield position, data
