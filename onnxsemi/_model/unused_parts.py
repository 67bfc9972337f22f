"""What the judged output does not need is dropped: other heads, initializers that nothing takes."""

from collections.abc import Iterator

import onnx

from onnxsemi._model.index import GraphIndex

_TOLD = 0.01
"""Share of the bytes of the weights from which on it is said that nothing takes them."""


def trim(model: onnx.ModelProto, output: str) -> tuple[str, ...]:
    """Drop what an output does not need, in place; the image input stays.

    Args:
        model: A model.
        output: Name of the output that holds the class scores.

    Returns:
        What a user should know of it: a sentence, or none.
    """
    graph = model.graph
    tensors = _needed(graph, output)
    others = [value.name for value in graph.output if value.name != output]
    sizes = {tensor.name: tensor.ByteSize() for tensor in graph.initializer}
    dropped = sum(size for name, size in sizes.items() if name not in tensors)
    share = dropped / max(1, sum(sizes.values()))
    nodes = [node for node in graph.node if not tensors.isdisjoint(node.output)]
    kept = [tensor for tensor in graph.initializer if tensor.name in tensors]
    judged = [value for value in graph.output if value.name == output]
    for field, values in ((graph.node, nodes), (graph.initializer, kept), (graph.output, judged)):
        if len(values) < len(field):
            copies = [type(value).FromString(value.SerializeToString()) for value in values]
            del field[:]
            field.extend(copies)
    what = [*(["output " + ", ".join(map(repr, others))] if others else [])]
    what += [f"{share:.0%} of the bytes of its weights"] * (share >= _TOLD)
    return (f"dropped, as output {output!r} does not need it: {', '.join(what)}",) * bool(what)


def _needed(graph: onnx.GraphProto, output: str) -> set[str]:
    """Names of all tensors that an output depends on, its own too."""
    index = GraphIndex.of(graph)
    found, pending = {output}, [output]
    while pending:
        position = index.producer.get(pending.pop())
        if position is None:
            continue
        for name in _taken(graph.node[position]):
            if name not in found:
                found.add(name)
                pending.append(name)
    return found


def _taken(node: onnx.NodeProto) -> Iterator[str]:
    """What a node takes, in its branches too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                yield from _taken(inner)
            yield from (value.name for value in attribute.g.output)
