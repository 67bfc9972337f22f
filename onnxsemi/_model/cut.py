"""Cutting a model in two at the output of one target layer.

    prefix:  image -> A, A@b for every bitwidth b, crossing tensors
    suffix:  A, crossing tensors -> logits

``A`` is the layer's output and ``A@b`` its output with all its filters quantized to b bits, and
the bias that goes with them.
Crossing tensors are what the suffix takes from before the cut besides A: residual shortcuts.
Tensors that only speak of shapes do not cross: their nodes are repeated in the suffix, so that
every tensor that crosses has the batch as its first axis and rows can be repeated.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxsemi._arrays import Float32Array
from onnxsemi._model.bias_input import put_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.index import GraphIndex, shape_nodes
from onnxsemi._model.targets import Site


@dataclass(frozen=True, eq=False)
class Cut:
    """One layer's prefix and suffix, as serialized models.

    Attributes:
        prefix: Takes the image; gives ``output``, every name in ``quantized``, and ``crossing``
            but for the image itself.
        suffix: Takes ``output`` and ``crossing``; gives the logits as its only output.
        output: Name of A.
        quantized: Bitwidth -> name of the output with all filters at that bitwidth.
        crossing: Names of the tensors that cross the cut besides A.
        channel_axis: Channel axis of A.
    """

    prefix: bytes
    suffix: bytes
    output: str
    quantized: Mapping[int, str]
    crossing: tuple[str, ...]
    channel_axis: int


def cut(
    classifier: Classifier,
    site: Site,
    weights: Mapping[int, Float32Array],
    biases: Mapping[int, Float32Array] | None = None,
) -> Cut:
    """Cut a classifier at a target layer whose weight no other node uses.

    Args:
        classifier: The model.
        site: Where the layer stands.
        weights: Bitwidth -> float32[O, ...], the layer's quantized weight, channels first.
        biases: Bitwidth -> float32[O], in place of the node's bias; where there is none, it stays.
    """
    if len(site.nodes) != 1:
        raise ValueError(f"layer {site.layer.name!r} shares its weight: it cannot be cut at")
    index = classifier.index
    output = str(classifier.nodes[site.nodes[0]].output[0])
    inside = _suffix_nodes(index, output, classifier.ends.logits)
    crossing = _crossing(index, inside, output)
    names = {bits: f"{output}@{bits}" for bits in weights}
    given = biases or {}
    stored = {b: (site.layout.to_stored(w), given.get(b)) for b, w in weights.items()}
    return Cut(
        prefix=_prefix(classifier, site, stored, [output, *crossing]),
        suffix=_suffix(classifier, output, crossing),
        output=output,
        quantized=names,
        crossing=crossing,
        channel_axis=site.layout.output_axis,
    )


def _suffix_nodes(index: GraphIndex, output: str, logits: str) -> set[int]:
    """Nodes between the cut and the logits, and the shape arithmetic that they need."""
    inside = index.downstream([output]) & index.upstream([logits])
    shapes = shape_nodes(index)
    while True:
        needed = {
            index.producer[name]
            for position in inside
            for name in index.graph.node[position].input
            if name != output and index.producer.get(name) in shapes
        }
        if needed <= inside:
            return inside
        inside |= needed


def _crossing(index: GraphIndex, inside: set[int], output: str) -> tuple[str, ...]:
    made = {name for position in inside for name in index.graph.node[position].output}
    taken = [name for position in sorted(inside) for name in index.graph.node[position].input]
    return tuple(
        name
        for name in dict.fromkeys(taken)
        if name and name != output and name not in made and name not in index.constants
    )


def _prefix(
    classifier: Classifier,
    site: Site,
    stored: Mapping[int, tuple[Float32Array, Float32Array | None]],
    wanted: list[str],
) -> bytes:
    graph = gs.import_onnx(classifier.proto)
    types = classifier.element_types
    tensors = graph.tensors()
    node = next(node for node in graph.nodes if node.name == site.nodes[0])
    wanted = [name for name in wanted if name != classifier.ends.image.name]
    graph.outputs = [_typed(tensors[name], types) for name in wanted]
    for bits, (weight, bias) in stored.items():
        inputs = [
            node.inputs[0],
            gs.Constant(f"{node.name}/weight@{bits}", weight),
            *node.inputs[2:],
        ]
        if bias is not None:
            constant = gs.Constant(f"{node.name}/bias@{bits}", bias)
            put_bias(node.op, inputs, constant)
        quantized = gs.Variable(f"{wanted[0]}@{bits}", dtype=np.float32)
        twin = gs.Node(
            op=node.op,
            name=f"{node.name}@{bits}",
            attrs=copy.copy(node.attrs),
            inputs=inputs,
            outputs=[quantized],
        )
        graph.nodes.append(twin)
        graph.outputs.append(quantized)
    return _serialized(graph, classifier)


def _suffix(classifier: Classifier, output: str, crossing: tuple[str, ...]) -> bytes:
    graph = gs.import_onnx(classifier.proto)
    types = classifier.element_types
    tensors = graph.tensors()
    entering = [_typed(tensors[name], types) for name in (output, *crossing)]
    for tensor in entering:
        tensor.inputs.clear()
    graph.inputs = entering
    graph.outputs = [_typed(tensors[classifier.ends.logits], types)]
    if output == classifier.ends.logits:
        scores = gs.Variable(f"{output}/scores", dtype=np.float32)
        graph.nodes = [gs.Node(op="Identity", inputs=entering, outputs=[scores])]
        graph.outputs = [scores]
    return _serialized(graph, classifier)


def _typed(tensor: gs.Tensor, types: Mapping[str, np.dtype[Any]]) -> gs.Tensor:
    """The tensor with its element type and without a shape: rows are repeated across the cut."""
    tensor.dtype = types.get(tensor.name, np.dtype(np.float32))
    tensor.shape = None
    return tensor


def _serialized(graph: gs.Graph, classifier: Classifier) -> bytes:
    graph.cleanup().toposort()
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    model.ir_version = classifier.proto.ir_version
    return bytes(model.SerializeToString())
