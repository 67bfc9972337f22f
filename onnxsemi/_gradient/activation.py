"""Reverse rules of operators of one tensor that work value by value: dX = dY * y'(x).

Each function here gives the factor y', [*shape], from the forward values. At a kink the derivative
of the flat side is taken.
"""

import math
from collections.abc import Callable

import onnx

from onnxsemi._gradient.tape import Tape, attribute, given, only

Factor = Callable[[Tape, onnx.NodeProto], str]
"""(tape, node) -> derivative of the node's output by its first input, value by value."""


def by(factor: Factor) -> Callable[[Tape, onnx.NodeProto, str, int], str]:
    """The reverse rule of an operator with a factor."""

    def rule(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
        only(place)
        return tape.add("Mul", gradient, factor(tape, node))

    return rule


def relu(tape: Tape, node: onnx.NodeProto) -> str:
    """1 where the output is above 0 (ONNX Relu)."""
    return tape.as_float(tape.add("Greater", node.output[0], tape.floats(0.0)))


def leaky_relu(tape: Tape, node: onnx.NodeProto) -> str:
    """1 where the input is above 0, else alpha (ONNX LeakyRelu)."""
    return _above(tape, node, tape.floats(attribute(node, "alpha", 0.01)))


def prelu(tape: Tape, node: onnx.NodeProto) -> str:
    """1 where the input is above 0, else the slope (ONNX PRelu)."""
    return _above(tape, node, node.input[1])


def thresholded_relu(tape: Tape, node: onnx.NodeProto) -> str:
    """1 where the input is above alpha (ONNX ThresholdedRelu)."""
    threshold = tape.floats(attribute(node, "alpha", 1.0))
    return tape.as_float(tape.add("Greater", node.input[0], threshold))


def clip(tape: Tape, node: onnx.NodeProto) -> str:
    """1 strictly between the bounds (ONNX Clip, opset 11)."""
    factor = tape.floats(1.0)
    for bound, inside in ((given(node, 1), "Greater"), (given(node, 2), "Less")):
        if bound:
            tape.value(bound)
            within = tape.as_float(tape.add(inside, node.input[0], bound))
            factor = tape.add("Mul", factor, within)
    return factor


def elu(tape: Tape, node: onnx.NodeProto) -> str:
    """1 where the input is above 0, else alpha * e^x (ONNX Elu)."""
    return _exponential(tape, node, alpha=attribute(node, "alpha", 1.0))


def celu(tape: Tape, node: onnx.NodeProto) -> str:
    """1 where the input is above 0, else e^(x / alpha) (ONNX Celu)."""
    return _exponential(tape, node, divisor=attribute(node, "alpha", 1.0))


def selu(tape: Tape, node: onnx.NodeProto) -> str:
    """Gamma times that of Elu (ONNX Selu)."""
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    return tape.add("Mul", _exponential(tape, node, alpha=alpha), tape.floats(gamma))


def sigmoid(tape: Tape, node: onnx.NodeProto) -> str:
    """y * (1 - y) (ONNX Sigmoid)."""
    return _logistic(tape, node.output[0])


def hard_sigmoid(tape: Tape, node: onnx.NodeProto) -> str:
    """Alpha where 0 < y < 1 (ONNX HardSigmoid)."""
    alpha = tape.floats(attribute(node, "alpha", 0.2))
    return tape.add("Mul", _ramp(tape, node.output[0]), alpha)


def hard_swish(tape: Tape, node: onnx.NodeProto) -> str:
    """For y = x * h(x), h = HardSigmoid(1/6, 1/2): h + x * h' (ONNX HardSwish, opset 14)."""
    gate = tape.add("HardSigmoid", node.input[0], alpha=1 / 6, beta=0.5)
    slope = tape.add("Mul", _ramp(tape, gate), tape.floats(1 / 6))
    return _gated(tape, node.input[0], gate, slope)


def swish(tape: Tape, node: onnx.NodeProto) -> str:
    """For y = x * s, s = sigmoid(alpha x): s + alpha x s (1 - s) (ONNX Swish, opset 24)."""
    alpha = tape.floats(attribute(node, "alpha", 1.0))
    gate = tape.add("Sigmoid", tape.add("Mul", node.input[0], alpha))
    return _gated(tape, node.input[0], gate, tape.add("Mul", _logistic(tape, gate), alpha))


def mish(tape: Tape, node: onnx.NodeProto) -> str:
    """For y = x * t, t = tanh(softplus(x)): t + x sigmoid(x) (1 - t^2) (ONNX Mish, opset 18)."""
    gate = tape.add("Tanh", tape.add("Softplus", node.input[0]))
    slope = tape.add("Mul", tape.add("Sigmoid", node.input[0]), _rest_of_square(tape, gate))
    return _gated(tape, node.input[0], gate, slope)


def gelu(tape: Tape, node: onnx.NodeProto) -> str:
    """For y = x * P(x): P + x P' (ONNX Gelu, opset 20).

    P is the normal distribution, (1 + erf(x / sqrt 2)) / 2 with P' = e^(-x^2 / 2) / sqrt(2 pi); or
    close to it (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    source, half = node.input[0], tape.floats(0.5)
    square = tape.add("Mul", source, source)
    if attribute(node, "approximate", b"none") == b"tanh":
        root = math.sqrt(2 / math.pi)
        steep = tape.add("Mul", square, tape.floats(root * 0.044715))
        bent = tape.add("Tanh", tape.add("Mul", source, _plus(tape, steep, root)))
        inner = _plus(tape, tape.add("Mul", square, tape.floats(root * 3 * 0.044715)), root)
        slope = tape.add("Mul", tape.add("Mul", _rest_of_square(tape, bent), inner), half)
    else:
        bent = tape.add("Erf", tape.add("Mul", source, tape.floats(math.sqrt(0.5))))
        density = tape.add("Exp", tape.add("Mul", square, tape.floats(-0.5)))
        slope = tape.add("Mul", density, tape.floats(1 / math.sqrt(2 * math.pi)))
    return _gated(tape, source, tape.add("Mul", _plus(tape, bent, 1.0), half), slope)


def tanh(tape: Tape, node: onnx.NodeProto) -> str:
    """1 - y^2 (ONNX Tanh)."""
    return _rest_of_square(tape, node.output[0])


def softplus(tape: Tape, node: onnx.NodeProto) -> str:
    """sigmoid(x) (ONNX Softplus)."""
    return tape.add("Sigmoid", node.input[0])


def softsign(tape: Tape, node: onnx.NodeProto) -> str:
    """1 / (1 + |x|)^2 (ONNX Softsign)."""
    size = _plus(tape, tape.add("Abs", node.input[0]), 1.0)
    return tape.add("Reciprocal", tape.add("Mul", size, size))


def erf(tape: Tape, node: onnx.NodeProto) -> str:
    """2 / sqrt(pi) e^(-x^2) (ONNX Erf)."""
    square = tape.add("Mul", node.input[0], node.input[0])
    bell = tape.add("Exp", tape.add("Neg", square))
    return tape.add("Mul", bell, tape.floats(2 / math.sqrt(math.pi)))


def sqrt(tape: Tape, node: onnx.NodeProto) -> str:
    """1 / (2 y) (ONNX Sqrt)."""
    return tape.add("Div", tape.floats(0.5), node.output[0])


def reciprocal(tape: Tape, node: onnx.NodeProto) -> str:
    """-y^2 (ONNX Reciprocal)."""
    return tape.add("Neg", tape.add("Mul", node.output[0], node.output[0]))


def exp(_tape: Tape, node: onnx.NodeProto) -> str:
    """y (ONNX Exp)."""
    return str(node.output[0])


def log(tape: Tape, node: onnx.NodeProto) -> str:
    """1 / x (ONNX Log)."""
    return tape.add("Reciprocal", node.input[0])


def absolute(tape: Tape, node: onnx.NodeProto) -> str:
    """The input's sign (ONNX Abs)."""
    return tape.add("Sign", node.input[0])


def negative(tape: Tape, _node: onnx.NodeProto) -> str:
    """-1 (ONNX Neg)."""
    return tape.floats(-1.0)


def sin(tape: Tape, node: onnx.NodeProto) -> str:
    """cos(x) (ONNX Sin)."""
    return tape.add("Cos", node.input[0])


def cos(tape: Tape, node: onnx.NodeProto) -> str:
    """-sin(x) (ONNX Cos)."""
    return tape.add("Neg", tape.add("Sin", node.input[0]))


def _above(tape: Tape, node: onnx.NodeProto, below: str) -> str:
    """1 where the input is above 0, else another factor."""
    above = tape.add("Greater", node.input[0], tape.floats(0.0))
    return tape.add("Where", above, tape.floats(1.0), below)


def _exponential(tape: Tape, node: onnx.NodeProto, alpha: float = 1.0, divisor: float = 1.0) -> str:
    """1 where the input is above 0, else alpha * e^(x / divisor), which never overflows."""
    low = tape.add("Min", tape.add("Div", node.input[0], tape.floats(divisor)), tape.floats(0.0))
    return _above(tape, node, tape.add("Mul", tape.add("Exp", low), tape.floats(alpha)))


def _ramp(tape: Tape, gate: str) -> str:
    """1 where 0 < gate < 1."""
    above = tape.add("Greater", gate, tape.floats(0.0))
    below = tape.add("Less", gate, tape.floats(1.0))
    return tape.as_float(tape.add("And", above, below))


def _gated(tape: Tape, source: str, gate: str, slope: str) -> str:
    """Derivative of x * gate(x): gate + x * slope."""
    return tape.add("Add", gate, tape.add("Mul", source, slope))


def _logistic(tape: Tape, y: str) -> str:
    return tape.add("Mul", y, tape.add("Sub", tape.floats(1.0), y))


def _rest_of_square(tape: Tape, y: str) -> str:
    return tape.add("Sub", tape.floats(1.0), tape.add("Mul", y, y))


def _plus(tape: Tape, tensor: str, number: float) -> str:
    return tape.add("Add", tensor, tape.floats(number))
