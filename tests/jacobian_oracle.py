"""Dense Jacobians of single ONNX operators, in plain loops from the operators' definitions.

Each operator yields triples (place in the output, place in the input, summand): the Jacobian's
entry is the sum of its summands. Kept beside it is the sum of their sizes, from which the rounding
error of any float32 evaluation follows. Nothing here is shared with the rules under test.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from jacobian_call import Array, Call, Jacobian, Place, Terms, met
from jacobian_sums import SUMS
from jacobian_values import VALUES
from onnx import helper


def jacobian(node: onnx.NodeProto, values: dict[str, Array], wanted: str, output: Place):
    """Jacobian of a node's first output by one tensor, which may be several of its inputs."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    inputs = [values[name] if name else None for name in node.input]
    shape = values[wanted].shape
    dense, sizes, counts = (np.zeros((math.prod(output), math.prod(shape))) for _ in range(3))
    for place, name in enumerate(node.input):
        if name != wanted:
            continue
        for o, i, term in OPERATORS[node.op_type](Call(attributes, inputs, place, output)):
            at = np.ravel_multi_index(o, output), np.ravel_multi_index(i, shape)
            dense[at] += term
            sizes[at] += abs(term)
            counts[at] += 1
    return Jacobian(dense, sizes, int(counts.sum(axis=0).max(initial=0)))


# Windows


@dataclass(frozen=True)
class _Window:
    kernel: Place
    strides: Place
    dilations: Place
    pads: Place

    def cells(self, output: Place) -> Iterator[tuple[Place, Place]]:
        """Place in the kernel and in the input, outside of it included, row by row."""
        for k in np.ndindex(*self.kernel):
            axes = zip(output, self.strides, k, self.dilations, self.pads, strict=False)
            yield k, tuple(o * s + c * d - p for o, s, c, d, p in axes)


def _window(call: Call, kernel: Place) -> _Window:
    axes, size = len(kernel), call.x.shape[2:]
    strides = tuple(call.attribute("strides", [1] * axes))
    dilations = tuple(call.attribute("dilations", [1] * axes))
    pads = tuple(call.attribute("pads", [0] * 2 * axes))
    automatic = call.attribute("auto_pad", b"NOTSET").decode()
    if automatic.startswith("SAME"):
        total = [
            max((math.ceil(i / s) - 1) * s + (k - 1) * d + 1 - i, 0)
            for i, s, k, d in zip(size, strides, kernel, dilations, strict=True)
        ]
        begins = [
            math.floor(t / 2) if automatic == "SAME_UPPER" else math.ceil(t / 2) for t in total
        ]
        pads = (*begins, *(t - b for t, b in zip(total, begins, strict=True)))
    return _Window(kernel, strides, dilations, pads)


def _inside(place: Place, size: Place) -> bool:
    return all(0 <= p < s for p, s in zip(place, size, strict=True))


def conv(call: Call) -> Terms:
    x, w = call.inputs[:2]
    window, group = _window(call, w.shape[2:]), call.attribute("group", 1)
    for o in np.ndindex(*call.output):
        first = o[1] // (len(w) // group) * w.shape[1]
        for k, cell in window.cells(o[2:]):
            if _inside(cell, x.shape[2:]):
                for c in range(w.shape[1]):
                    yield o, (0, first + c, *cell), w[(o[1], c, *k)]


def conv_transpose(call: Call) -> Terms:
    x, w = call.inputs[:2]
    window, group = _window(call, w.shape[2:]), call.attribute("group", 1)
    for i in np.ndindex(*x.shape):
        first = i[1] // (len(w) // group) * w.shape[1]
        for k, cell in window.cells(i[2:]):
            if _inside(cell, call.output[2:]):
                for c in range(w.shape[1]):
                    yield (0, first + c, *cell), i, w[(i[1], c, *k)]


def max_pool(call: Call) -> Terms:
    window = _window(call, tuple(call.attributes["kernel_shape"]))
    for o in np.ndindex(*call.output):
        cells = [c for _, c in window.cells(o[2:]) if _inside(c, call.x.shape[2:])]
        largest = max(cells, key=lambda cell: call.x[(*o[:2], *cell)])  # max gives the first
        yield o, (*o[:2], *largest), 1.0


def average_pool(call: Call) -> Terms:
    window = _window(call, tuple(call.attributes["kernel_shape"]))
    size, axes = call.x.shape[2:], len(window.kernel)
    begins, ends = window.pads[:axes], window.pads[axes:]
    for o in np.ndindex(*call.output):
        cells = [cell for _, cell in window.cells(o[2:])]
        inside = [cell for cell in cells if _inside(cell, size)]
        counted = inside
        if call.attribute("count_include_pad", 0):
            padded = tuple(b + s + e for b, s, e in zip(begins, size, ends, strict=True))
            shifted = [tuple(c + b for c, b in zip(cell, begins, strict=True)) for cell in cells]
            counted = [cell for cell in shifted if _inside(cell, padded)]
        for cell in inside:
            yield o, (*o[:2], *cell), 1 / len(counted)


