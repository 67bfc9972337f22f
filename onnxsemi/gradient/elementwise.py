"""Reverse rules of operators that work value by value.

Each activation gives a factor, the derivative at the forward value; the gradient is multiplied by
it. At a kink the derivative of the flat side is taken.
"""

import onnx

from onnxsemi.gradient.tape import NoRule, Tape, attribute, axis_of, given, only


def add(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dB = dY, summed over what was broadcast (ONNX Add, Sum)."""
    row = tape.shape(node.output[0])
    return tape.sum_to(gradient, row, tape.shape(node.input[place]))


def sub(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY, dB = -dY (ONNX Sub)."""
    summed = add(tape, node, gradient, place)
    return tape.add("Neg", summed) if place == 1 else summed


def mul(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY * B and the other way round (ONNX Mul)."""
    row, other = tape.shape(node.output[0]), node.input[1 - place]
    if tape.is_constant(other):
        _check_row_constant(tape, other, len(row))
        product = tape.add("Mul", gradient, other)
    else:
        if len(tape.shape(other)) != len(row):
            raise NoRule("its operands have different numbers of axes")
        product = tape.scale(gradient, other, row)
    return tape.sum_to(product, row, tape.shape(node.input[place]))


def div(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY / B for a constant B (ONNX Div)."""
    only(place)
    row, divisor = tape.shape(node.output[0]), node.input[1]
    tape.value(divisor)
    _check_row_constant(tape, divisor, len(row))
    return tape.sum_to(tape.add("Div", gradient, divisor), row, tape.shape(node.input[0]))


def relu(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """1 where the output is above 0 (ONNX Relu)."""
    only(place)
    above = tape.add("Greater", node.output[0], tape.floats(0.0))
    return tape.scale(gradient, tape.as_float(above), tape.shape(node.output[0]))


def leaky_relu(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """1 where the input is above 0, else alpha (ONNX LeakyRelu)."""
    only(place)
    above = tape.add("Greater", node.input[0], tape.floats(0.0))
    slope = tape.floats(attribute(node, "alpha", 0.01))
    factor = tape.add("Where", above, tape.floats(1.0), slope)
    return tape.scale(gradient, factor, tape.shape(node.output[0]))


def clip(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """1 strictly between the bounds (ONNX Clip, opset 11)."""
    only(place)
    source, row = node.input[0], tape.shape(node.output[0])
    for bound, inside in ((given(node, 1), "Greater"), (given(node, 2), "Less")):
        if bound:
            tape.value(bound)
            factor = tape.as_float(tape.add(inside, source, bound))
            gradient = tape.scale(gradient, factor, row)
    return gradient


def sigmoid(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """y * (1 - y) (ONNX Sigmoid)."""
    only(place)
    output = node.output[0]
    factor = tape.add("Mul", output, tape.add("Sub", tape.floats(1.0), output))
    return tape.scale(gradient, factor, tape.shape(output))


def tanh(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """1 - y * y (ONNX Tanh)."""
    only(place)
    output = node.output[0]
    factor = tape.add("Sub", tape.floats(1.0), tape.add("Mul", output, output))
    return tape.scale(gradient, factor, tape.shape(output))


def hard_sigmoid(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Alpha where 0 < y < 1 (ONNX HardSigmoid)."""
    only(place)
    factor = tape.add(
        "Mul", _ramp(tape, node.output[0]), tape.floats(attribute(node, "alpha", 0.2))
    )
    return tape.scale(gradient, factor, tape.shape(node.output[0]))


def hard_swish(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """For y = x * h(x), h = HardSigmoid(1/6, 1/2): h + x * h' (ONNX HardSwish, opset 14)."""
    only(place)
    source = node.input[0]
    gate = tape.add("HardSigmoid", source, alpha=1 / 6, beta=0.5)
    slope = tape.add("Mul", _ramp(tape, gate), tape.floats(1 / 6))
    factor = tape.add("Add", gate, tape.add("Mul", source, slope))
    return tape.scale(gradient, factor, tape.shape(node.output[0]))


def softmax(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = y * (dY - sum(dY * y)) along the axis (ONNX Softmax, opset 13)."""
    only(place)
    output, row = node.output[0], tape.shape(node.output[0])
    axis = axis_of(node, -1, len(row) + 1)
    weighted = tape.scale(gradient, output, row)
    total = tape.sum(weighted, row, [axis])
    return tape.scale(tape.add("Sub", gradient, total), output, row)


def _ramp(tape: Tape, gate: str) -> str:
    """1 where 0 < gate < 1."""
    above = tape.add("Greater", gate, tape.floats(0.0))
    below = tape.add("Less", gate, tape.floats(1.0))
    return tape.as_float(tape.add("And", above, below))


def _check_row_constant(tape: Tape, name: str, axes: int) -> None:
    """A constant may not differ between images: there are more gradients than images."""
    shape = tape.value(name).shape
    if len(shape) > axes and shape[0] != 1:
        raise NoRule("a constant with a batch axis")
