"""Reverse rules of Conv, ConvTranspose and the pools.

Spreading the gradient of a window's result over the cells that it was computed from is what
ConvTranspose does, with the very weight of the Conv. Without strides a Conv with the kernel flipped
and its two channel axes exchanged does the same and is much faster in ONNX Runtime.
"""

import numpy as np
import onnx

from onnxsemi.arrays import Float32Array
from onnxsemi.gradient.tape import NoRule, Shape, Tape, attribute, given, only
from onnxsemi.gradient.window import Window, spatial


def conv(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = W^T * dY (ONNX Conv, opset 11)."""
    only(place)
    weight = tape.value(node.input[1])
    group = int(attribute(node, "group", 1))
    inputs, outputs = (tape.shape(name) for name in (node.input[0], node.output[0]))
    window = Window.of(node, weight.shape[2:], spatial(inputs), spatial(outputs))
    pads = window.as_convolution()
    if pads is None:
        return tape.add(
            "ConvTranspose", gradient, node.input[1], group=group, **window.transposed()
        )
    flipped = tape.constant(_exchanged(weight, group))
    return tape.add("Conv", gradient, flipped, group=group, pads=pads, dilations=window.dilations)


def conv_transpose(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = W * dY: a Conv with the same weight (ONNX ConvTranspose, opset 11)."""
    only(place)
    if attribute(node, "output_shape", None) or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        raise NoRule("output_shape or auto_pad")
    weight = tape.value(node.input[1])
    axes = weight.ndim - 2
    return tape.add(
        "Conv",
        gradient,
        node.input[1],
        group=int(attribute(node, "group", 1)),
        strides=attribute(node, "strides", [1] * axes),
        dilations=attribute(node, "dilations", [1] * axes),
        pads=attribute(node, "pads", [0] * (2 * axes)),
    )


def max_pool(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """Each output's gradient goes to the cell that it was taken from (ONNX MaxPool, opset 12).

    MaxPool counts Indices over the whole batch; modulo the size of a row they are places in it.
    """
    only(place)
    inputs, outputs = (tape.shape(name) for name in (node.input[0], node.output[0]))
    size, taken = int(np.prod(inputs)), int(np.prod(outputs))
    kept = {item.name: item for item in node.attribute if item.name != "storage_order"}
    twin = onnx.NodeProto(op_type="MaxPool", input=[node.input[0]], attribute=kept.values())
    number = len(tape.nodes)
    twin.name = f"backward/{number}"
    twin.output.extend([f"{twin.name}/pooled", f"{twin.name}/indices"])
    tape.nodes.append(twin)
    places = tape.add("Mod", twin.output[1], tape.integers(size))
    places = tape.lift(tape.reshape(places, (taken,)))
    places = tape.reshape(tape.add("Tile", places, tape.integers(1, tape.seeds, 1)), (taken,))
    rows = tape.add("Slice", tape.add("Shape", gradient), tape.integers(0), tape.integers(1))
    shape = tape.add("Concat", rows, tape.integers(size), axis=0)
    empty = tape.add("Expand", tape.floats(0.0), shape)
    spread = tape.add(
        "ScatterElements", empty, places, tape.reshape(gradient, (taken,)), axis=1, reduction="add"
    )
    return tape.reshape(spread, inputs)


def average_pool(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The gradient of each window's mean, shared equally by its cells (ONNX AveragePool)."""
    only(place)
    inputs, outputs = (tape.shape(name) for name in (node.input[0], node.output[0]))
    kernel = tuple(attribute(node, "kernel_shape", []))
    window = Window.of(node, kernel, spatial(inputs), spatial(outputs))
    count_padding = bool(attribute(node, "count_include_pad", 0))
    cells = window.cells(count_padding=count_padding)
    share = 1.0 / np.maximum(cells, 1)  # a window of nothing but padding has none
    shared = tape.add("Mul", gradient, tape.floats(share[None, None]))
    planes = tape.reshape(shared, (1, *window.outputs))  # [rows, C, ...] -> [rows * C, 1, ...]
    ones = tape.floats(np.ones((1, 1, *kernel)))
    return tape.reshape(tape.add("ConvTranspose", planes, ones, **window.transposed()), inputs)


def global_average_pool(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """The mean's gradient, shared equally by all cells (ONNX GlobalAveragePool)."""
    only(place)
    size = spatial(tape.shape(node.input[0]))
    return tape.add("Mul", gradient, tape.floats(np.full((1, 1, *size), 1 / np.prod(size))))


def batch_normalization(tape: Tape, node: onnx.NodeProto, gradient: str, place: int) -> str:
    """dX = dY * scale / sqrt(variance + epsilon) (ONNX BatchNormalization in inference)."""
    only(place)
    if attribute(node, "training_mode", 0):
        raise NoRule("training_mode")
    scale, variance = (tape.value(given(node, i)).astype(np.float64) for i in (1, 4))
    factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    axes = len(tape.shape(node.input[0]))
    return tape.add("Mul", gradient, tape.floats(factor.reshape(1, -1, *[1] * (axes - 1))))


def _exchanged(weight: Float32Array, group: int) -> Float32Array:
    """[O, I/g, k...] -> [I, O/g, k...] with the kernel flipped."""
    split: Shape = (group, weight.shape[0] // group, *weight.shape[1:])
    turned = weight.reshape(split).swapaxes(1, 2)
    joined = turned.reshape(group * weight.shape[1], weight.shape[0] // group, *weight.shape[2:])
    return np.ascontiguousarray(np.flip(joined, axis=tuple(range(2, weight.ndim))))
