"""From the gradient of one tensor to the gradients of tensors before it, as ONNX nodes.

The graph is walked from its end. Each node's rule gives the gradients of its inputs; what several
consumers give for one tensor is added. A tensor that reaches the output by way of a node without a
rule has no gradient: it is named in ``missing``, with that node, and so is everything before it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxsemi._gradient.rules import JOINING_RULES, RULES
from onnxsemi._gradient.tape import NoRule, Shape, Tape, only
from onnxsemi._model.index import GraphIndex, shape_nodes


@dataclass(frozen=True, eq=False)
class Backward:
    """The backward part of a graph; it takes values of the forward part by their names.

    Attributes:
        nodes: Nodes to append, in topological order.
        initializers: Constants to append.
        gradients: Wanted tensor -> name of its gradient, [S, *shape].
        missing: Wanted tensor -> why it has none.
    """

    nodes: tuple[onnx.NodeProto, ...]
    initializers: tuple[onnx.TensorProto, ...]
    gradients: Mapping[str, str]
    missing: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Cotangents:
    """The gradients to begin with.

    Attributes:
        tensor: Forward tensor that they are gradients of.
        name: Name under which the backward part finds them, [N * S, *row].
        count: Gradients for each image, S.
    """

    tensor: str
    name: str
    count: int


def backward(
    graph: onnx.GraphProto,
    shapes: Mapping[str, Shape],
    cotangents: Cotangents,
    wanted: Iterable[str],
    dtype: Any = np.float32,
) -> Backward:
    """Build the backward part of a graph.

    Args:
        graph: The forward graph, opset 18 or newer, nodes in topological order.
        shapes: Shape of every float tensor; an axis that grows with the images is -1.
        cotangents: Where to begin.
        wanted: Tensors whose gradients are asked for.
        dtype: Float type of the graph.
    """
    index, wanted = GraphIndex.of(graph), tuple(wanted)
    tape = Tape(index.constants, shapes, cotangents.count, np.dtype(dtype))
    walk = _Walk(tape, cotangents)
    towards = index.downstream(wanted) & index.upstream([cotangents.tensor]) - shape_nodes(index)
    varying = set(wanted) | {name for i in towards for name in graph.node[i].output}
    for position in sorted(towards, reverse=True):
        walk.pass_node(graph.node[position], varying)
    gradients = {name: walk.total(name) for name in wanted if name not in walk.missing}
    return Backward(
        tuple(walk.tape.nodes),
        tuple(walk.tape.initializers),
        {name: found for name, found in gradients.items() if found},
        {
            name: walk.missing.get(name, "the output does not depend on it")
            for name in wanted
            if not gradients.get(name)
        },
    )


class _Walk:
    """Gradients found so far, while the graph is walked from its end."""

    def __init__(self, tape: Tape, cotangents: Cotangents) -> None:
        self.tape = tape
        self.missing: dict[str, str] = {}
        self._parts: dict[str, list[str]] = {cotangents.tensor: [_first_axis(tape, cotangents)]}

    def total(self, name: str) -> str:
        """Gradient of a tensor whose consumers were all passed; empty if there is none."""
        parts = self._parts.get(name, [])
        if len(parts) > 1:
            parts = [self.tape.add("Sum", *parts)]
            self._parts[name] = parts
        return parts[0] if parts else ""

    def pass_node(self, node: onnx.NodeProto, varying: set[str]) -> None:
        """From the gradient of a node's output to those of its inputs."""
        reached = [name for name in node.output if name in self._parts or name in self.missing]
        if not reached:
            return
        blocked = next((self.missing[name] for name in reached if name in self.missing), None)
        for place, name in enumerate(node.input):
            if name not in varying:
                continue
            try:
                if blocked:
                    raise NoRule(blocked)
                part = self._part(node, place)
            except NoRule as reason:
                self.missing[name] = blocked or f"{node.op_type} {node.name!r}: {reason}"
                continue
            if part:
                self._parts.setdefault(name, []).append(part)

    def _part(self, node: onnx.NodeProto, place: int) -> str:
        """What a node adds to the gradient of one of its inputs."""
        if node.domain not in ("", "ai.onnx"):
            raise NoRule("no reverse rule")
        if node.op_type in JOINING_RULES:
            only(place)
            gradients = [self.total(name) for name in node.output]
            return JOINING_RULES[node.op_type](self.tape, node, gradients)
        if node.op_type not in RULES:
            raise NoRule("no reverse rule")
        if any(self._parts.get(name) for name in node.output[1:]):
            raise NoRule("an output behind the first is used")
        return RULES[node.op_type](self.tape, node, self.total(node.output[0]), place)


def _first_axis(tape: Tape, cotangents: Cotangents) -> str:
    """The cotangents, [N * S, *row] -> [S, N, *row]."""
    shape = tape.shape(cotangents.tensor)
    if cotangents.count == 1:
        return tape.restored(cotangents.name, shape)
    grouped = tape.reshape(cotangents.name, (shape[0], cotangents.count, *shape[1:]))
    return tape.add("Transpose", grouped, perm=[1, 0, *range(2, len(shape) + 1)])
