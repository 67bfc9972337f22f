"""Quantized weights as they are measured, written and verified, whoever chose their codes.

A :class:`Rounding` says what each channel of a layer becomes at a bitwidth; measuring asks it. A
:class:`RoundedPlan` holds the codes of every channel at the plan's bitwidth, and the biases that go
with them; that is what is simulated, written and verified. Nothing of it depends on how codes
follow from weights: here to the nearest level of the grid (:class:`Nearest`).

    weight[c] = scale[c] * (units[c] - zero_point[c])      or the float32 channel as it is
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array, Float64Array, Int8Array, read_only
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS, is_coded, stores
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme
from onnxsemi._quantizer.coded import CodedLayer, nearest
from onnxsemi._quantizer.narrowing import narrowed


@dataclass(frozen=True, eq=False)
class RoundedLayer:
    """One layer at the bitwidths of its channels.

    Attributes:
        bits: Bitwidth that each channel is stored in: the plan's, or of coded widths what their
            codes fit in.
        quantized: Bitwidth -> the channels that have it, ascending; float32 channels are in none.
        weight: float32[O, ...]: what a runtime computes from the codes, and float32 channels.
        bias: float32[O], replaces the bias of the layer's node; None leaves it as it is.
    """

    bits: tuple[int, ...]
    quantized: Mapping[int, QuantizedChannels]
    weight: Float32Array
    bias: Float32Array | None = None

    def __post_init__(self) -> None:
        counts = {b: self.bits.count(b) for b in sorted(set(self.bits) - {FLOAT_BITS})}
        if counts != {b: len(found.codes) for b, found in self.quantized.items()}:
            raise ValueError(f"quantized are not the channels at each bitwidth: {counts}")
        if any(b != found.bits for b, found in self.quantized.items()):
            raise ValueError("channels of another bitwidth than is said")
        if len(self.weight) != len(self.bits):
            raise ValueError(f"{len(self.bits)} bitwidths for {len(self.weight)} channels")
        object.__setattr__(self, "quantized", MappingProxyType(dict(self.quantized)))
        object.__setattr__(self, "weight", read_only(self.weight))
        if self.bias is not None:
            if self.bias.shape != (len(self.bits),) or self.bias.dtype != np.float32:
                raise ValueError(f"bias of shape {self.bias.shape} and type {self.bias.dtype}")
            object.__setattr__(self, "bias", read_only(self.bias))

    @classmethod
    def of(
        cls,
        weight: Float32Array,
        bits: Sequence[int] | Int8Array,
        quantized: Mapping[int, QuantizedChannels],
        bias: Float32Array | None = None,
    ) -> "RoundedLayer":
        """Put the weight together.

        Args:
            weight: float32[O, ...], the float model's.
            bits: Width of each channel; not bitwidths and coded widths both.
            quantized: Width -> the channels that have it, ascending.
            bias: float32[O], or None.
        """
        bits_of, whole = np.asarray(bits), np.array(weight, np.float32)
        if bits_of.shape != (len(weight),):
            raise ValueError(f"{bits_of.size} bitwidths for {len(weight)} channels")
        if any(map(is_coded, quantized)):
            bits_of, quantized = narrowed(bits_of.astype(np.int8), quantized)
        for value, channels in quantized.items():
            whole[bits_of == value] = channels.dequantize()
        return cls(tuple(bits_of.tolist()), quantized, whole, bias)

    def arrays(self) -> Iterator[NDArray[np.generic]]:
        """All that is written of it, in whatever profile: bits, codes and grids, weight, bias."""
        yield np.array(self.bits, np.uint8)
        for _, channels in sorted(self.quantized.items()):
            yield from (channels.codes, channels.scale, channels.zero_point)
            yield np.array([channels.doubled], np.uint8)
        yield self.weight  # float32 channels stand only here
        if self.bias is not None:
            yield self.bias


@dataclass(frozen=True, eq=False)
class RoundedPlan:
    """A plan with the codes of every channel.

    Attributes:
        plan: Bits of every target channel.
        scheme: The scheme of the grids; symmetric ones are centred on zero.
        layers: Layer name -> its codes and weight, in the order of the plan.
    """

    plan: BitPlan
    scheme: Scheme
    layers: Mapping[str, RoundedLayer]

    def __post_init__(self) -> None:
        planned = self.plan.listed()
        if self.layers.keys() != planned.keys() or not all(
            _stores(layer.bits, planned[name]) for name, layer in self.layers.items()
        ):
            raise ValueError("the layers have other bitwidths than the plan")
        if self.scheme is Scheme.SYMMETRIC:
            for name, layer in self.layers.items():
                if any((q.zero_point != q.centre).any() for q in layer.quantized.values()):
                    raise ValueError(f"layer {name!r}: a symmetric grid is not centred on zero")
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))

    @property
    def coded(self) -> Mapping[str, CodedLayer]:
        """What the codes of entropy-coded layers are."""
        return {
            name: CodedLayer.of(self.layers[name].quantized.values())
            for name, bits in self.plan.bits.items()
            if any(map(is_coded, np.unique(bits).tolist()))
        }

    @property
    def stored_bits(self) -> int:
        """Bits of all codes and float32 weights as they are, each code in its bits."""
        sizes = self.plan.channel_params
        return sum(sum(layer.bits) * sizes[name] for name, layer in self.layers.items())

    @cached_property
    def sha256(self) -> str:
        """Digest of every bit of the weights, whatever profile they are written in."""
        digest = hashlib.sha256()
        for name, layer in sorted(self.layers.items()):
            digest.update(f"{name!r}\n".encode())
            for array in layer.arrays():
                digest.update(f"{array.dtype.kind}{array.shape}\n".encode())
                digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


def _stores(stored: Sequence[int], planned: Sequence[int]) -> bool:
    """Whether the channels of a layer are stored as a plan says."""
    return len(stored) == len(planned) and all(map(stores, stored, planned))


class Rounding(Protocol):
    """How the weights of a layer become codes."""

    @property
    def scheme(self) -> Scheme:
        """The scheme of the grids."""

    def at(self, layer: TargetLayer, bits: int) -> QuantizedChannels:
        """Every channel of a layer at one bitwidth."""

    def bias_shift(self, layer: TargetLayer, bits: int) -> Float32Array | None:
        """What is added to a channel's output, that is to its bias, when it is quantized.

        Returns:
            float32[O], for each channel quantized to ``bits``; None if biases are left alone.
        """


@dataclass(frozen=True)
class Nearest:
    """Minimum to maximum, to the nearest level: the paper's quantizer.

    Attributes:
        scheme: The scheme of the grids.
    """

    scheme: Scheme

    def at(self, layer: TargetLayer, bits: int) -> QuantizedChannels:
        """Every channel of a layer at one bitwidth."""
        return nearest(layer.weight, bits, self.scheme)

    def bias_shift(self, layer: TargetLayer, bits: int) -> Float32Array | None:
        """Biases are left alone."""
        del layer, bits
        return None


def rounded(layers: Iterable[TargetLayer], plan: BitPlan, rounding: Rounding) -> RoundedPlan:
    """Every channel rounded on its own to the plan's bitwidth; biases stay as they are.

    Args:
        layers: The layers of the plan.
        plan: Bits of every target channel.
        rounding: Gives the codes.
    """
    by_name = {layer.name: layer for layer in layers}
    found = {name: _rounded(by_name[name], bits, rounding) for name, bits in plan.bits.items()}
    return RoundedPlan(plan, rounding.scheme, found)


def mixed_weight(
    layer: TargetLayer, bits: Sequence[int] | Int8Array, rounding: Rounding
) -> Float32Array:
    """The weight of a layer with each channel at its bitwidth, 32 for float32.

    Returns:
        float32[O, ...], read-only.

    Raises:
        ValueError: If the number of bitwidths is not the number of channels.
    """
    return _rounded(layer, bits, rounding).weight


def rounding_errors(layer: TargetLayer, bits: Sequence[int], rounding: Rounding) -> Float64Array:
    """Squared change of the weights of every channel at every bitwidth: float64[O, B]."""
    changes = [rounding.at(layer, b).dequantize() - layer.weight for b in bits]
    squares = [(change.astype(np.float64) ** 2).reshape(layer.channels, -1) for change in changes]
    return np.stack([square.sum(axis=1) for square in squares], axis=1)


def _rounded(
    layer: TargetLayer, bits: Sequence[int] | Int8Array, rounding: Rounding
) -> RoundedLayer:
    bits_of = np.asarray(bits)
    if bits_of.shape != (layer.channels,):
        raise ValueError(f"{bits_of.size} bitwidths for {layer.channels} channels")
    return RoundedLayer.of(
        layer.weight,
        bits,
        {
            value: rounding.at(layer, value).take(np.flatnonzero(bits_of == value))
            for value in sorted(set(bits_of.tolist()) - {FLOAT_BITS})
        },
    )
