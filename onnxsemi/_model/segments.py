"""Cutting a model into segments, one after the other.

In a *chain* each is joined to the next by a single tensor. A residual block is such a segment:
only its output goes on. A model in which several tensors always go on side by side (dense
connections) is one segment.

*Steps* are cut closer: each begins where a target layer takes its input, whatever goes on beside.

Whatever lies before the first segment whose weights change keeps its values.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxsemi._arrays import Float32Array
from onnxsemi._model.bias_input import give_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.fact import fact
from onnxsemi._model.head import Ends
from onnxsemi._model.index import GraphIndex, shape_nodes
from onnxsemi._model.shapes import Shape, image_shapes


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of the model between some of its tensors.

    Attributes:
        takes: Names of the tensors that it begins with: the image, or outputs of those before.
        gives: Names of the tensors that it is for: what the next takes, or the logits.
        nodes: Positions of its nodes.
        layers: Names of the target layers whose weights it uses.
    """

    takes: tuple[str, ...]
    gives: tuple[str, ...]
    nodes: tuple[int, ...]
    layers: frozenset[str]


@fact
def find_chain(classifier: Classifier, image: Shape) -> tuple[Segment, ...]:
    """The model's segments, joined by one tensor each, in order.

    Every one but the first begins close before a target layer.

    Args:
        classifier: The model.
        image: Shape of one image in the model's layout.
    """
    joints = _joints(classifier, image).items()
    return _cut(classifier, {i: names for i, names in joints if len(names) == 1})


@fact
def find_steps(classifier: Classifier, image: Shape) -> tuple[Segment, ...]:
    """The model's segments, each but the first beginning right before a target layer, in order.

    Layers between which the rows of images cannot be told apart share a segment.

    Args:
        classifier: The model.
        image: Shape of one image in the model's layout.
    """
    return _cut(classifier, _joints(classifier, image))


def part_between(classifier: Classifier, takes: Sequence[str], gives: Sequence[str]) -> Segment:
    """What the model does between some of its tensors and others: the nodes that are needed.

    Shape arithmetic is repeated where it is needed.

    Args:
        classifier: The model.
        takes: Names of tensors that are there; those that are not needed are left out.
        gives: Names of tensors that follow from them.
    """
    index = classifier.index
    found: set[int] = set()
    used = set(gives)
    pending = list(gives)
    while pending:
        name = pending.pop()
        position = index.producer.get(name)
        if name not in takes and position is not None and position not in found:
            found.add(position)
            used.update(index.graph.node[position].input)
            pending.extend(index.graph.node[position].input)
    nodes = tuple(sorted(found))
    names = {index.graph.node[position].name for position in nodes}
    layers = {site.layer.name for site in classifier.sites if not names.isdisjoint(site.nodes)}
    needed = tuple(name for name in takes if name in used)
    return Segment(needed, tuple(gives), nodes, frozenset(layers))


def segment_model(
    classifier: Classifier,
    segment: Segment,
    weights: Mapping[str, Float32Array],
    biases: Mapping[str, Float32Array] | None = None,
) -> bytes:
    """A segment as a serialized model.

    Args:
        classifier: The model.
        segment: One of its segments.
        weights: Layer name -> float32[O, ...], channels first, of its layers that are changed.
        biases: Layer name -> float32[O], of its layers whose bias is changed.
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
    part.graph.input.extend(_values(segment.takes))
    part.graph.output.extend(_values(segment.gives))
    return bytes(part.SerializeToString())


def _values(names: Iterable[str]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]


def _joints(classifier: Classifier, image: Shape) -> Mapping[int, tuple[str, ...]]:
    """Where everything that goes on has a row for each image."""
    live, rows = _live(classifier.index, classifier.ends), image_shapes(classifier, image)
    return {i: names for i, names in live.items() if rows.keys() >= set(names)}


def _cut(classifier: Classifier, joints: Mapping[int, tuple[str, ...]]) -> tuple[Segment, ...]:
    """Segments that begin at the last joint before each target layer."""
    users = {node for site in classifier.sites for node in site.nodes}
    targets = [i for i, node in enumerate(classifier.proto.graph.node) if node.name in users]
    cuts = sorted({max((j for j in joints if j < target), default=-1) for target in targets} - {-1})
    ends = [(classifier.ends.image.name,), *(joints[i] for i in cuts), (classifier.ends.logits,)]
    return tuple(part_between(classifier, takes, gives) for takes, gives in pairwise(ends))


def _live(index: GraphIndex, ends: Ends) -> dict[int, tuple[str, ...]]:
    """Position -> the tensors that go on behind it, in the order in which they are made.

    Not where that is but the image.
    """
    last_use: dict[str, int] = {}
    for position, names in _data_inputs(index, ends.logits):
        last_use.update((name, position) for name in names)
    last_use[ends.logits] = len(index.graph.node)
    found: dict[int, tuple[str, ...]] = {}
    live = image = [ends.image.name]
    for position, node in enumerate(index.graph.node):
        live += [name for name in node.output if name in last_use]
        live = [name for name in live if last_use[name] > position]
        if live != image:
            found[position] = tuple(live)
    return found


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
