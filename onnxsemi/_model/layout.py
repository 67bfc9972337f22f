"""How each operator stores its weight, against the one layout used here: output channels first.

A weight is kept as [O, ...]; the operator's own layout follows from a reshape, a transposition and
a reshape, which numpy applies here and the emitted graph applies with Reshape and Transpose:

    Conv            [O, I/g, k...]                                    as it is
    Gemm, transB=1  [O, I]                                            as it is
    Gemm, transB=0  [O, I] -> [I, O]
    MatMul          [O, I] -> [I, O]
    ConvTranspose   [O, I, k...] -> [I, O, k...]
    in g groups     [O, I/g, k...] -> [g, O/g, I/g, k...] -> [g, I/g, O/g, k...] -> [I, O/g, k...]
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from onnxsemi._arrays import Float32Array


@dataclass(frozen=True)
class WeightLayout:
    """Channels-first weight -> the operator's own layout.

    Attributes:
        channel_first: Shape of the channels-first weight, [O, ...].
        split: Shape that it is first reshaped to.
        order: Transposition of the split axes.
        stored: Shape of the operator's weight.
        output_axis: Channel axis of the node's output.
    """

    channel_first: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    stored: tuple[int, ...]
    output_axis: int = 1

    @property
    def is_identity(self) -> bool:
        """Whether the operator stores the weight channels-first itself."""
        return self.order == tuple(range(len(self.order)))

    @property
    def is_matrix(self) -> bool:
        """Whether it is of a MatMul or a Gemm."""
        return len(self.channel_first) == 2

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a matrix, or of a convolution that might be: of 1x1."""
        return all(size == 1 for size in self.channel_first[2:])

    @property
    def stored_axis(self) -> int | None:
        """Channel axis of the operator's weight; None if groups spread channels over two axes."""
        return self.order.index(0) if len(self.split) == len(self.stored) else None

    def of_channels(self, count: int) -> "WeightLayout":
        """The same for ``count`` of the channels; not for grouped operators."""
        first = (count, *self.channel_first[1:])
        turned = tuple(first[place] for place in self.order)
        return WeightLayout(first, first, self.order, turned, self.output_axis)

    def to_stored(self, weight: Float32Array) -> Float32Array:
        """float32[O, ...] -> the operator's layout."""
        moved = weight.reshape(self.split).transpose(self.order).reshape(self.stored)
        return np.ascontiguousarray(moved)

    def to_channel_first(self, stored: Float32Array) -> Float32Array:
        """The operator's layout -> float32[O, ...]."""
        turned = tuple(self.split[axis] for axis in self.order)
        back = stored.reshape(turned).transpose(np.argsort(self.order))
        return np.ascontiguousarray(back.reshape(self.channel_first))


def layout_of(node: onnx.NodeProto, shape: tuple[int, ...]) -> WeightLayout:
    """Layout of the weight of a Conv, ConvTranspose, Gemm or MatMul node.

    Args:
        node: The node.
        shape: Shape of its weight as stored.
    """
    if node.op_type == "Conv" or (node.op_type == "Gemm" and _integer(node, "transB", 0)):
        return WeightLayout(shape, shape, tuple(range(len(shape))), shape)
    if node.op_type == "ConvTranspose":
        return _transposed_convolution(shape, _integer(node, "group", 1))
    turned = (shape[1], shape[0])
    axis = -1 if node.op_type == "MatMul" else 1
    return WeightLayout(turned, turned, (1, 0), shape, output_axis=axis)


def _transposed_convolution(shape: tuple[int, ...], group: int) -> WeightLayout:
    inputs, outputs, kernel = shape[0] // group, shape[1], shape[2:]
    if group == 1:
        turned = (outputs, inputs, *kernel)
        return WeightLayout(turned, turned, (1, 0, *range(2, len(shape))), shape)
    rest = tuple(range(3, 3 + len(kernel)))
    return WeightLayout(
        channel_first=(group * outputs, inputs, *kernel),
        split=(group, outputs, inputs, *kernel),
        order=(0, 2, 1, *rest),
        stored=shape,
    )


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    for attribute in node.attribute:
        if attribute.name == name:
            return int(helper.get_attribute_value(attribute))
    return default
