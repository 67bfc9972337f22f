"""Operators in training mode -> in evaluation mode, in which an image's answer is its own.

In training mode BatchNormalization takes mean and variance of the batch instead of the running ones
that it holds (opset 14: ``training_mode``; before: more outputs than one), and Dropout drops at
random (opset 12: a third input).
"""

import onnx
from onnx import helper, numpy_helper

from onnxsemi._errors import ModelError
from onnxsemi._model.index import GraphIndex


def leave_training_mode(model: onnx.ModelProto) -> tuple[str, ...]:
    """Put the operators of a model in evaluation mode, in place.

    Returns:
        What a user should know of it, a sentence each.

    Raises:
        ModelError: If something takes the statistics of a batch.
    """
    index = GraphIndex.of(model.graph)
    norms = [n for _, n in index.nodes("BatchNormalization") if _normalizes_by_batch(n)]
    drops = [n for _, n in index.nodes("Dropout") if len(n.input) > 2 and _is_on(index, n.input[2])]
    outputs = {value.name for value in model.graph.output}
    for node in norms:
        _use_running_statistics(node, index, outputs)
    for node in drops:
        del node.input[2:]
    changed = (
        (
            norms,
            "in training mode, where an answer depends on the other images of the batch: the "
            "running statistics are taken, as in evaluation mode",
        ),
        (drops, "in training mode, which is random: removed, as in evaluation mode"),
    )
    return tuple(f"{_listed(nodes)} {what}" for nodes, what in changed if nodes)


def _normalizes_by_batch(node: onnx.NodeProto) -> bool:
    modes = [bool(a.i) for a in node.attribute if a.name == "training_mode"]
    return modes[0] if modes else any(node.output[1:])


def _use_running_statistics(
    node: onnx.NodeProto, index: GraphIndex, graph_outputs: set[str]
) -> None:
    for name in filter(None, node.output[1:]):
        if name in index.consumers or name in graph_outputs:
            raise ModelError(
                f"node {node.name or node.output[0]!r} is BatchNormalization in training mode, and "
                "its statistics of the batch are used: export the model in evaluation mode"
            )
    del node.output[1:]
    kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _is_on(index: GraphIndex, name: str) -> bool:
    """Whether a switch is on, or is not known to be off."""
    tensor = index.constants.get(name)
    position = index.producer.get(name)
    if tensor is None and position is not None and index.graph.node[position].op_type == "Constant":
        (attribute,) = index.graph.node[position].attribute
        tensor = helper.get_attribute_value(attribute)
    if not isinstance(tensor, onnx.TensorProto):
        return bool(name)
    return bool(numpy_helper.to_array(tensor).any())


def _listed(nodes: list[onnx.NodeProto]) -> str:
    first = nodes[0].name or nodes[0].output[0]
    more = f" and {len(nodes) - 1} more nodes" if len(nodes) > 1 else ""
    return f"{first}{more}: {nodes[0].op_type}"
