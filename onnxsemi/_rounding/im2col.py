"""What a weighted layer multiplies its weights with: one column for each value of its output.

    y[n, o, p] = sum_k W[o, k] * columns[k, (n, p)]

For a convolution a column is the patch of the input under one position of the kernel, in the order
of the channels-first weight [I/g, k...]; a transposed convolution is a convolution of its input
with zeros between the pixels, kernel flipped. Of every image only some positions are taken, drawn
by seed: neighbouring patches say much the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxsemi._arrays import BoolArray, Float32Array, Int64Array, read_only
from onnxsemi._gradient.tape import NoRule, Shape, attribute
from onnxsemi._gradient.window import Window, spatial
from onnxsemi._model.targets import Site
from onnxsemi._runtime.batch_sizes import COLUMN_BYTES

POSITIONS = 64  # of each image, at most
FEWEST = 16  # at least: beyond, as many as a channel has weights, whose moments few columns tell
_OF_MANY = 32  # of layers with many weights a channel, where a position costs most
_BUDGET = 2**16  # weights of a channel times positions, where that is more
_REMEMBERED = 4096  # indices of a few kB that are kept for the next plan, a layer and block each


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
        begins: Padding in front; below 0 cuts off. Behind, there is as much as patches reach to.
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
    spread: Shape = ()
    outputs: Shape = ()
    flipped: bool = False
    factor: float = 1.0

    def positions(self, seed: int, block: int) -> Int64Array:
        """Output positions to take of a block of images, ascending: int64[P]."""
        most = min(POSITIONS, max(_OF_MANY, _BUDGET // self.size), max(FEWEST, self.size))
        return _drawn(int(np.prod(self.outputs)), most, seed, block)

    def columns(
        self, inputs: Float32Array, positions: Int64Array, groups: slice = slice(None)
    ) -> Float32Array:
        """Columns float32[G, K, N * P] of inputs float32[N, ...], of all groups or some."""
        if not self.kernel:
            rows = inputs.reshape(len(inputs), -1, inputs.shape[self.channel_axis])[:, positions]
            flat = rows.reshape(-1, rows.shape[2])
            return np.ascontiguousarray(flat.T[None] * np.float32(self.factor))
        split = inputs.reshape(len(inputs), self.groups, -1, *inputs.shape[2:])[:, groups]
        channels = split.shape[1] * split.shape[2]
        pixels = split.reshape(len(inputs), channels, -1)
        index = _index(self, positions.tobytes(), inputs.shape[2:])
        return index.taken(pixels).reshape(split.shape[1], self.size, -1)

    def parts(self, images: int, positions: int) -> list[slice]:
        """Groups whose columns are taken at once: what is larger is slow to be given memory."""
        together = max(1, COLUMN_BYTES // (4 * self.size * images * positions))
        starts = range(0, self.groups, together)
        return [slice(start, min(start + together, self.groups)) for start in starts]

    def products(self, weight: Float32Array, columns: Float32Array) -> Float32Array:
        """What the weights [O, ...] of some groups make of their columns: float32[O, S]."""
        rows = weight.reshape(len(columns), -1, self.size)  # [G, O/G, K]
        return (rows @ columns).reshape(len(weight), -1)

    def outputs_at(self, outputs: Float32Array, positions: Int64Array) -> Float32Array:
        """Values of the layer's output, float32[N, ...], at the positions: float32[O, N * P]."""
        moved = np.moveaxis(outputs, self.channel_axis, 0)  # [O, N, ...]
        flat = moved.reshape(len(moved), len(outputs), -1)[:, :, positions]
        return np.ascontiguousarray(flat).reshape(len(moved), -1)

    def index(self, positions: Int64Array, sizes: Shape) -> "PatchIndex":
        """Where the cells of the patches at some positions lie in an input of some size."""
        places = np.unravel_index(positions, self.outputs)
        cells = np.indices(self.kernel).reshape(len(self.kernel), -1, 1)
        flat: Int64Array = np.zeros(1, np.int64)
        inside: BoolArray = np.ones(1, bool)
        for axis, (place, cell, size) in enumerate(zip(places, cells, sizes, strict=True)):
            step = self.kernel[axis] - 1 - cell if self.flipped else cell
            at = place * self.strides[axis] + step * self.dilations[axis] - self.begins[axis]
            pixel, between = np.divmod(at, self.spread[axis])
            inside = inside & (between == 0) & (pixel >= 0) & (pixel < size)
            flat = flat * size + np.clip(pixel, 0, size - 1)
        return PatchIndex.of(flat, inside, int(np.prod(sizes)))


@dataclass(frozen=True, eq=False)
class PatchIndex:
    """Where the cells of the patches at some positions lie in a channel of an image.

    Attributes:
        used: int64[U], flat index of the pixels that are used, ascending; None if it is not worth
            the while to pick them first.
        cells: int32[k, P], which of these pixels each cell is; one behind the last for zero.
    """

    used: Int64Array | None
    cells: NDArray[np.int32]

    @classmethod
    def of(cls, flat: Int64Array, inside: BoolArray, pixels: int) -> "PatchIndex":
        """From the flat index of every cell, int64[k, P], and whether it lies on a pixel."""
        used = np.unique(flat[inside])
        if 2 * len(used) > pixels:
            return cls(None, np.where(inside, flat, pixels).astype(np.int32))
        cells = np.where(inside, np.searchsorted(used, flat), len(used))
        return cls(used, cells.astype(np.int32))

    def taken(self, pixels: Float32Array) -> Float32Array:
        """The cells, float32[C, k * N * P], of images float32[N, C, all pixels]."""
        if self.used is not None:
            pixels = np.take(pixels, self.used, axis=2)
        images, channels, count = pixels.shape
        padded = np.empty((channels, images, count + 1), np.float32)
        padded[..., :count] = pixels.swapaxes(0, 1)
        padded[..., count] = 0
        starts = np.arange(images)[:, None] * (count + 1)
        places = (self.cells[:, None] + starts).ravel()  # [k, N, P]
        cells: Float32Array = np.take(padded.reshape(channels, -1), places, axis=1, mode="clip")
        return cells


@lru_cache(maxsize=_REMEMBERED)
def _drawn(count: int, most: int, seed: int, block: int) -> Int64Array:
    if count <= most:
        return read_only(np.arange(count))
    drawn = np.random.default_rng([seed, block]).permutation(count)[:most]
    return read_only(np.sort(drawn).astype(np.int64))


@lru_cache(maxsize=_REMEMBERED)
def _index(patches: Patches, positions: bytes, sizes: Shape) -> PatchIndex:
    return patches.index(np.frombuffer(positions, np.int64), sizes)


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
            return _transposed(node, (groups, size), kernel, outputs)
        window = Window.of(node, kernel, inputs, outputs)
    except NoRule:
        return None
    return Patches(
        groups,
        size,
        1,
        kernel=kernel,
        strides=window.strides,
        dilations=window.dilations,
        begins=window.begins,
        spread=(1,) * len(kernel),
        outputs=outputs,
    )


def _transposed(
    node: onnx.NodeProto, sizes: tuple[int, int], kernel: Shape, outputs: Shape
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
    return Patches(
        *sizes,
        1,
        kernel=kernel,
        strides=(1,) * axes,
        dilations=dilations,
        begins=begins,
        spread=strides,
        outputs=outputs,
        flipped=True,
    )
