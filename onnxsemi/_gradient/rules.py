"""Operator -> reverse rule. An operator that is not here has none.

A rule writes nodes that turn the gradient of a node's output into the gradient of one of its
inputs. It raises :class:`~onnxsemi._gradient.tape.NoRule` if it does not cover the way in which the
operator is used.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import onnx

from onnxsemi._gradient import (
    activation,
    arithmetic,
    convolution,
    matrix,
    movement,
    normalization,
    reduction,
)
from onnxsemi._gradient.activation import by
from onnxsemi._gradient.arithmetic import broadcast
from onnxsemi._gradient.reduction import over, over_places
from onnxsemi._gradient.tape import Tape

Rule = Callable[[Tape, onnx.NodeProto, str, int], str]
"""(tape, node, gradient of its first output, place of the input) -> gradient of that input.

Empty if small changes of the input change nothing.
"""

JoiningRule = Callable[[Tape, onnx.NodeProto, Sequence[str]], str]
"""(tape, node, gradient of every output, empty for none) -> gradient of the first input."""

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "Abs": by(activation.absolute),
        "Add": broadcast(arithmetic.add),
        "AveragePool": convolution.average_pool,
        "BatchNormalization": normalization.batch_normalization,
        "Cast": movement.cast,
        "Celu": by(activation.celu),
        "Clip": by(activation.clip),
        "Concat": movement.concat,
        "Conv": convolution.conv,
        "ConvTranspose": convolution.conv_transpose,
        "Cos": by(activation.cos),
        "DepthToSpace": movement.depth_to_space,
        "Div": broadcast(arithmetic.div),
        "Dropout": movement.dropout,
        "Einsum": matrix.einsum,
        "Elu": by(activation.elu),
        "Erf": by(activation.erf),
        "Exp": by(activation.exp),
        "Expand": broadcast(arithmetic.add),
        "Flatten": movement.reshape,
        "Gather": movement.gather,
        "Gelu": by(activation.gelu),
        "Gemm": matrix.gemm,
        "GlobalAveragePool": over_places(reduction.of_mean),
        "GlobalMaxPool": over_places(reduction.of_extreme),
        "GroupNormalization": normalization.group_normalization,
        "HardSigmoid": by(activation.hard_sigmoid),
        "HardSwish": by(activation.hard_swish),
        "Identity": movement.reshape,
        "InstanceNormalization": normalization.instance_normalization,
        "LRN": normalization.lrn,
        "LayerNormalization": normalization.layer_normalization,
        "LeakyRelu": by(activation.leaky_relu),
        "Log": by(activation.log),
        "LogSoftmax": normalization.log_softmax,
        "LpNormalization": normalization.lp_normalization,
        "MatMul": matrix.matmul,
        "Max": broadcast(arithmetic.extreme),
        "MaxPool": convolution.max_pool,
        "Mean": broadcast(arithmetic.mean),
        "Min": broadcast(arithmetic.extreme),
        "Mish": by(activation.mish),
        "Mul": broadcast(arithmetic.mul),
        "Neg": by(activation.negative),
        "PRelu": by(activation.prelu),
        "Pad": movement.pad,
        "Pow": broadcast(arithmetic.power),
        "RMSNormalization": normalization.rms_normalization,
        "Reciprocal": by(activation.reciprocal),
        "ReduceL1": over(reduction.of_size),
        "ReduceL2": over(reduction.of_norm),
        "ReduceLogSumExp": over(reduction.of_exponential),
        "ReduceMax": over(reduction.of_extreme),
        "ReduceMean": over(reduction.of_mean),
        "ReduceMin": over(reduction.of_extreme),
        "ReduceSum": over(reduction.of_sum),
        "ReduceSumSquare": over(reduction.of_square),
        "Relu": by(activation.relu),
        "Reshape": movement.reshape,
        "Resize": movement.resize,
        "Selu": by(activation.selu),
        "Sigmoid": by(activation.sigmoid),
        "Sin": by(activation.sin),
        "Slice": movement.slice_,
        "Softmax": normalization.softmax,
        "Softplus": by(activation.softplus),
        "Softsign": by(activation.softsign),
        "SpaceToDepth": movement.space_to_depth,
        "Sqrt": by(activation.sqrt),
        "Squeeze": movement.reshape,
        "Sub": broadcast(arithmetic.sub),
        "Sum": broadcast(arithmetic.add),
        "Swish": by(activation.swish),
        "Tanh": by(activation.tanh),
        "ThresholdedRelu": by(activation.thresholded_relu),
        "Tile": movement.tile,
        "Transpose": movement.transpose,
        "Unsqueeze": movement.reshape,
        "Where": broadcast(arithmetic.where),
    }
)

JOINING_RULES: Mapping[str, JoiningRule] = MappingProxyType({"Split": movement.split})
