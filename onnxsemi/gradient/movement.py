"""Reverse rules of operators that move values, and of means and sums along axes."""

import numpy as np
import onnx

from onnxsemi.gradient.tape import NoRule, Shape, Tape, attribute, axis_of, given, only


def reshape(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Back to the input's shape (ONNX Reshape, Flatten, Squeeze, Unsqueeze, Identity)."""
    only(place)
    return tape.reshape(gradient, tape.shape(node.input[0]))


def dropout(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Nothing is dropped in inference (ONNX Dropout)."""
    if given(node, 2) and tape.value(given(node, 2)).any():
        raise NoRule("training_mode")
    return reshape(tape, node, gradient, place)


def transpose(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The inverse permutation (ONNX Transpose)."""
    only(place)
    axes = len(tape.shape(node.output[0])) + 1
    order = attribute(node, "perm", list(reversed(range(axes))))
    if order[0] != 0:
        raise NoRule("it moves the batch axis")
    return tape.add("Transpose", gradient, perm=np.argsort(order).tolist())


def concat(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The input's part of the gradient (ONNX Concat)."""
    axis = axis_of(node, 1, len(tape.shape(node.output[0])) + 1)
    before = sum(_size(tape, name, axis) for name in node.input[:place])
    size = _size(tape, node.input[place], axis)
    bounds = (tape.integers(before), tape.integers(before + size), tape.integers(axis))
    return tape.add("Slice", gradient, *bounds)


def slice_(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Back to where the values were taken from, zeros elsewhere (ONNX Slice, opset 13).

    Axis by axis, a zero is put behind the gradient and every place of the input takes either its
    value or that zero.
    """
    only(place)
    row = tape.shape(node.input[0])
    for axis, taken in _slices(tape, node, row):
        size = row[axis - 1]
        source = np.full(size, len(taken), np.int64)
        source[list(taken)] = np.arange(len(taken))
        behind = [0] * (len(row) + 1)
        behind[axis] = 1
        padded = tape.add("Pad", gradient, tape.integers(*[0] * (len(row) + 1), *behind))
        gradient = tape.add("Gather", padded, tape.constant(source), axis=axis)
    return gradient


def pad(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Crop what was padded (ONNX Pad, opset 18, mode constant)."""
    only(place)
    if attribute(node, "mode", b"constant") != b"constant":
        raise NoRule("a mode other than constant")
    pads = tape.value(given(node, 1)).tolist()
    axes = given(node, 3)
    cropped = tape.integers(*(-p for p in pads))
    return tape.add("Pad", gradient, cropped, *(["", axes] if axes else []))


def reduce_mean(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The mean's gradient, shared equally (ONNX ReduceMean)."""
    return _spread(tape, node, gradient, mean=True, place=place)


def reduce_sum(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The sum's gradient goes to every summand (ONNX ReduceSum)."""
    return _spread(tape, node, gradient, mean=False, place=place)


def _spread(tape: Tape, node: onnx.NodeProto, gradient: str, *, mean: bool, place: int) -> str:
    only(place)
    row = tape.shape(node.input[0])
    axes = attribute(node, "axes", None) or (
        tape.value(given(node, 1)).tolist() if given(node, 1) else []
    )
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        return gradient
    reduced = {axis % (len(row) + 1) for axis in axes} if axes else set(range(len(row) + 1))
    if 0 in reduced:
        raise NoRule("it works across the batch")
    kept = tuple(1 if axis + 1 in reduced else size for axis, size in enumerate(row))
    sizes = [size if axis + 1 in reduced else 1 for axis, size in enumerate(row)]
    share = 1 / np.prod(sizes) if mean else 1.0
    factor = tape.floats(np.full((1, *sizes), share))
    return tape.add("Mul", tape.reshape(gradient, kept), factor)


def _size(tape: Tape, name: str, axis: int) -> int:
    if tape.is_constant(name):
        return int(tape.value(name).shape[axis])
    return tape.shape(name)[axis - 1]


def _slices(tape: Tape, node: onnx.NodeProto, row: Shape) -> list[tuple[int, Shape]]:
    """Axes with the places that are taken from them."""
    starts, ends = (tape.value(given(node, i)).tolist() for i in (1, 2))
    axes = tape.value(given(node, 3)).tolist() if given(node, 3) else range(len(starts))
    steps = tape.value(given(node, 4)).tolist() if given(node, 4) else [1] * len(starts)
    found = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        counted = axis % (len(row) + 1)
        if counted == 0:
            raise NoRule("it works across the batch")
        found.append((counted, tuple(range(row[counted - 1])[start:end:step])))
    return found
