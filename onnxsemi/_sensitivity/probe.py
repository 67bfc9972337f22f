"""One graph that gives, for every image, what quantizing each channel does to the logits' loss.

    delta[n, c, b] = conv(x[n], W@b - W)[c] + d[c, b]    change of the layer's output
    g[n, s, c]     = gradient of seed s at the layer's output
    u[n, c, b, s]  = sum over positions of g[n, s, c] * delta[n, c, b]

d is the shift of the channel's bias, if the rounding has one. The changes at all bitwidths come
from one convolution with B filters a channel, the gradients from the backward graph. Everything up
to u happens inside one ONNX Runtime session.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxsemi._gradient.backward import Backward, Cotangents, backward
from onnxsemi._gradient.tape import Shape
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.opset import raised
from onnxsemi._model.shapes import Extent, extents, find_extents
from onnxsemi._model.sizes import settle_sizes
from onnxsemi._model.targets import Site
from onnxsemi._quantizer.rounded_plan import Rounding
from onnxsemi._sensitivity.output_changes import Changes, around, hoist_constants, put_constant

COTANGENTS = "probe/cotangents"
OPSET = 18


@dataclass(frozen=True, eq=False)
class Probe:
    """The graph and what it gives.

    Attributes:
        model: Serialized; takes the image and ``COTANGENTS`` (float32[N * S, *row of the logits]).
        effects: Layer -> name of its output u, float32[N, O, B, S].
        missing: Layer -> why it has no gradient.
        cotangent_row: Shape of one row of the logits.
        row_bytes: Bytes that one image takes while the graph runs, estimated from above.
    """

    model: bytes
    effects: Mapping[str, str]
    missing: Mapping[str, str]
    cotangent_row: Shape
    row_bytes: int


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """What to build.

    Attributes:
        layers: Target layers to probe.
        bits: Bitwidths, B of them.
        rounding: Gives the codes of quantized channels.
        cotangents: Gradients for each image, S.
    """

    layers: Sequence[str]
    bits: tuple[int, ...]
    rounding: Rounding
    cotangents: int


@dataclass(frozen=True, eq=False)
class ForwardGraph:
    """The model that every probe of it begins with.

    Attributes:
        model: At ``OPSET``, its constants and sizes among the initializers; to be copied, not
            changed.
        extents: Sizes of its float tensors.
    """

    model: onnx.ModelProto
    extents: Mapping[str, Extent]

    @classmethod
    def of(cls, classifier: Classifier, image: Shape) -> "ForwardGraph":
        """Of a model, for images of a shape, in the model's layout."""
        model = onnx.ModelProto()
        model.CopyFrom(raised(classifier.proto, OPSET))
        hoist_constants(model.graph)
        settle_sizes(model, classifier.ends.image, image)
        known = extents(classifier, image)
        return cls(model, find_extents(model, classifier.ends.image, image, known))


def build_probe(classifier: Classifier, forward: ForwardGraph, request: ProbeRequest) -> Probe:
    """Build the graph of some of a model's target layers."""
    model, shapes = onnx.ModelProto(), forward.extents
    model.CopyFrom(forward.model)
    logits = classifier.ends.logits
    nodes = {node.name: node for node in model.graph.node}
    sites = [site for site in classifier.sites if site.layer.name in request.layers]
    users = {site.layer.name: [nodes[name] for name in site.nodes] for site in sites}
    outputs = [str(node.output[0]) for used in users.values() for node in used]
    cotangents = Cotangents(tensor=logits, name=COTANGENTS, count=request.cotangents)
    reverse = backward(
        model.graph, {name: extent.shape for name, extent in shapes.items()}, cotangents, outputs
    )
    missing = {
        layer: reason
        for layer, used in users.items()
        for node in used
        if (reason := _missing(str(node.output[0]), reverse, shapes)) is not None
    }
    graph = _Writer(model.graph, shapes, request, reverse)
    effects = {
        site.layer.name: graph.effects(site, users[site.layer.name])
        for site in reversed(sites)
        if site.layer.name not in missing
    }
    graph.finish(logits, effects)
    row_bytes = 4 * _live_values(classifier, shapes, request, outputs)
    return Probe(
        bytes(model.SerializeToString()), effects, missing, shapes[logits].sizes[1:], row_bytes
    )


def _missing(output: str, reverse: Backward, shapes: Mapping[str, Extent]) -> str | None:
    """Why the effect on one output cannot be told image by image."""
    if output in reverse.gradients and shapes[output].batch is None:
        return f"no axis of {output!r} is the batch"
    return reverse.missing.get(output)


