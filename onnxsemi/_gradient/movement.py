"""Reverse rules of operators that move values."""

from collections.abc import Sequence

import numpy as np
import onnx

from onnxsemi._gradient.tape import NoRule, Shape, Tape, attribute, axis_of, given, only


def reshape(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Back to the input's shape (ONNX Reshape, Flatten, Squeeze, Unsqueeze, Identity)."""
    only(place)
    return tape.restored(gradient, tape.shape(node.input[0]))


def cast(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """From float to float; a whole number has no gradient (ONNX Cast)."""
    return reshape(tape, node, gradient, place) if tape.is_float(node.input[0]) else ""


def dropout(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Nothing is dropped in inference (ONNX Dropout)."""
    if given(node, 2) and tape.value(given(node, 2)).any():
        raise NoRule("training_mode")
    return reshape(tape, node, gradient, place)


def transpose(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The inverse permutation (ONNX Transpose)."""
    only(place)
    axes = len(tape.shape(node.output[0]))
    order = attribute(node, "perm", list(reversed(range(axes))))
    return tape.add("Transpose", gradient, perm=[0, *(np.argsort(order) + 1).tolist()])


def concat(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The input's part of the gradient (ONNX Concat)."""
    axis = axis_of(node, 1, tape.shape(node.output[0]))
    sizes = [tape.shape(name)[axis] for name in node.input[: place + 1]]
    bounds = (tape.integers(sum(sizes[:-1])), tape.integers(sum(sizes)), tape.integers(axis + 1))
    return tape.add("Slice", gradient, *bounds)


def split(tape: Tape, node: onnx.NodeProto, gradients: Sequence[str]) -> str:
    """The gradients of the parts side by side, zeros for one that is not used (ONNX Split)."""
    axis = axis_of(node, 0, tape.shape(node.input[0]))
    pairs = zip(node.output, gradients, strict=True)
    parts = [gradient or _zeros(tape, name) for name, gradient in pairs]
    return tape.add("Concat", *parts, axis=axis + 1)


def slice_(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Back to where the values were taken from, zeros elsewhere (ONNX Slice, opset 13)."""
    only(place)
    shape = tape.shape(node.input[0])
    for axis, taken in _slices(tape, node, shape):
        gradient = _put_back(tape, gradient, len(shape), axis, (taken, shape[axis]))
    return gradient


def gather(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Back to where the values were taken from, added up (ONNX Gather with constant indices)."""
    only(place)
    shape = tape.shape(node.input[0])
    axis = axis_of(node, 0, shape)
    taken = (tape.value(node.input[1]) % shape[axis]).reshape(-1).tolist()
    flat = (*shape[:axis], len(taken), *shape[axis + 1 :])
    gradient = tape.restored(gradient, flat)
    if len(set(taken)) == len(taken) or axis == len(shape) - 1:
        return _put_back(tape, gradient, len(shape), axis, (taken, shape[axis]))
    order = list(range(len(shape) + 1))
    order[axis + 1], order[-1] = order[-1], order[axis + 1]  # the inverse of itself
    last = tape.add("Transpose", gradient, perm=order)
    return tape.add("Transpose", _spread(tape, last, taken, shape[axis]), perm=order)


def pad(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Crop what was padded (ONNX Pad, opset 18, mode constant)."""
    only(place)
    if attribute(node, "mode", b"constant") != b"constant":
        raise NoRule("a mode other than constant")
    pads, count = tape.value(given(node, 1)).tolist(), len(tape.shape(node.input[0]))
    axes = tape.value(given(node, 3)).tolist() if given(node, 3) else range(count)
    both: list[int] = [0] * (2 * (count + 1))
    for place_, axis in enumerate(axes):
        both[axis % count + 1] = -pads[place_]
        both[axis % count + count + 2] = -pads[place_ + len(pads) // 2]
    return tape.add("Pad", gradient, tape.integers(*both))


def tile(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The sum of the repetitions (ONNX Tile)."""
    only(place)
    return _blocks_summed(
        tape, gradient, tape.shape(node.input[0]), tape.value(node.input[1]).tolist(), 0
    )


def resize(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The sum of the copies of each value: nearest, whole factors (ONNX Resize, opset 18)."""
    only(place)
    shape, larger = (tape.shape(name) for name in (node.input[0], node.output[0]))
    how = tuple(
        attribute(node, name, default).decode()
        for name, default in (
            ("mode", b"nearest"),
            ("coordinate_transformation_mode", b"half_pixel"),
            ("nearest_mode", b"round_prefer_floor"),
        )
    )
    if how not in _COPIES or any(b % a for a, b in zip(shape, larger, strict=True)):
        raise NoRule("more than copying each value a whole number of times")
    factors = [b // a for a, b in zip(shape, larger, strict=True)]
    return _blocks_summed(tape, gradient, shape, factors, 1)


_COPIES = (
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_floor"),
    ("nearest", "half_pixel", "round_prefer_ceil"),
    ("nearest", "pytorch_half_pixel", "round_prefer_floor"),
)


def depth_to_space(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Space to depth, in the mode's order of channels (ONNX DepthToSpace)."""
    only(place)
    batch, channels, height, width = tape.shape(node.input[0])
    b = int(attribute(node, "blocksize", 1))
    less = channels // (b * b)
    split_ = tape.reshape(gradient, (-1, less, height, b, width, b))
    crd = attribute(node, "mode", b"DCR") == b"CRD"
    turned = tape.add("Transpose", split_, perm=[0, *((1, 3, 5) if crd else (3, 5, 1)), 2, 4])
    return tape.restored(turned, (batch, channels, height, width))


def space_to_depth(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Depth to space (ONNX SpaceToDepth)."""
    only(place)
    folded = tape.folded(gradient, tape.shape(node.output[0]))
    back = tape.add("DepthToSpace", folded, blocksize=int(attribute(node, "blocksize", 1)))
    return tape.restored(back, tape.shape(node.input[0]))


def _put_back(
    tape: Tape, gradient: str, axes: int, axis: int, taken: tuple[Sequence[int], int]
) -> str:
    """A gradient of values that were taken along an axis.

    Neighbours get zeros on both sides. Behind others a zero is put, and every place takes either
    its value or that zero; along the last axis, where ONNX Runtime would move each value by itself,
    a product does it 2 to 18 times faster.

    Args:
        tape: The tape.
        gradient: [S, *shape].
        axes: Number of axes of the shape.
        axis: Axis along which they were taken.
        taken: From which places, and how many places there are; different ones, but along the last
            axis.
    """
    places, size = list(taken[0]), taken[1]
    first = places[0] if places else 0
    pads = [0] * (2 * axes + 2)
    if places == list(range(first, first + len(places))):
        pads[axis + 1], pads[axis + axes + 2] = first, size - first - len(places)
        return tape.add("Pad", gradient, tape.integers(*pads))
    if axis == axes - 1:
        return _spread(tape, gradient, places, size)
    source = np.full(size, len(places), np.int64)
    source[places] = np.arange(len(places))
    pads[axis + axes + 2] = 1
    padded = tape.add("Pad", gradient, tape.integers(*pads))
    return tape.add("Gather", padded, tape.constant(source), axis=axis + 1)


def _spread(tape: Tape, gradient: str, places: Sequence[int], size: int) -> str:
    """[..., values] -> [..., size], each value added where it was taken from."""
    chosen = np.zeros((len(places), size))
    chosen[np.arange(len(places)), places] = 1
    return tape.add("MatMul", gradient, tape.floats(chosen))


def _blocks_summed(
    tape: Tape, gradient: str, shape: Shape, factors: Sequence[int], behind: int
) -> str:
    """Sums of the copies that each value has along every axis.

    Args:
        tape: The tape.
        gradient: [S, *(shape * factors)].
        shape: Shape before.
        factors: Copies along each axis.
        behind: 1 if the copies of a value are neighbours, 0 if the whole is repeated.
    """
    if any(size < 0 and factor != 1 for size, factor in zip(shape, factors, strict=True)):
        raise NoRule("it works across the batch")
    pairs = [(size, f) if behind else (f, size) for size, f in zip(shape, factors, strict=True)]
    flat = tuple(size for pair in pairs for size in pair)
    copies = [2 * axis + behind for axis, factor in enumerate(factors) if factor != 1]
    summed = tape.sum_gradient(tape.restored(gradient, flat), flat, copies)
    return tape.restored(summed, shape)


def _zeros(tape: Tape, name: str) -> str:
    """[S, *shape] of a forward tensor, all zeros."""
    if not name:
        raise NoRule("an output without a name")
    shape = tape.add("Concat", tape.integers(tape.cotangents), tape.add("Shape", name), axis=0)
    return tape.add("Expand", tape.floats(0.0), shape)


def _slices(tape: Tape, node: onnx.NodeProto, shape: Shape) -> list[tuple[int, Shape]]:
    """Axes with the places that are taken from them."""
    starts, ends = (tape.value(given(node, i)).tolist() for i in (1, 2))
    axes = tape.value(given(node, 3)).tolist() if given(node, 3) else range(len(starts))
    steps = tape.value(given(node, 4)).tolist() if given(node, 4) else [1] * len(starts)
    found = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        counted = axis % len(shape)
        if shape[counted] < 0:
            raise NoRule("it works across the batch")
        found.append((counted, tuple(range(shape[counted])[start:end:step])))
    return found
