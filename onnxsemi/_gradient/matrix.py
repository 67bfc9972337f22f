"""Reverse rules of Gemm, MatMul and Einsum."""

from typing import Any

import numpy as np
import onnx

from onnxsemi._gradient.tape import NoRule, Shape, Tape, attribute


def gemm(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA' = alpha * dY * B'^T, dC = beta * dY (ONNX Gemm, opset 13)."""
    if place == 2:
        scaled = tape.add("Mul", gradient, tape.floats(attribute(node, "beta", 1.0)))
        return tape.sum_to(scaled, tape.shape(node.output[0]), tape.shape(node.input[2]))
    if place == 1:
        raise NoRule("a weight that is computed at run time")
    matrix, turned = tape.value(node.input[1]), int(attribute(node, "transB", 0))
    rows, columns = tape.shape(node.output[0])
    alpha = attribute(node, "alpha", 1.0)
    product = _by_stored(tape, gradient, node.input[1], columns, alpha=alpha, transB=1 - turned)
    product = tape.restored(product, (rows, matrix.shape[turned]))
    return _turned(tape, product, 3) if attribute(node, "transA", 0) else product


def matmul(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dA = dY * B^T, dB = A^T * dY (ONNX MatMul, opset 13).

    A vector is a row as the left operand, a column as the right one.
    """
    left, right = (tape.shape(name) for name in node.input[:2])
    if place == 0 and len(right) == 2 and tape.is_constant(node.input[1]):
        product = _by_stored(tape, gradient, node.input[1], right[1], transB=1)
        return tape.restored(product, left)
    shape = tape.shape(node.output[0])
    rows, columns = left[-2:-1] or (1,), right[-1:] if len(right) > 1 else (1,)
    stack = shape[: len(shape) - (len(left) > 1) - (len(right) > 1)]
    if len(left) == 1 or len(right) == 1:
        gradient = tape.restored(gradient, (*stack, *rows, *columns))
    turned = _other_turned(tape, node.input[1 - place], place)
    if place == 0:
        product, whole = tape.add("MatMul", gradient, turned), (*stack, *rows, left[-1])
        return _summed(tape, product, whole, left, (1, left[-1]))
    product, whole = tape.add("MatMul", turned, gradient), (*stack, left[-1], *columns)
    return _summed(tape, product, whole, right, (left[-1], 1))


def einsum(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The letters of dA from those of Y and of the other operand (ONNX Einsum, opset 12).

    What A alone holds was summed: its gradient is the same all along.
    """
    terms, output = _equation(node)
    mine, others = terms[place], [t for i, t in enumerate(terms) if i != place]
    if len(terms) > 2 or any(len(set(term)) < len(term) for term in (*terms, output)):
        raise NoRule("an ellipsis, a letter twice in an operand, or more than two operands")
    cotangents = next(
        letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in "".join(terms)
    )
    kept = "".join(letter for letter in mine if letter in output + "".join(others))
    equation = f"{','.join([cotangents + output, *others])}->{cotangents}{kept}"
    names = [name for i, name in enumerate(node.input) if i != place]
    product = tape.add("Einsum", gradient, *names, equation=equation)
    shape = tape.shape(node.input[place])
    if kept == mine:
        return product
    sizes = dict(zip(mine, shape, strict=True))
    thin = tape.restored(product, tuple(n if c in kept else 1 for c, n in sizes.items()))
    if any(sizes[letter] < 0 for letter in mine if letter not in kept):
        raise NoRule("it works across the batch")
    ones = np.ones([1 if letter in kept else size for letter, size in sizes.items()])
    return tape.add("Mul", thin, tape.floats(ones))


def _by_stored(tape: Tape, gradient: str, weight: str, columns: int, **attributes: Any) -> str:
    """Every row of a gradient times the stored weight: no second copy, transposed, of a large one.

    Args:
        tape: The tape.
        gradient: [..., columns].
        weight: Name of the weight.
        columns: Size of the gradient's last axis.
        **attributes: Of the Gemm.
    """
    return tape.add("Gemm", tape.reshape(gradient, (-1, columns)), weight, **attributes)


def _equation(node: onnx.NodeProto) -> tuple[list[str], str]:
    """Letters of the operands and of the output; unsaid, those that occur once, in order."""
    text = attribute(node, "equation", b"").decode().replace(" ", "")
    before, arrow, output = text.partition("->")
    if "." in text:
        raise NoRule("an ellipsis, a letter twice in an operand, or more than two operands")
    if not arrow:
        output = "".join(sorted(c for c in set(before) - {","} if before.count(c) == 1))
    return before.split(","), output


def _other_turned(tape: Tape, name: str, place: int) -> str:
    """The other operand as a matrix, or a stack of them, transposed."""
    shape = tape.shape(name)
    if len(shape) == 1:  # B is a column, its transpose a row; A a row, its transpose a column
        return tape.reshape(name, (1, shape[0]) if place == 0 else (shape[0], 1))
    if tape.is_constant(name):
        return tape.constant(tape.value(name).swapaxes(-1, -2))
    return _turned(tape, name, len(shape))


def _summed(tape: Tape, product: str, whole: Shape, own: Shape, vector: Shape) -> str:
    """The gradient of an operand whose stack was broadcast; a vector loses its extra axis."""
    if len(own) > 1:
        return tape.sum_to(product, whole, own)
    return tape.restored(tape.sum_to(product, whole, vector), own)


def _turned(tape: Tape, name: str, axes: int) -> str:
    """The last two axes exchanged."""
    order = [*range(axes - 2), axes - 1, axes - 2]
    return tape.add("Transpose", name, perm=order)
