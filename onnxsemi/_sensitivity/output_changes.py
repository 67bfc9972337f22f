"""How the output of a layer changes at every bitwidth, in a graph that runs the float model.

    delta[n, c, b] = conv(x[n], W@b - W)[c] + d[c, b]

d is the shift of the channel's bias, if the rounding has one. One node with B filters a channel,
beside the layer's own, gives the changes at all bitwidths.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxsemi._arrays import Float32Array
from onnxsemi._gradient.tape import Shape
from onnxsemi._model.bias_input import TAKES_BIAS
from onnxsemi._model.layout import layout_of
from onnxsemi._model.shapes import Extent
from onnxsemi._model.targets import Site
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.rounded_plan import Rounding


class Changes:
    """Appends changes to a graph."""

    def __init__(self, graph: onnx.GraphProto, bits: Sequence[int], rounding: Rounding) -> None:
        """Append to ``graph`` the changes at ``bits``, as ``rounding`` gives the codes."""
        self._graph = graph
        self._bits = bits
        self._rounding = rounding

    def output(self, site: Site, node: onnx.NodeProto) -> str:
        """Name of the change of a node's output, which has B channels for each channel."""
        bits, rounding = self._bits, self._rounding
        stored = site.layout.to_stored(site.layer.weight).shape
        layout = layout_of(node, _widened(stored, node, len(bits)))
        changed = layout.to_stored(weight_changes(site.layer, bits, rounding))
        weight = put_constant(self._graph, f"probe/{site.initializer}", changed)
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = f"probe/{node.name}/change"
        del twin.input[:], twin.output[:]
        twin.input.extend([node.input[0], weight])
        twin.output.append(twin.name)
        self._graph.node.append(twin)
        shifts = bias_shifts(site.layer, bits, rounding)
        if shifts is None:
            return str(twin.name)
        shift = put_constant(self._graph, f"probe/{site.layer.name}/shifts", shifts)
        if twin.op_type in TAKES_BIAS:
            last = self._graph.node[-1]
            last.input.append(shift)
            _drop_attribute(last, "beta")
            return str(twin.name)
        shifted = f"{twin.name}/shifted"  # MatMul: channels are the last axis
        self._graph.node.append(helper.make_node("Add", [twin.name, shift], [shifted], shifted))
        return shifted


def around(extent: Extent, site: Site) -> tuple[int, Shape, int, int]:
    """Sizes along the output of a layer: before the images, images, before and behind the channels.

    -1 stands for the number of images, which share their axis with the rows of each.
    """
    sizes, batch = extent.sizes, extent.batch
    assert batch is not None
    channel = site.layout.output_axis % len(sizes)
    images = (sizes[batch], -1) if extent.turns else (-1, sizes[batch])
    parts = sizes[:batch], sizes[batch + 1 : channel], sizes[channel + 1 :]
    before, after, places = (math.prod(part) for part in parts)
    return before, images, after, places


def put_constant(graph: onnx.GraphProto, name: str, values: NDArray[Any]) -> str:
    """Name of a constant of a graph, which is stored once."""
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def hoist_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes, which raising the opset brings in, become initializers."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def weight_changes(layer: TargetLayer, bits: Sequence[int], rounding: Rounding) -> Float32Array:
    """W@b - W at every bitwidth: float32[O * B, ...], the bitwidths of a channel side by side."""
    changes = [rounding.at(layer, b).dequantize() - layer.weight for b in bits]
    stacked = np.stack(changes, axis=1)  # [O, B, ...]
    return stacked.reshape(-1, *layer.weight.shape[1:])


def bias_shifts(layer: TargetLayer, bits: Sequence[int], rounding: Rounding) -> Float32Array | None:
    """Shifts of the biases, float32[O * B] in the same order; None if no bitwidth has one."""
    shifts = [rounding.bias_shift(layer, b) for b in bits]
    if all(shift is None for shift in shifts):
        return None
    still = np.zeros(layer.channels, np.float32)
    return np.stack([still if s is None else s for s in shifts], axis=1).reshape(-1)


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _widened(stored: Shape, node: onnx.NodeProto, times: int) -> Shape:
    """Shape of an operator's weight with more filters a channel."""
    first = node.op_type == "Conv" or layout_of(node, stored).is_identity
    axis = 0 if first else 1
    return tuple(size * times if place == axis else size for place, size in enumerate(stored))
