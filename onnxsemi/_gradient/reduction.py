"""Reverse rules of operators that reduce axes: y = r(x over some axes).

The gradient of the result, its axes kept with size 1, times a factor for every value.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx

from onnxsemi._gradient.tape import NoRule, Shape, Tape, attribute, given, only

Factor = Callable[[Tape, onnx.NodeProto, Shape], str]
"""(tape, node, sizes of the reduced axes and 1 elsewhere) -> factor."""


def over(factor: Factor) -> Callable[[Tape, onnx.NodeProto, str, int], str]:
    """The rule of a Reduce operator (opset 18)."""

    def rule(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
        only(place)
        axes = _axes(tape, node)
        return _pulled(tape, node, gradient, axes, factor) if axes else gradient

    return rule


def over_places(factor: Factor) -> Callable[[Tape, onnx.NodeProto, str, int], str]:
    """The rule of a global pool: every axis behind the channels."""

    def rule(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
        only(place)
        axes = set(range(2, len(tape.shape(node.input[0]))))
        return _pulled(tape, node, gradient, axes, factor)

    return rule


def of_sum(tape: Tape, _node: onnx.NodeProto, sizes: Shape) -> str:
    """1 (ONNX ReduceSum)."""
    return tape.floats(np.ones(sizes))


def of_mean(tape: Tape, _node: onnx.NodeProto, sizes: Shape) -> str:
    """1 / number of values (ONNX ReduceMean, GlobalAveragePool)."""
    return tape.floats(np.full(sizes, 1 / math.prod(sizes)))


def of_extreme(tape: Tape, node: onnx.NodeProto, sizes: Shape) -> str:
    """1 where the value was taken, shared by equal ones (ONNX ReduceMax, ReduceMin, GlobalMaxPool).

    Counting is exact in float32, in whatever order.
    """
    taken = tape.as_float(tape.add("Equal", node.input[0], _kept_output(tape, node, sizes)))
    axes = [axis for axis, size in enumerate(sizes) if size != 1]
    if not axes:
        return taken
    return tape.add("Div", taken, tape.add("ReduceSum", taken, tape.integers(*axes)))


def of_norm(tape: Tape, node: onnx.NodeProto, sizes: Shape) -> str:
    """x / y (ONNX ReduceL2)."""
    return tape.add("Div", node.input[0], _kept_output(tape, node, sizes))


def of_square(tape: Tape, node: onnx.NodeProto, _sizes: Shape) -> str:
    """2 x (ONNX ReduceSumSquare)."""
    return tape.add("Mul", node.input[0], tape.floats(2.0))


def of_size(tape: Tape, node: onnx.NodeProto, _sizes: Shape) -> str:
    """The sign of x (ONNX ReduceL1)."""
    return tape.add("Sign", node.input[0])


def of_exponential(tape: Tape, node: onnx.NodeProto, sizes: Shape) -> str:
    """e^(x - y) (ONNX ReduceLogSumExp)."""
    return tape.add("Exp", tape.add("Sub", node.input[0], _kept_output(tape, node, sizes)))


def _pulled(tape: Tape, node: onnx.NodeProto, gradient: str, axes: set[int], factor: Factor) -> str:
    shape = tape.shape(node.input[0])
    if any(shape[axis] < 0 for axis in axes):
        raise NoRule("it works across the batch")
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    sizes = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    return tape.add("Mul", tape.restored(gradient, kept), factor(tape, node, sizes))


def _kept_output(tape: Tape, node: onnx.NodeProto, sizes: Shape) -> str:
    """The output with the reduced axes kept."""
    pairs = zip(tape.shape(node.input[0]), sizes, strict=True)
    return tape.reshape(node.output[0], tuple(n if size == 1 else 1 for n, size in pairs))


def _axes(tape: Tape, node: onnx.NodeProto) -> set[int]:
    """Axes that a Reduce operator reduces."""
    count = len(tape.shape(node.input[0]))
    axes = attribute(node, "axes", None) or (
        tape.value(given(node, 1)).tolist() if given(node, 1) else []
    )
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        return set()
    return {axis % count for axis in axes} if axes else set(range(count))
