"""What a weighted layer multiplies its weights with: one column for each value of its output.

    y[n, o, p] = sum_k W[o, k] * columns[k, (n, p)]

For a convolution a column is the patch of the input under one position of the kernel, in the order
of the channels-first weight [I/g, k...]; a transposed convolution is a convolution of its input
with zeros between the pixels, kernel flipped. Of every image only some positions are taken, drawn
by seed: neighbouring patches say much the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxsemi.arrays import Float32Array, Int64Array
from onnxsemi.gradient.tape import NoRule, Shape, attribute
from onnxsemi.gradient.window import Window, spatial
from onnxsemi.model.targets import Site

POSITIONS = 64  # of each image, at most
FEWEST = 32  # of layers with many weights a channel, where a position costs most
_BUDGET = 2**16  # weights of a channel times positions, between the two


@dataclass(frozen=True, eq=False)
class Patches:
    """How the columns of one node are taken from its input.

    Attributes:
        groups: Groups of the layer, G.
        size: Weights of one output channel, K.
        channel_axis: Channel axis of input and output, -1 for a matrix product.
        kernel: Cells of the kernel; empty for a matrix product.
        strides: Steps between patches.
        dilations: Steps between the cells of a patch.
        begins: Padding in front; below 0 cuts off.
        ends: Padding behind.
        spread: Distance that pixels are moved apart first.
        outputs: Size of the output along each axis that positions are drawn from.
        flipped: Whether the cells of a patch come in reverse order.
        factor: What the product is multiplied with (Gemm's alpha).
    """

    groups: int
    size: int
    channel_axis: int
    kernel: Shape = ()
    strides: Shape = ()
    dilations: Shape = ()
    begins: Shape = ()
    ends: Shape = ()
    spread: Shape = ()
    outputs: Shape = ()
    flipped: bool = False
    factor: float = 1.0

    def positions(self, seed: int, block: int) -> Int64Array:
        """Output positions to take of a block of images, ascending: int64[P]."""
        count = int(np.prod(self.outputs))
        most = min(POSITIONS, max(FEWEST, _BUDGET // self.size))
        if count <= most:
            return np.arange(count)
        drawn = np.random.default_rng([seed, block]).permutation(count)[:most]
        return np.sort(drawn).astype(np.int64)

    def columns(self, inputs: Float32Array, positions: Int64Array) -> Float32Array:
        """Columns float32[G, K, N * P] of inputs float32[N, ...]."""
        if not self.kernel:
            rows = inputs.reshape(len(inputs), -1, inputs.shape[self.channel_axis])[:, positions]
            flat = rows.reshape(-1, rows.shape[2])
            return np.ascontiguousarray(flat.T[None] * np.float32(self.factor))
        padded = self._padded(inputs)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]
        axes = tuple(range(2, inputs.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(reach), axis=axes)
        places = np.unravel_index(positions, self.outputs)
        starts: Any = tuple(p * s for p, s in zip(places, self.strides, strict=True))
        steps: Any = tuple(slice(None, None, -d if self.flipped else d) for d in self.dilations)
        patches = windows[(slice(None), slice(None), *starts, *steps)]  # [N, C, P, k...]
        split = patches.reshape(len(inputs), self.groups, -1, *patches.shape[2:])
        kernel_axes = tuple(range(4, split.ndim))
        turned = split.transpose(1, 2, *kernel_axes, 0, 3)  # [G, C/G, k..., N, P]
        return np.ascontiguousarray(turned).reshape(self.groups, self.size, -1)

    def outputs_at(self, outputs: Float32Array, positions: Int64Array) -> Float32Array:
        """Values of the layer's output, float32[N, ...], at the positions: float32[O, N * P]."""
        moved = np.moveaxis(outputs, self.channel_axis, 0)  # [O, N, ...]
        flat = moved.reshape(len(moved), len(outputs), -1)[:, :, positions]
        return np.ascontiguousarray(flat).reshape(len(moved), -1)

    def _padded(self, inputs: Float32Array) -> Float32Array:
        if set(self.spread) - {1}:
            sizes = [(n - 1) * s + 1 for n, s in zip(inputs.shape[2:], self.spread, strict=True)]
            apart = np.zeros((*inputs.shape[:2], *sizes), np.float32)
            apart[(slice(None), slice(None), *(slice(None, None, s) for s in self.spread))] = inputs
            inputs = apart
        pads = list(zip(self.begins, self.ends, strict=True))
        cuts = [
            slice(max(-begin, 0), size - max(-end, 0))
            for (begin, end), size in zip(pads, inputs.shape[2:], strict=True)
        ]
        grown = [(0, 0), (0, 0), *((max(begin, 0), max(end, 0)) for begin, end in pads)]
        return np.pad(inputs[(slice(None), slice(None), *cuts)], grown)


def patches_of(node: onnx.NodeProto, site: Site, shapes: Mapping[str, Shape]) -> Patches | None:
    """How to take the columns of one of a layer's nodes.

    Args:
        node: The node.
        site: Its layer.
        shapes: Shape of one row of each float tensor whose first axis is the batch.

    Returns:
        None if the node is used in a way that is not covered: its batch is not the first axis, or
        it is a Gemm with transA.
    """
    source, result = node.input[0], node.output[0]
    if source not in shapes or result not in shapes:
        return None
    weight = site.layer.weight
    size = int(weight[0].size)
    if node.op_type in ("Gemm", "MatMul"):
        factor = float(attribute(node, "alpha", 1.0))
        rows = Patches(1, size, -1, outputs=shapes[result][:-1], factor=factor)
        return None if attribute(node, "transA", 0) else rows
    groups, kernel = int(attribute(node, "group", 1)), weight.shape[2:]
    try:
        inputs, outputs = spatial(shapes[source]), spatial(shapes[result])
        if node.op_type == "ConvTranspose":
            return _transposed(node, (groups, size), kernel, inputs, outputs)
        window = Window.of(node, kernel, inputs, outputs)
    except NoRule:
        return None
    ends = tuple(e - min(left, 0) for e, left in zip(window.ends, window.leftover, strict=True))
    return Patches(
        groups,
        size,
        1,
        kernel=kernel,
        strides=window.strides,
        dilations=window.dilations,
        begins=window.begins,
        ends=ends,
        spread=(1,) * len(kernel),
        outputs=outputs,
    )


def _transposed(
    node: onnx.NodeProto, sizes: tuple[int, int], kernel: Shape, inputs: Shape, outputs: Shape
) -> Patches | None:
    """ONNX ConvTranspose, opset 11: pads cut off what a full spread of the kernel gives."""
    axes = len(kernel)
    if attribute(node, "output_shape", None) or attribute(node, "auto_pad", b"NOTSET") != b"NOTSET":
        return None
    strides = tuple(attribute(node, "strides", [1] * axes))
    dilations = tuple(attribute(node, "dilations", [1] * axes))
    pads = tuple(attribute(node, "pads", [0] * (2 * axes)))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    begins = tuple(r - p for r, p in zip(reach, pads[:axes], strict=True))
    spread = [(n - 1) * s + 1 for n, s in zip(inputs, strides, strict=True)]
    ends = tuple(o + r - b - n for o, r, b, n in zip(outputs, reach, begins, spread, strict=True))
    return Patches(
        *sizes,
        1,
        kernel=kernel,
        strides=(1,) * axes,
        dilations=dilations,
        begins=begins,
        ends=ends,
        spread=strides,
        outputs=outputs,
        flipped=True,
    )
