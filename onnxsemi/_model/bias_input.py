"""Giving a node a bias: the third input of the operators that take one."""

from collections.abc import MutableSequence
from typing import TypeVar

import onnx
from onnx import numpy_helper

from onnxsemi._arrays import Float32Array

TAKES_BIAS = ("Conv", "ConvTranspose", "Gemm")
"""Operators whose third input is a bias, one value a channel."""

_Input = TypeVar("_Input")


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
