"""Reverse rules of operators that divide by what they sum up over some axes.

    xhat = (x - mean x) * r,    r = 1 / sqrt(mean (x - mean x)^2 + epsilon)
    dX   = r * (h - mean h - xhat * mean (h * xhat)),    h = dY * scale

over the axes that are normalized together; without the means of x and h where nothing is
subtracted (RMSNormalization).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnxsemi._gradient.tape import NoRule, Shape, Tape, attribute, axis_of, given, only


@dataclass(frozen=True)
class _Group:
    """What is normalized: a tensor of a shape over some axes.

    Attributes:
        tensor: Name of x.
        shape: Its shape.
        axes: Axes that are normalized together.
        centred: Whether the mean is subtracted.
    """

    tensor: str
    shape: Shape
    axes: Sequence[int]
    centred: bool = True

    def pull(self, tape: Tape, h: str, epsilon: float) -> str:
        """dX from h, [S, *shape]."""
        centred = self._without_mean(tape, self.tensor) if self.centred else self.tensor
        variance = self._mean(tape, tape.add("Mul", centred, centred))
        deviation = tape.add("Sqrt", tape.add("Add", variance, tape.floats(epsilon)))
        ratio = tape.add("Reciprocal", deviation)
        xhat = tape.add("Mul", centred, ratio)
        along = tape.add("Mul", xhat, self._gradient_mean(tape, tape.add("Mul", h, xhat)))
        if self.centred:
            h = tape.add("Sub", h, self._gradient_mean(tape, h))
        return tape.add("Mul", tape.add("Sub", h, along), ratio)

    def _without_mean(self, tape: Tape, tensor: str) -> str:
        return tape.add("Sub", tensor, self._mean(tape, tensor))

    def _mean(self, tape: Tape, tensor: str) -> str:
        return tape.add("Mul", tape.sum(tensor, self.shape, self.axes), self._share(tape))

    def _gradient_mean(self, tape: Tape, tensor: str) -> str:
        total = tape.sum_gradient(tensor, self.shape, self.axes)
        return tape.add("Mul", total, self._share(tape))

    def _share(self, tape: Tape) -> str:
        return tape.floats(1 / np.prod([self.shape[axis] for axis in self.axes]))


def layer_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Over the last axes, from ``axis`` on (ONNX LayerNormalization, opset 17)."""
    return _over_last_axes(tape, node, gradient, place, centred=True)


def rms_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The same without a mean (ONNX RMSNormalization, opset 23)."""
    return _over_last_axes(tape, node, gradient, place, centred=False)


def instance_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Over all places of a channel (ONNX InstanceNormalization)."""
    only(place)
    shape = tape.shape(node.input[0])
    h = tape.add("Mul", gradient, _per_channel(tape, node.input[1], shape))
    group = _Group(node.input[0], shape, range(2, len(shape)))
    return group.pull(tape, h, attribute(node, "epsilon", 1e-5))


def group_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Over groups of channels; a scale a group, from opset 21 on a channel (GroupNormalization)."""
    only(place)
    shape, groups = tape.shape(node.input[0]), int(attribute(node, "num_groups", 1))
    scale = tape.value(node.input[1])
    each = np.repeat(scale, shape[1] // len(scale))  # [C]
    factor = tape.floats(each.reshape(-1, *[1] * (len(shape) - 2)))
    split = (shape[0], groups, int(np.prod(shape[1:])) // groups)
    h = tape.restored(tape.add("Mul", gradient, factor), split)
    group = _Group(tape.reshape(node.input[0], split), split, [2])
    return tape.restored(group.pull(tape, h, attribute(node, "epsilon", 1e-5)), shape)


def batch_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = dY * scale / sqrt(variance + epsilon) (ONNX BatchNormalization in inference)."""
    only(place)
    if attribute(node, "training_mode", 0):
        raise NoRule("training_mode")
    scale, variance = (tape.value(given(node, i)).astype(np.float64) for i in (1, 4))
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    axes = len(tape.shape(node.input[0]))
    return tape.add("Mul", gradient, tape.floats(factor.reshape(-1, *[1] * (axes - 2))))


def lp_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = (dY - t * sum(dY * y)) / norm, t = y or, for p = 1, the sign (ONNX LpNormalization)."""
    only(place)
    source, shape = node.input[0], tape.shape(node.input[0])
    axis, squared = axis_of(node, -1, shape), attribute(node, "p", 2) == 2
    size = tape.add("Mul", source, source) if squared else tape.add("Abs", source)
    norm = tape.sum(size, shape, [axis])
    norm = tape.add("Sqrt", norm) if squared else norm
    total = tape.sum_gradient(tape.add("Mul", gradient, node.output[0]), shape, [axis])
    towards = node.output[0] if squared else tape.add("Sign", source)
    rest = tape.add("Sub", gradient, tape.add("Mul", towards, total))
    return tape.add("Div", rest, norm)


def lrn(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = dY d^-b - 2ab/n * x * W^T(dY x d^(-b - 1)) (ONNX LRN).

    For y = x d^-b, d = k + a/n * W x^2; W sums over n neighbouring channels.
    """
    only(place)
    source, shape = node.input[0], tape.shape(node.input[0])
    size, beta = int(attribute(node, "size", 1)), attribute(node, "beta", 0.75)
    share = attribute(node, "alpha", 1e-4) / size
    apart = np.arange(shape[1])[None] - np.arange(shape[1])[:, None]
    band = ((apart >= -((size - 1) // 2)) & (apart <= size // 2)).astype(np.float64)
    planes = (shape[0], shape[1], int(np.prod(shape[2:])))
    x = tape.reshape(source, planes)
    summed = tape.add("MatMul", tape.floats(band * share), tape.add("Mul", x, x))
    d = tape.add("Add", summed, tape.floats(attribute(node, "bias", 1.0)))
    direct = tape.add(
        "Mul", tape.restored(gradient, planes), tape.add("Pow", d, tape.floats(-beta))
    )
    across = tape.add("Div", tape.add("Mul", direct, x), d)
    across = tape.add("MatMul", tape.floats(band.T * (2 * share * beta)), across)
    return tape.restored(tape.add("Sub", direct, tape.add("Mul", x, across)), shape)


def softmax(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = y * (dY - sum(dY * y)) along the axis (ONNX Softmax, opset 13)."""
    only(place)
    output, shape = node.output[0], tape.shape(node.output[0])
    weighted = tape.add("Mul", gradient, output)
    total = tape.sum_gradient(weighted, shape, [axis_of(node, -1, shape)])
    return tape.add("Mul", tape.add("Sub", gradient, total), output)


def log_softmax(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = dY - e^y * sum(dY) along the axis (ONNX LogSoftmax, opset 13)."""
    only(place)
    output, shape = node.output[0], tape.shape(node.output[0])
    total = tape.sum_gradient(gradient, shape, [axis_of(node, -1, shape)])
    return tape.add("Sub", gradient, tape.add("Mul", tape.add("Exp", output), total))


def _over_last_axes(
    tape: Tape, node: onnx.NodeProto, gradient: str, place: int, *, centred: bool
) -> str:
    only(place)
    shape = tape.shape(node.input[0])
    group = _Group(node.input[0], shape, range(axis_of(node, -1, shape), len(shape)), centred)
    h = tape.add("Mul", gradient, node.input[1])
    return group.pull(tape, h, attribute(node, "epsilon", 1e-5))


def _per_channel(tape: Tape, name: str, shape: Shape) -> str:
    """[C] -> [C, 1, ...], to meet [N, C, ...]."""
    return tape.reshape(name, (-1, *[1] * (len(shape) - 2)))
