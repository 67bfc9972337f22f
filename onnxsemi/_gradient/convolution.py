"""Reverse rules of Conv, ConvTranspose and the pools with windows.

Spreading the gradient of a window's result over the cells that it was computed from is what
ConvTranspose does, with the very weight of the Conv. Without strides a Conv with the kernel flipped
and its two channel axes exchanged does the same and is much faster in ONNX Runtime.
"""

import math

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array
from onnxsemi._gradient.tape import NoRule, Shape, Tape, attribute, only
from onnxsemi._gradient.window import Window, spatial


def conv(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = W^T * dY (ONNX Conv, opset 11)."""
    only(place)
    weight = tape.value(node.input[1])
    group = int(attribute(node, "group", 1))
    inputs, outputs = (tape.shape(name) for name in (node.input[0], node.output[0]))
    window = Window.of(node, weight.shape[2:], spatial(inputs[1:]), spatial(outputs[1:]))
    pads, folded = window.as_convolution(), tape.folded(gradient, outputs)
    if pads is None:
        found = tape.add("ConvTranspose", folded, node.input[1], group=group, **window.transposed())
    else:
        flipped = tape.constant(_exchanged(weight, group))
        found = tape.add(
            "Conv", folded, flipped, group=group, pads=pads, dilations=window.dilations
        )
    return tape.restored(found, inputs)


def conv_transpose(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = W * dY: a Conv with the same weight (ONNX ConvTranspose, opset 11)."""
    only(place)
    if attribute(node, "output_shape", None) or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        raise NoRule("output_shape or auto_pad")
    axes = tape.value(node.input[1]).ndim - 2
    found = tape.add(
        "Conv",
        tape.folded(gradient, tape.shape(node.output[0])),
        node.input[1],
        group=int(attribute(node, "group", 1)),
        strides=attribute(node, "strides", [1] * axes),
        dilations=attribute(node, "dilations", [1] * axes),
        pads=attribute(node, "pads", [0] * (2 * axes)),
    )
    return tape.restored(found, tape.shape(node.input[0]))


def max_pool(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Each output's gradient goes to the cell that it was taken from (ONNX MaxPool, opset 12).

    MaxPool counts Indices over the whole batch; modulo the size of a row they are places in it.
    """
    only(place)
    inputs, outputs = (tape.shape(name) for name in (node.input[0], node.output[0]))
    size, taken = math.prod(inputs[1:]), math.prod(outputs[1:])
    kept = {item.name: item for item in node.attribute if item.name != "storage_order"}
    twin = onnx.NodeProto(op_type="MaxPool", input=[node.input[0]], attribute=kept.values())
    number = len(tape.nodes)
    twin.name = f"backward/{number}"
    twin.output.extend([f"{twin.name}/pooled", f"{twin.name}/indices"])
    tape.nodes.append(twin)
    places = tape.reshape(tape.add("Mod", twin.output[1], tape.integers(size)), (-1, taken))
    places = tape.add("Tile", places, tape.integers(tape.cotangents, 1))  # [S * N, taken]
    rows = tape.add("Slice", tape.add("Shape", places), tape.integers(0), tape.integers(1))
    shape = tape.add("Concat", rows, tape.integers(size), axis=0)
    empty = tape.add("Expand", tape.floats(0.0), shape)
    values = tape.reshape(gradient, (-1, taken))
    spread = tape.add("ScatterElements", empty, places, values, axis=1, reduction="add")
    return tape.restored(spread, inputs)


def average_pool(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The gradient of each window's mean, shared equally by its cells (ONNX AveragePool)."""
    only(place)
    inputs, outputs = (tape.shape(name) for name in (node.input[0], node.output[0]))
    kernel = tuple(attribute(node, "kernel_shape", []))
    window = Window.of(node, kernel, spatial(inputs[1:]), spatial(outputs[1:]))
    count_padding = bool(attribute(node, "count_include_pad", 0))
    cells = window.cells(count_padding=count_padding)
    share = 1.0 / np.maximum(cells, 1)  # a window of nothing but padding has none
    shared = tape.add("Mul", gradient, tape.floats(share))
    planes = tape.reshape(shared, (-1, 1, *window.outputs))  # [S, N, C, ...] -> [S * N * C, 1, ...]
    ones = tape.floats(np.ones((1, 1, *kernel)))
    return tape.restored(tape.add("ConvTranspose", planes, ones, **window.transposed()), inputs)


def _exchanged(weight: Float32Array, group: int) -> Float32Array:
    """[O, I/g, k...] -> [I, O/g, k...] with the kernel flipped."""
    split: Shape = (group, weight.shape[0] // group, *weight.shape[1:])
    turned = weight.reshape(split).swapaxes(1, 2)
    joined = turned.reshape(group * weight.shape[1], weight.shape[0] // group, *weight.shape[2:])
    return np.ascontiguousarray(np.flip(joined, axis=tuple(range(2, weight.ndim))))
