"""Reverse rules of Gemm and MatMul."""

import numpy as np
import onnx

from onnxsemi.gradient.tape import NoRule, Tape, attribute


def gemm(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = alpha * dY * B'^T, dC = beta * dY (ONNX Gemm, opset 13)."""
    if place == 2:
        scaled = tape.add("Mul", gradient, tape.floats(attribute(node, "beta", 1.0)))
        return tape.sum_to(scaled, tape.shape(node.output[0]), tape.shape(node.input[2]))
    if place == 1 or attribute(node, "transA", 0):
        raise NoRule("transA, or a weight that is computed at run time")
    tape.value(node.input[1])
    return tape.add(
        "Gemm",
        gradient,
        node.input[1],
        alpha=attribute(node, "alpha", 1.0),
        transB=1 - int(attribute(node, "transB", 0)),
    )


def matmul(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY * B^T, dB = A^T * dY (ONNX MatMul, opset 13)."""
    other = node.input[1 - place]
    if tape.is_constant(other):
        return _with_constant(tape, node, gradient, place)
    row, mine, theirs = (tape.shape(name) for name in (node.output[0], node.input[place], other))
    if len({len(row), len(mine), len(theirs)}) > 1 or len(row) < 2:
        raise NoRule("its operands have different numbers of axes")
    turned = tape.lift(_turned(tape, other, len(theirs) + 1))
    unfolded = tape.unfold(gradient, row)
    pair = (unfolded, turned) if place == 0 else (turned, unfolded)
    spread = (*row[:-1], mine[-1]) if place == 0 else (*row[:-2], mine[-2], row[-1])
    return tape.sum_to(tape.reshape(tape.add("MatMul", *pair), spread), spread, mine)


def _with_constant(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    matrix, row = tape.value(node.input[1 - place]), tape.shape(node.output[0])
    if matrix.ndim != 2 or (place == 1 and len(row) < 2):
        raise NoRule("a constant operand that is no matrix")
    turned = tape.constant(np.ascontiguousarray(matrix.T))
    pair = (gradient, turned) if place == 0 else (turned, gradient)
    return tape.add("MatMul", *pair)


def _turned(tape: Tape, name: str, axes: int) -> str:
    """The last two axes exchanged."""
    order = [*range(axes - 2), axes - 1, axes - 2]
    return tape.add("Transpose", name, perm=order)