def global_average_pool(call: Call) -> Terms:
    for i in np.ndindex(*call.x.shape):
        yield (*i[:2], *[0] * (len(i) - 2)), i, 1 / math.prod(call.x.shape[2:])


def batch_normalization(call: Call) -> Terms:
    scale, variance = call.inputs[1], call.inputs[4]
    epsilon = call.attribute("epsilon", 1e-5)
    for i in np.ndindex(*call.x.shape):
        yield i, i, scale[i[1]] / math.sqrt(variance[i[1]] + epsilon)


def softmax(call: Call) -> Terms:
    axis = call.attribute("axis", -1) % call.x.ndim
    e = np.exp(call.x)
    y = e / e.sum(axis=axis, keepdims=True)
    for o in np.ndindex(*call.output):
        yield o, o, y[o]
        for k in range(call.x.shape[axis]):
            i = (*o[:axis], k, *o[axis + 1 :])
            yield o, i, -y[o] * y[i]


# Matrices


def gemm(call: Call) -> Terms:
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    b = call.inputs[1].T if call.attribute("transB", 0) else call.inputs[1]
    for n, m in np.ndindex(*call.output):
        if call.place == 2:
            yield (n, m), met((n, m), call.x.shape), beta
        else:
            for k in range(len(b)):
                yield (n, m), (n, k), alpha * b[k, m]


def matmul(call: Call) -> Terms:
    """A vector counts as a row on the left, as a column on the right."""
    left, right = (v.ndim == 1 for v in call.inputs)
    other = call.inputs[1 - call.place]
    other = (
        other[None]
        if call.place and left
        else other[:, None]
        if right and not call.place
        else other
    )
    mine = (
        call.x[None]
        if left and not call.place
        else call.x[:, None]
        if right and call.place
        else call.x
    )
    for o in np.ndindex(*call.output):
        cells = list(o)
        column = 0 if right else cells.pop()
        row = 0 if left else cells.pop()
        own, theirs = (met((*cells, 0, 0), a.shape)[:-2] for a in (mine, other))
        for k in range(call.inputs[0].shape[-1]):
            i = (*own, row, k) if call.place == 0 else (*own, k, column)
            there = (*theirs, k, column) if call.place == 0 else (*theirs, row, k)
            if call.x.ndim == 1:
                i = (k,)
            yield o, i, other[there]


# Movement


def in_order(call: Call) -> Terms:
    pairs = zip(np.ndindex(*call.output), np.ndindex(*call.x.shape), strict=True)
    yield from ((o, i, 1.0) for o, i in pairs)


def transpose(call: Call) -> Terms:
    order = call.attribute("perm", range(call.x.ndim)[::-1])
    for i in np.ndindex(*call.x.shape):
        yield tuple(i[axis] for axis in order), i, 1.0


def concat(call: Call) -> Terms:
    axis = call.attributes["axis"] % call.x.ndim
    before = sum(a.shape[axis] for a in call.inputs[: call.place])
    for i in np.ndindex(*call.x.shape):
        yield (*i[:axis], before + i[axis], *i[axis + 1 :]), i, 1.0


def slice_(call: Call) -> Terms:
    starts = call.inputs[1].tolist()
    axes, steps = call.integers(3, range(len(starts))), call.integers(4, [1] * len(starts))
    begin, stride = [0] * call.x.ndim, [1] * call.x.ndim
    for start, axis, step in zip(starts, axes, steps, strict=True):
        size = call.x.shape[axis]
        counted = start + size if start < 0 else start
        begin[axis] = min(max(counted, 0), size if step > 0 else size - 1)
        stride[axis] = step
    for o in np.ndindex(*call.output):
        yield o, tuple(b + p * s for b, p, s in zip(begin, o, stride, strict=True)), 1.0


def pad(call: Call) -> Terms:
    pads = call.inputs[1].tolist()
    axes = call.integers(3, range(call.x.ndim))
    begin = [0] * call.x.ndim
    for axis, before in zip(axes, pads[: len(pads) // 2], strict=True):
        begin[axis] = before
    for o in np.ndindex(*call.output):
        i = tuple(p - b for p, b in zip(o, begin, strict=True))
        if _inside(i, call.x.shape):
            yield o, i, 1.0


OPERATORS: dict[str, Callable[[Call], Terms]] = {
    **VALUES,
    **SUMS,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Dropout": in_order,
    "Flatten": in_order,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "Identity": in_order,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Pad": pad,
    "Reshape": in_order,
    "Slice": slice_,
    "Softmax": softmax,
    "Squeeze": in_order,
    "Transpose": transpose,
    "Unsqueeze": in_order,
}
