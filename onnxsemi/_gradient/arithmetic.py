"""Reverse rules of operators that join tensors value by value.

The rules here give the gradient in the shape of the output; :func:`broadcast` sums it over what was
broadcast.
"""

from collections.abc import Callable

import onnx

from onnxsemi._gradient.tape import Tape, only

_Rule = Callable[[Tape, onnx.NodeProto, str, int], str]


def broadcast(rule: _Rule) -> _Rule:
    """A rule whose gradient is summed over the axes along which the input was broadcast."""

    def summed(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
        whole = rule(tape, node, gradient, place)
        if not whole:
            return whole
        return tape.sum_to(whole, tape.shape(node.output[0]), tape.shape(node.input[place]))

    return summed


def add(_tape: Tape, _node: onnx.NodeProto, gradient: str, _place: int) -> str:
    """dA = dB = dY (ONNX Add, Sum, Expand)."""
    return gradient


def sub(tape: Tape, _node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY, dB = -dY (ONNX Sub)."""
    return tape.add("Neg", gradient) if place == 1 else gradient


def mul(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY * B and the other way round (ONNX Mul)."""
    return tape.add("Mul", gradient, node.input[1 - place])


def div(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY / B, dB = -dY * Y / B (ONNX Div)."""
    divisor = node.input[1]
    if place == 0:
        return tape.add("Div", gradient, divisor)
    slope = tape.add("Neg", tape.add("Div", node.output[0], divisor))
    return tape.add("Mul", gradient, slope)


def power(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY * B * A^(B - 1) for a constant B (ONNX Pow, opset 13)."""
    only(place)
    exponent = tape.value(node.input[1]).astype(tape.dtype)
    lower = tape.add("Pow", node.input[0], tape.floats(exponent - 1))
    return tape.add("Mul", gradient, tape.add("Mul", lower, tape.floats(exponent)))


def where(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY where the condition holds, dB = dY elsewhere; the condition has none (ONNX Where)."""
    if place == 0:
        return ""
    zero = tape.floats(0.0)
    chosen = (gradient, zero) if place == 1 else (zero, gradient)
    return tape.add("Where", node.input[0], *chosen)


def extreme(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dY where the input is the first that the output was taken from (ONNX Max, Min)."""
    taken = tape.add("Equal", node.input[place], node.output[0])
    for before in node.input[:place]:
        other = tape.add("Equal", before, node.output[0])
        taken = tape.add("And", taken, tape.add("Not", other))
    return tape.add("Mul", gradient, tape.as_float(taken))


def mean(tape: Tape, node: onnx.NodeProto, gradient: str, _place: int) -> str:
    """dY / number of inputs (ONNX Mean)."""
    return tape.add("Mul", gradient, tape.floats(1 / len(node.input)))
