"""The bit plan: the bitwidth of every channel of every target layer.

The channels of all layers stand in one array, layer after layer in graph order: plans are compared,
counted and changed as a whole, and ``bits`` are views of it. Bitwidths are checked where they come
from outside, once; plans that follow from plans are not checked again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from onnxsemi._arrays import Int8Array, Int64Array, read_only
from onnxsemi._plan.bitwidth import BITS_TAKEN, BITWIDTHS, FLOAT_BITS, is_bitwidth
from onnxsemi._plan.layers import Semilayer, TargetLayer


@dataclass(frozen=True)
class ChannelLayout:
    """Where the channels of each layer stand: what all plans of a model share.

    Attributes:
        places: Layer name -> its channels, in graph order.
        channel_params: Layer name -> weights in one of its channels.
        weights: int64[C], the same for every channel.
    """

    places: Mapping[str, slice]
    channel_params: Mapping[str, int]
    weights: Int64Array = field(compare=False, repr=False)

    @classmethod
    def of(cls, channels: Mapping[str, int], channel_params: Mapping[str, int]) -> "ChannelLayout":
        """Layers with so many channels each, of so many weights."""
        ends = np.cumsum(list(channels.values()), dtype=np.int64).tolist()
        places = zip(channels, ends, channels.values(), strict=True)
        weights = np.repeat(list(channel_params.values()), list(channels.values()))
        return cls(
            {name: slice(end - count, end) for name, end, count in places},
            MappingProxyType(dict(channel_params)),
            read_only(weights.astype(np.int64)),
        )


@dataclass(frozen=True, init=False, eq=False, repr=False)
class BitPlan:
    """Bits of every target channel: total and immutable; changes give a new plan.

    Attributes:
        layout: Where the channels of each layer stand.
        channel_bits: int8[C], width of every channel: 0 to 8 bits, a coded width, or 32 for
            float32. Read-only.
    """

    layout: ChannelLayout
    channel_bits: Int8Array

    def __init__(
        self, bits: Mapping[str, Sequence[int] | Int8Array], channel_params: Mapping[str, int]
    ) -> None:
        """Take bitwidths from outside.

        Args:
            bits: Layer name -> bitwidth of each channel, in graph order.
            channel_params: Layer name -> weights in one of its channels, of the same layers.

        Raises:
            ValueError: If these are other layers, or something is no bitwidth.
        """
        if list(bits) != list(channel_params):
            raise ValueError("bits and channel_params name different layers")
        checked = {layer: _checked(layer, values) for layer, values in bits.items()}
        counts = {layer: len(values) for layer, values in checked.items()}
        whole = np.concatenate([np.zeros(0, np.int8), *checked.values()])
        object.__setattr__(self, "layout", ChannelLayout.of(counts, channel_params))
        object.__setattr__(self, "channel_bits", read_only(whole))

    @classmethod
    def _holding(cls, layout: ChannelLayout, channel_bits: Int8Array) -> "BitPlan":
        """A plan whose bits need no check."""
        plan = object.__new__(cls)
        object.__setattr__(plan, "layout", layout)
        object.__setattr__(plan, "channel_bits", read_only(channel_bits))
        return plan

    @classmethod
    def uniform(cls, layers: Iterable[TargetLayer], bits: int = FLOAT_BITS) -> "BitPlan":
        """Every channel of every layer at the same bitwidth; float32 unless told otherwise."""
        layers = tuple(layers)
        layout = ChannelLayout.of(
            {layer.name: layer.channels for layer in layers},
            {layer.name: layer.channel_params for layer in layers},
        )
        plan = cls._holding(layout, np.full(len(layout.weights), FLOAT_BITS, np.int8))
        return plan.with_layers(layout.places, bits)

    @cached_property
    def bits(self) -> Mapping[str, Int8Array]:
        """Layer name -> int8[O], bitwidth of each channel, in graph order."""
        parts = {layer: self.channel_bits[place] for layer, place in self.layout.places.items()}
        return MappingProxyType(parts)

    @property
    def channel_params(self) -> Mapping[str, int]:
        """Layer name -> weights in one of its channels."""
        return self.layout.channel_params

    def listed(self) -> dict[str, tuple[int, ...]]:
        """Layer name -> bitwidths as plain numbers, as files have them."""
        return {layer: tuple(values.tolist()) for layer, values in self.bits.items()}

    def with_channel_bits(self, channel_bits: Int8Array) -> "BitPlan":
        """The same layers with bitwidths that come from other plans of them: int8[C]."""
        return self._holding(self.layout, channel_bits)

    def with_bits(
        self, layer: str, channels: Iterable[int] | Int64Array | slice, bits: int
    ) -> "BitPlan":
        """The same plan but for ``channels`` of ``layer``, which take ``bits``.

        Raises:
            ValueError: If that is no bitwidth.
        """
        _check_bitwidth(layer, bits)
        place = channels if isinstance(channels, slice) else np.fromiter(channels, np.int64)
        changed = self.channel_bits.copy()
        changed[self.layout.places[layer]][place] = bits
        return self.with_channel_bits(changed)

    def with_layers(self, layers: Iterable[str], bits: int) -> "BitPlan":
        """The same plan but for all channels of some layers, which take ``bits``.

        Raises:
            ValueError: If that is no bitwidth.
        """
        changed = self.channel_bits.copy()
        for layer in layers:
            _check_bitwidth(layer, bits)
            changed[self.layout.places[layer]] = bits
        return self.with_channel_bits(changed)

    def with_semilayer(self, semilayer: Semilayer) -> "BitPlan":
        """The same plan with the semilayer's channels at the semilayer's bitwidth."""
        return self.with_bits(semilayer.layer, semilayer.channels, semilayer.bits)

    def all_float(self) -> "BitPlan":
        """The same layers with every channel float32."""
        return self.with_channel_bits(np.full_like(self.channel_bits, FLOAT_BITS))

    def float_channels(self, layer: str) -> tuple[int, ...]:
        """Channels of ``layer`` that are still float32, ascending."""
        return tuple(np.flatnonzero(self.bits[layer] == FLOAT_BITS).tolist())

    @property
    def widths(self) -> frozenset[int]:
        """The bitwidths that it has."""
        return frozenset(np.unique(self.channel_bits).tolist())

    @cached_property
    def parameters(self) -> int:
        """Number of target weights."""
        return int(self.layout.weights.sum())

    @cached_property
    def weight_bits(self) -> int:
        """Bits that all target weights take together; about so many of coded widths."""
        return round(float(self.layout.weights @ BITS_TAKEN[self.channel_bits]))

    @property
    def saved_parameters(self) -> float:
        """Float32 weights that would take as many bits as the plan saves."""
        return self.parameters - self.weight_bits / FLOAT_BITS

    @property
    def compression(self) -> float:
        """The paper's compression ratio: share of the target weights' bits that is saved.

        1 - sum(params * bits / 32) / sum(params), over target channels only: stem, shortcuts,
        classifier, biases and scales are outside it.
        """
        return 1.0 - self.weight_bits / (FLOAT_BITS * self.parameters)

    @property
    def mean_bits(self) -> float:
        """Bits per target weight."""
        return self.weight_bits / self.parameters

    @cached_property
    def sha256(self) -> str:
        """Tells plans of a model apart; it stands in a plan file and in what is written from it."""
        bits = ";".join(f"{name}={values.tolist()}" for name, values in self.bits.items())
        return hashlib.sha256(bits.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        """Whether the same layers have the same bitwidths."""
        if not isinstance(other, BitPlan):
            return NotImplemented
        return self.layout == other.layout and np.array_equal(self.channel_bits, other.channel_bits)

    def __hash__(self) -> int:
        return hash(self.channel_bits.tobytes())

    def __repr__(self) -> str:
        return f"BitPlan({self.listed()}, {dict(self.channel_params)})"


def _check_bitwidth(layer: str, bits: int) -> None:
    if not is_bitwidth(bits):
        raise ValueError(f"layer {layer!r}: {bits} bits")


def _checked(layer: str, bits: Sequence[int] | Int8Array) -> Int8Array:
    """Bitwidths of a layer as an array; whatever is none is refused with its channel."""
    found = np.asarray(bits)
    wrong = np.flatnonzero(~np.isin(found, BITWIDTHS))
    if len(wrong):
        raise ValueError(f"layer {layer!r}, channel {wrong[0]}: {found[wrong[0]]} bits")
    return found.astype(np.int8)
