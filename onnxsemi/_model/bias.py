"""The bias of a layer: what it is, whether it can be changed, giving a node another one."""

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxsemi._arrays import Float32Array, read_only
from onnxsemi._model.fact import fact
from onnxsemi._model.targets import Site

if TYPE_CHECKING:
    from onnxsemi._model.classifier import Classifier

TAKES_BIAS = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose third input is a bias, one value a channel."""

_Input = TypeVar("_Input")


@fact
def correctable_bias(classifier: "Classifier", site: Site) -> Float32Array | None:
    """The bias of a layer's node: float32[O], read-only, zeros if it has none.

    Returns:
        None if :meth:`Classifier.with_weights` cannot give the layer another bias that is simply
        added to its channels: several nodes share the weight, the operator takes no bias (MatMul)
        or scales it (Gemm with ``beta``), the bias is computed at run time, or it is not float32 of
        one value a channel, or one for all.
    """
    node = classifier.nodes[site.nodes[0]]
    beta = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "beta"), 1.0)
    if len(site.nodes) != 1 or node.op_type not in TAKES_BIAS or beta != 1.0:
        return None
    name, channels = node.input[2] if len(node.input) > 2 else "", site.layer.channels
    if not name:
        return read_only(np.zeros(channels, np.float32))
    tensor = classifier.index.constants.get(name)
    if tensor is None or tensor.data_type != TensorProto.FLOAT:
        return None
    values = numpy_helper.to_array(tensor)
    if values.size not in (1, channels) or values.shape[-1:] not in ((), (values.size,)):
        return None
    return read_only(np.broadcast_to(values.reshape(-1), (channels,)))


def give_bias(graph: onnx.GraphProto, node: onnx.NodeProto, bias: Float32Array) -> None:
    """Put a bias in place of a node's own, or where it has none.

    Args:
        graph: Takes a new initializer.
        node: One of its nodes, changed in place.
        bias: float32[O].

    Raises:
        ValueError: If the operator takes no bias.
    """
    name = f"{node.name}/bias"
    taken = {tensor.name for tensor in graph.initializer}
    taken.update(tensor for other in graph.node for tensor in (*other.input, *other.output))
    while name in taken:
        name += "+"
    put_bias(node.op_type, node.input, name)
    graph.initializer.append(numpy_helper.from_array(bias, name))


def put_bias(op_type: str, inputs: MutableSequence[_Input], bias: _Input) -> None:
    """The same for the inputs alone, names or tensors.

    Args:
        op_type: Operator of the node.
        inputs: The node's inputs, changed in place.
        bias: What becomes the third.

    Raises:
        ValueError: If the operator takes no bias.
    """
    if op_type not in TAKES_BIAS:
        raise ValueError(f"{op_type} takes no bias")
    if len(inputs) > 2:
        inputs[2] = bias
    else:
        inputs.append(bias)