class _Writer:
    """Appends the backward part and the products to the forward graph."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        shapes: Mapping[str, Extent],
        request: ProbeRequest,
        reverse: Backward,
    ) -> None:
        self._graph = graph
        self._shapes = shapes
        self._request = request
        self._reverse = reverse
        self._changes = Changes(graph, request.bits, request.rounding)
        graph.node.extend(reverse.nodes)
        graph.initializer.extend(reverse.initializers)

    def effects(self, site: Site, nodes: Sequence[onnx.NodeProto]) -> str:
        """Name of u, float32[N, O, B, S]; weights that several nodes share add up."""
        parts = [self._part(site, node) for node in nodes]
        return self._add("Sum", f"probe/{site.layer.name}", parts) if len(parts) > 1 else parts[0]

    def finish(self, logits: str, effects: Mapping[str, str]) -> None:
        """Declare inputs and outputs."""
        row = self._shapes[logits].sizes[1:]
        self._graph.input.append(
            helper.make_tensor_value_info(COTANGENTS, TensorProto.FLOAT, ["rows", *row])
        )
        del self._graph.output[:]
        self._graph.output.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in effects.values()
        )

    def _part(self, site: Site, node: onnx.NodeProto) -> str:
        """The product of one node's change and gradient: float32[N, O, B, S]."""
        name, cotangents = f"probe/{node.name}", self._request.cotangents
        channels, bitwidths = site.layer.channels, len(self._request.bits)
        change = self._changes.output(site, node)
        gradient = self._reverse.gradients[node.output[0]]
        before, images, after, places = around(self._shapes[node.output[0]], site)
        # [A, N, R, Z, O * B, P] -> [N, O, B, A, R, Z, P]; N and R change places where images do
        n, r = (1 + images.index(-1), 2 - images.index(-1))
        change_row = (before, *images, after, channels, bitwidths, places)
        change_order = (n, 4, 5, 0, r, 3, 6)
        # [S, A, N, R, Z, O, P] -> [N, O, A, R, Z, P, S]
        gradient_row = (cotangents, before, *images, after, channels, places)
        gradient_order = (n + 1, 5, 1, r + 1, 4, 6, 0)
        summed = before * -math.prod(images) * after * places
        change_shape = (-1, channels, bitwidths, summed)
        change = self._arranged(f"{name}/change", change, change_row, change_order, change_shape)
        # a sum hands the same gradient to all it adds: named after this node, not after the tensor
        shape = (-1, channels, summed, cotangents)
        gradient = self._arranged(f"{name}/gradient", gradient, gradient_row, gradient_order, shape)
        return self._add("MatMul", f"{name}/effects", [change, gradient])

    def _arranged(
        self, name: str, tensor: str, shape: Shape, order: tuple[int, ...], joined: Shape
    ) -> str:
        """A tensor in a shape, its axes then in another order and joined to those of a last shape.

        Axes of size 1 are left out. Nothing stands between the transposition and the product where
        there is nothing to join: ONNX Runtime makes one node of both, and moves no value.
        """
        kept = [axis for axis in order if shape[axis] != 1]
        split = tuple(shape[axis] for axis in sorted(kept))
        tensor = self._reshaped(f"{name}/split", tensor, split)
        if kept != sorted(kept):
            perm = [sorted(kept).index(axis) for axis in kept]
            tensor = self._add("Transpose", f"{name}/turned", [tensor], perm=perm)
        if tuple(shape[axis] for axis in kept) == joined:
            return tensor
        return self._reshaped(f"{name}/joined", tensor, joined)

    def _reshaped(self, name: str, tensor: str, shape: Shape) -> str:
        target = self._constant(f"probe/{shape}", np.array(shape, np.int64))
        return self._add("Reshape", name, [tensor, target])

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        return put_constant(self._graph, name, values)

    def _add(self, op_type: str, output: str, inputs: Sequence[str], **attributes: Any) -> str:
        self._graph.node.append(
            helper.make_node(op_type, list(inputs), [output], output, **attributes)
        )
        return output


def _live_values(
    classifier: Classifier,
    shapes: Mapping[str, Extent],
    request: ProbeRequest,
    outputs: Sequence[str],
) -> int:
    """Float values that one image needs at once, from above.

    The forward pass is kept whole; of the backward pass a few tensors live at a time; of the
    changes one layer's.
    """
    sizes = {name: int(np.prod(extent.sizes)) for name, extent in shapes.items()}
    index = classifier.index
    later = index.downstream(outputs)
    behind = [sizes.get(name, 0) for i in later for name in index.graph.node[i].output]
    widest = max([*behind, *(sizes[name] for name in outputs)])
    changed = max(sizes[name] for name in outputs)
    return sum(sizes.values()) + 5 * request.cotangents * widest + 3 * len(request.bits) * changed
