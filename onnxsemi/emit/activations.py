"""Activations in uint8: QuantizeLinear and DequantizeLinear around what integer kernels can run.

Quantized are the inputs and outputs of the targets, and what lies between them: the operators that
ONNX Runtime has integer kernels for, if what they take is quantized. A Relu or Clip belongs to the
operator before it. The first input of the model and its outputs stay float32.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi.emit.builder import Builder

_SUMS = ("Add", "Sum", "Concat")
_PASSING = ("MaxPool", "AveragePool")
_FUSED = ("Relu", "Clip")


@dataclass(frozen=True)
class Activation:
    """uint8 grid of a tensor: ``value = scale * (code - zero_point)``, zero on the grid."""

    scale: np.float32
    zero_point: np.uint8

    @classmethod
    def of_range(cls, low: float, high: float) -> "Activation":
        """The grid from the smallest to the largest value, stretched to include zero."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max((high - low) / 255, float(np.finfo(np.float32).tiny)))
        return cls(scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255)))


def quantize_activations(
    build: Builder, ranges: Mapping[str, tuple[float, float]], targets: Collection[str]
) -> None:
    """Put QuantizeLinear and DequantizeLinear behind every activation to quantize.

    Args:
        build: Adds to the graph.
        ranges: Tensor -> its calibrated range.
        targets: Names of the target nodes.
    """
    graph = build.graph
    outputs = {tensor.name for tensor in graph.outputs}
    grids: dict[str, Activation] = {}

    def chosen(tensor: gs.Tensor) -> bool:
        return isinstance(tensor, gs.Variable) and tensor.name in ranges

    for node in graph.nodes:
        if node.name in targets:
            for tensor in (node.inputs[0], _end(node)):
                if chosen(tensor):
                    grids[tensor.name] = Activation.of_range(*ranges[tensor.name])
    graph.toposort()
    for node in graph.nodes:
        taken = [tensor for tensor in node.inputs if isinstance(tensor, gs.Variable)]
        known = [tensor for tensor in taken if tensor.name in grids]
        if node.op in _SUMS and known and all(map(chosen, taken)):
            for tensor in (*taken, _end(node)):
                if chosen(tensor):
                    grids.setdefault(tensor.name, Activation.of_range(*ranges[tensor.name]))
        elif node.op in _PASSING and known and chosen(node.outputs[0]):
            # the same grid: a maximum needs no other, a mean none that is wider
            grids.setdefault(node.outputs[0].name, grids[taken[0].name])
    tensors = graph.tensors()
    for name in [name for name in grids if name not in outputs]:
        _insert(build, tensors[name], grids[name])


def _end(node: gs.Node) -> gs.Tensor:
    """What a node gives once the activation function behind it is done."""
    output = node.outputs[0]
    if len(output.outputs) == 1 and output.outputs[0].op in _FUSED:
        return output.outputs[0].outputs[0]
    return output


def _insert(build: Builder, tensor: gs.Variable, grid: Activation) -> None:
    users = list(tensor.outputs)
    scale, zero = build.shared(np.array(grid.scale)), build.shared(np.array(grid.zero_point))
    codes = build.node("QuantizeLinear", tensor, scale, zero, dtype=np.uint8)
    values = build.node("DequantizeLinear", codes, scale, zero, dtype=np.float32)
    for user in users:
        user.inputs = [values if item is tensor else item for item in user.inputs]
