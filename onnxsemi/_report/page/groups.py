"""Semilayers at every bitwidth, one row each."""

from dataclasses import dataclass

from onnxsemi._plan.bitwidth import BITS_TAKEN, FLOAT_BITS
from onnxsemi._report.page.channels import bits_name
from onnxsemi._report.record import RunRecord

_SIGNS = {-1: "Δloss ≤ 0", 0: "whole layer", 1: "Δloss > 0"}


@dataclass(frozen=True)
class SemilayerRow:
    """A semilayer.

    Attributes:
        layer: Name of its layer.
        sign: -1, 1, or 0 for a whole layer.
        bits: Its bitwidth.
        channels: How many it has.
        delta_loss: Sum over its channels, nats a sample; may be NaN.
        kl: Nats a sample; may be NaN.
        sensitivity: KL for each float32 weight that it saves.
    """

    layer: str
    sign: int
    bits: int
    channels: int
    delta_loss: float
    kl: float
    sensitivity: float

    @property
    def sign_name(self) -> str:
        """Which channels of the layer it has."""
        return _SIGNS[self.sign]

    @property
    def tip(self) -> str:
        """All of it, in lines."""
        lines = (
            self.layer,
            f"{self.channels} channels, {self.sign_name}, at {bits_name(self.bits)}",
            f"KL {nats(self.kl)}",
            f"Δloss {nats(self.delta_loss)}",
        )
        return "\n".join(lines)


def nats(value: float) -> str:
    """A measurement as text.

    >>> nats(-0.000123)
    '−1.23e−04 nats'
    """
    return f"{value:.2e} nats".replace("-", "−")


def groups_of(kept: RunRecord) -> list[SemilayerRow]:
    """All semilayers, widest bitwidth first, in graph order."""
    evidence, names = kept.evidence, list(kept.document.plan.layers)
    parameters = kept.document.channel_parameters
    columns = (
        evidence.group_layer,
        evidence.group_sign,
        evidence.group_bits,
        evidence.group_channels,
        evidence.group_delta_loss,
        evidence.group_kl,
    )
    groups = []
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for place, sign, bits, channels, delta_loss, kl in rows:
        name = names[place]
        saved = channels * parameters[name] * (1 - BITS_TAKEN[bits] / FLOAT_BITS)
        groups.append(SemilayerRow(name, sign, bits, channels, delta_loss, kl, kl / saved))
    return groups
