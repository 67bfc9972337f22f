"""Who makes and who uses each tensor of a graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, eq=False)
class GraphIndex:
    """Look-ups over one graph; the graph must not change while it is used.

    Attributes:
        graph: The graph itself, nodes in topological order.
        producer: Tensor name -> position of the node that makes it.
        consumers: Tensor name -> positions of the nodes that take it, ascending.
        constants: Initializers by name.
    """

    graph: onnx.GraphProto
    producer: dict[str, int]
    consumers: dict[str, list[int]]
    constants: dict[str, onnx.TensorProto]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> "GraphIndex":
        """Index a graph."""
        producer: dict[str, int] = {}
        consumers: dict[str, list[int]] = {}
        for position, node in enumerate(graph.node):
            producer.update((name, position) for name in node.output if name)
            for name in dict.fromkeys(node.input):
                consumers.setdefault(name, []).append(position)
        return cls(graph, producer, consumers, {t.name: t for t in graph.initializer})

    def upstream(self, tensors: Iterable[str]) -> set[int]:
        """Positions of every node that the tensors depend on."""
        found: set[int] = set()
        pending = list(tensors)
        while pending:
            position = self.producer.get(pending.pop())
            if position is not None and position not in found:
                found.add(position)
                pending.extend(self.graph.node[position].input)
        return found

    def downstream(self, tensors: Iterable[str]) -> set[int]:
        """Positions of every node that depends on one of the tensors."""
        reached = set(tensors)
        found: set[int] = set()
        for position, node in enumerate(self.graph.node):
            if not reached.isdisjoint(node.input):
                found.add(position)
                reached.update(node.output)
        return found

    def nodes(self, *op_types: str) -> Iterator[tuple[int, onnx.NodeProto]]:
        """Positions and nodes of the given operator types, in order."""
        for position, node in enumerate(self.graph.node):
            if node.op_type in op_types:
                yield position, node


def shape_nodes(index: GraphIndex) -> set[int]:
    """Nodes whose value depends on the shape of the data, not on the data."""
    found: set[int] = set()
    for position, node in enumerate(index.graph.node):
        varying = [name for name in node.input if name and name not in index.constants]
        from_shapes = bool(varying) and all(index.producer.get(name) in found for name in varying)
        if node.op_type in ("Shape", "Size") or from_shapes:
            found.add(position)
    return found
