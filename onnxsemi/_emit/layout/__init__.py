"""How the semilayers of a layer are put together: one module a way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.channel_order import Orders
from onnxsemi._emit.storage import Storage
from onnxsemi._emit.tail import Integers, Tail
from onnxsemi._model.layout import WeightLayout
from onnxsemi._model.targets import Site
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS
from onnxsemi._quantizer.affine import QuantizedChannels
from onnxsemi._quantizer.rounded_plan import RoundedLayer


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels of one layer that have one bitwidth.

    Attributes:
        bits: 0 to 8, or 32.
        channels: int64[C], ascending.
        weight: float32[C, ...], what the codes stand for, or the float model's.
        quantized: Codes and scales; None for 32 bits.
    """

    bits: int
    channels: Int64Array
    weight: Float32Array
    quantized: QuantizedChannels | None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a layout puts a layer together from.

    Attributes:
        build: Adds to the graph.
        storage: Stores codes.
        tail: Makes float32 of codes.
        orders: Stores the orders of channels.
        signed: Whether codes are signed.
        divided: Layer -> bitwidth -> names of the nodes that it was divided into.
    """

    build: Builder
    storage: Storage
    tail: Tail
    orders: Orders
    signed: bool
    divided: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    def codes(self, label: str, group: ChannelGroup) -> gs.Tensor:
        """Codes [C, ...] of one quantized group."""
        if group.quantized is None:
            raise ValueError(f"{label}: float32 channels have no codes")
        if group.bits == 0:
            return self.build.zeros(group.weight.shape, np.int8 if self.signed else np.uint8)
        return self.storage.codes(f"{label}_{group.bits}", group.quantized)

    def weight(self, label: str, group: ChannelGroup) -> gs.Tensor:
        """float32[C, ...] of one group, computed from what is stored."""
        if group.bits == 0:
            return self.build.zeros(group.weight.shape, np.float32)
        own, quantized = f"{label}_{group.bits}", group.quantized
        if quantized is None:
            return self.build.stored(own, group.weight)
        bits = MAX_BITS if quantized.doubled else group.bits
        scale, zero = quantized.scale, None if self.signed else quantized.zero_point
        codes, rank = self.storage.codes(own, quantized), quantized.codes.ndim
        integers = Integers(codes, 0, rank, bits, scale, zero)
        return self.tail(self.build, self.storage, own, integers)

    def stored(self, label: str, group: ChannelGroup, layout: WeightLayout) -> gs.Tensor:
        """The same in the own layout of an operator that takes no other group.

        ONNX Runtime takes a DequantizeLinear before a MatMul, with or without a Transpose between
        them, for a MatMulNBits, which rounds the other factor to 8 bits: but not through a Reshape
        from three axes, which no Transpose moves past either (of 2-bit types it fails, 1.32), that
        of a Gemm neither.
        """
        turned = layout.is_matrix and not layout.is_identity
        if group.quantized is None or group.bits == 0 or not turned:
            plain = to_stored(self.build, self.weight(label, group), layout)
            return unmatched(self, plain, layout)
        codes = group.quantized.codes[..., None]
        values = self.weight(label, replace(group, quantized=replace(group.quantized, codes=codes)))
        shape = self.build.integers(*layout.channel_first)
        flat = self.build.node("Reshape", values, shape, dtype=np.float32)
        return unmatched(self, to_stored(self.build, flat, layout), layout)


_TAIL = ("DequantizeLinear", "Cast", "Sub", "Mul", "Reshape", "Transpose")

Arrange = Callable[[Parts, str, Site, Sequence[ChannelGroup], Sequence[gs.Node]], None]
"""Rewires the nodes that use a layer's weight; the text names the layer, short and unique."""


def groups_of(rounded: RoundedLayer) -> list[ChannelGroup]:
    """A layer's channels by bitwidth, widest first."""
    bits_of, groups = np.array(rounded.bits), []
    for value in sorted(set(rounded.bits), reverse=True):
        channels = np.flatnonzero(bits_of == value)
        quantized = None if value == FLOAT_BITS else rounded.quantized[value]
        groups.append(ChannelGroup(value, channels, rounded.weight[channels], quantized))
    return groups


def joined(build: Builder, tensors: Sequence[gs.Tensor], axis: int, dtype: type) -> gs.Tensor:
    """Tensors one after the other; a single one as it is."""
    return (
        tensors[0] if len(tensors) == 1 else build.node("Concat", *tensors, dtype=dtype, axis=axis)
    )


def in_order(
    parts: Parts, tensor: gs.Tensor, groups: Sequence[ChannelGroup], axis: int, dtype: type
) -> gs.Tensor:
    """Channels put from the order of the groups into their own; as it is if that is the same."""
    order = np.concatenate([group.channels for group in groups])
    if np.array_equal(order, np.arange(len(order))):
        return tensor
    places = parts.orders.tensor(np.argsort(order))
    return parts.build.node("Gather", tensor, places, dtype=dtype, axis=axis)


def unmatched(parts: Parts, weight: gs.Tensor, layout: WeightLayout) -> gs.Tensor:
    """A matrix that a tail makes of a stored tensor as it is goes through a Concat of one.

    So does one whose codes are unpacked by what is folded before runtimes look at it.

    OpenVINO takes such a matrix, or a convolution of 1x1, for its own compressed weights, and then
    rounds the other factor to 8 bits unless it is told not to (2026.4, on processors with VNNI).
    Weights of several bitwidths are put together by a Concat anyway.
    """
    codes = weight
    while codes.inputs and codes.inputs[0].op in _TAIL:
        codes = codes.inputs[0].inputs[0]
    stored = parts.storage.folds_early or isinstance(codes, gs.Constant)
    if not layout.is_pointwise or codes is weight or not stored:
        return weight
    return parts.build.node("Concat", weight, dtype=np.float32, axis=0)


def to_stored(
    build: Builder, weight: gs.Tensor, layout: WeightLayout, dtype: type = np.float32
) -> gs.Tensor:
    """Channels-first weight, or its codes -> the operator's own layout."""
    if layout.is_identity:
        return weight
    if layout.split != layout.channel_first:
        weight = build.node("Reshape", weight, build.integers(*layout.split), dtype=dtype)
    weight = build.node("Transpose", weight, dtype=dtype, perm=list(layout.order))
    if tuple(layout.split[axis] for axis in layout.order) != layout.stored:
        weight = build.node("Reshape", weight, build.integers(*layout.stored), dtype=dtype)
    return weight
