"""Operator -> reverse rule. An operator that is not here has none.

A rule writes nodes that turn the gradient of a node's output into the gradient of one of its
inputs. It raises :class:`~onnxsemi.gradient.tape.NoRule` if it does not cover the way in which the
operator is used.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import onnx

from onnxsemi.gradient import convolution, elementwise, matrix, movement
from onnxsemi.gradient.tape import Tape

Rule = Callable[[Tape, onnx.NodeProto, str, int], str]
"""(tape, node, gradient of its output, place of the input) -> gradient of that input."""

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Add": elementwise.add,
        "AveragePool": convolution.average_pool,
        "BatchNormalization": convolution.batch_normalization,
        "Clip": elementwise.clip,
        "Concat": movement.concat,
        "Conv": convolution.conv,
        "ConvTranspose": convolution.conv_transpose,
        "Div": elementwise.div,
        "Dropout": movement.dropout,
        "Flatten": movement.reshape,
        "Gemm": matrix.gemm,
        "GlobalAveragePool": convolution.global_average_pool,
        "HardSigmoid": elementwise.hard_sigmoid,
        "HardSwish": elementwise.hard_swish,
        "Identity": movement.reshape,
        "LeakyRelu": elementwise.leaky_relu,
        "MatMul": matrix.matmul,
        "MaxPool": convolution.max_pool,
        "Mul": elementwise.mul,
        "Pad": movement.pad,
        "ReduceMean": movement.reduce_mean,
        "ReduceSum": movement.reduce_sum,
        "Relu": elementwise.relu,
        "Reshape": movement.reshape,
        "Sigmoid": elementwise.sigmoid,
        "Slice": movement.slice_,
        "Softmax": elementwise.softmax,
        "Squeeze": movement.reshape,
        "Sub": elementwise.sub,
        "Sum": elementwise.add,
        "Tanh": elementwise.tanh,
        "Transpose": movement.transpose,
        "Unsqueeze": movement.reshape,
    }
)
