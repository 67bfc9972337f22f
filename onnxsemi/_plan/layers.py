"""What a target layer, its channels and its semilayers are (paper, section 3)."""

from dataclasses import dataclass
from enum import StrEnum

from onnxsemi._arrays import Float32Array, read_only
from onnxsemi._plan.bitwidth import is_bitwidth, shown


@dataclass(frozen=True, eq=False)
class TargetLayer:
    """A layer whose weights are quantized.

    Attributes:
        name: Name of the ONNX node, unique in the model.
        weight: float32[O, ...], output channels first whatever the operator stores:
            [O, I/group, kH, kW] for a convolution, [O, I] for Gemm and MatMul. Read-only.
    """

    name: str
    weight: Float32Array

    def __post_init__(self) -> None:
        if self.weight.ndim < 2 or self.weight.size == 0:
            raise ValueError(f"layer {self.name!r}: weight of shape {self.weight.shape}")
        object.__setattr__(self, "weight", read_only(self.weight))

    @property
    def channels(self) -> int:
        """Number of output channels O."""
        return int(self.weight.shape[0])

    @property
    def channel_params(self) -> int:
        """Weights in one output channel."""
        return int(self.weight.size) // self.channels


class Sign(StrEnum):
    """Which channels of a layer form a semilayer."""

    NEGATIVE = "negative"
    """Δloss <= 0: quantizing the channel does not raise the loss."""
    POSITIVE = "positive"
    """Δloss > 0: quantizing the channel raises the loss."""
    BOTH = "both"
    """Every channel, whatever the sign: the layer-wise ablation."""


@dataclass(frozen=True)
class Semilayer:
    """Channels of one layer that are quantized together to ``bits`` bits.

    Attributes:
        layer: Name of the target layer.
        sign: Sign of Δloss that the channels share at ``bits``.
        channels: Channel indices, ascending, at least one.
        bits: Bitwidth of the split, 0 to 8.
    """

    layer: str
    sign: Sign
    channels: tuple[int, ...]
    bits: int

    def __post_init__(self) -> None:
        if not self.channels or list(self.channels) != sorted(set(self.channels)):
            raise ValueError(f"semilayer of {self.layer!r}: channels {self.channels!r}")
        if not is_bitwidth(self.bits):
            raise ValueError(f"semilayer of {self.layer!r}: {self.bits} bits")

    def __str__(self) -> str:
        return f"{self.layer} ({self.sign}, {len(self.channels)} channels, {shown(self.bits)} bits)"
