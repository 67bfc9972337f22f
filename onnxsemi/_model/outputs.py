"""A model with other outputs."""

from collections.abc import Iterable

import onnx
from onnx import helper

from onnxsemi._model.index import GraphIndex


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model whose outputs are the named float32 tensors and no others.

    Nodes that only other outputs needed are left in: ONNX Runtime drops them.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    return exposed


def only_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The part of the model that computes the named float32 tensors, without its image input."""
    exposed = with_outputs(model, names)
    index = GraphIndex.of(model.graph)
    kept = index.upstream(value.name for value in exposed.graph.output)
    nodes = [node for position, node in enumerate(model.graph.node) if position in kept]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del exposed.graph.node[:], exposed.graph.initializer[:], exposed.graph.input[:]
    exposed.graph.node.extend(nodes)
    exposed.graph.initializer.extend(constants)
    return exposed
