"""The bit plan: the bitwidth of every channel of every target layer."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from onnxsemi.bitwidth import FLOAT_BITS, is_bitwidth
from onnxsemi.layers import Semilayer, TargetLayer


@dataclass(frozen=True)
class BitPlan:
    """Bits of every target channel: total and immutable; changes give a new plan.

    Attributes:
        bits: Layer name -> bitwidth of each channel (0 to 8, or 32 for float32), graph order.
        channel_params: Layer name -> weights in one of its channels.
    """

    bits: Mapping[str, tuple[int, ...]]
    channel_params: Mapping[str, int]

    def __post_init__(self) -> None:
        if list(self.bits) != list(self.channel_params):
            raise ValueError("bits and channel_params name different layers")
        for layer, bits in self.bits.items():
            for index, value in enumerate(bits):
                if not is_bitwidth(value):
                    raise ValueError(f"layer {layer!r}, channel {index}: {value} bits")
        object.__setattr__(self, "bits", MappingProxyType(dict(self.bits)))
        object.__setattr__(self, "channel_params", MappingProxyType(dict(self.channel_params)))

    @classmethod
    def uniform(cls, layers: Iterable[TargetLayer], bits: int = FLOAT_BITS) -> "BitPlan":
        """Every channel of every layer at the same bitwidth; float32 unless told otherwise."""
        layers = tuple(layers)
        return cls(
            {layer.name: (bits,) * layer.channels for layer in layers},
            {layer.name: layer.channel_params for layer in layers},
        )

    def with_bits(self, layer: str, channels: Iterable[int], bits: int) -> "BitPlan":
        """The same plan but for ``channels`` of ``layer``, which take ``bits``."""
        changed = list(self.bits[layer])
        for channel in channels:
            changed[channel] = bits
        return BitPlan({**self.bits, layer: tuple(changed)}, self.channel_params)

    def with_semilayer(self, semilayer: Semilayer) -> "BitPlan":
        """The same plan with the semilayer's channels at the semilayer's bitwidth."""
        return self.with_bits(semilayer.layer, semilayer.channels, semilayer.bits)

    def all_float(self) -> "BitPlan":
        """The same layers with every channel float32."""
        return BitPlan(
            {layer: (FLOAT_BITS,) * len(bits) for layer, bits in self.bits.items()},
            self.channel_params,
        )

    def float_channels(self, layer: str) -> tuple[int, ...]:
        """Channels of ``layer`` that are still float32, ascending."""
        return tuple(i for i, bits in enumerate(self.bits[layer]) if bits == FLOAT_BITS)

    @cached_property
    def parameters(self) -> int:
        """Number of target weights."""
        return sum(len(bits) * self.channel_params[name] for name, bits in self.bits.items())

    @cached_property
    def weight_bits(self) -> int:
        """Bits that all target weights take together."""
        return sum(sum(bits) * self.channel_params[name] for name, bits in self.bits.items())

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
        bits = ";".join(f"{name}={list(values)}" for name, values in self.bits.items())
        return hashlib.sha256(bits.encode()).hexdigest()
