"""Splitting layers into semilayers by the sign of Δloss (paper, section 3.2).

At one bitwidth a layer's channels fall into the *negative* semilayer (Δloss <= 0: quantizing the
channel does not raise the loss; a Δloss of exactly 0 belongs here) and the *positive* one
(Δloss > 0). An empty semilayer is left out.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._search.protocols import DeltaLossTable


class Split(StrEnum):
    """How a layer's channels are grouped."""

    SIGN = "sign"
    """Two semilayers by the sign of Δloss: the paper's method."""
    NONE = "none"
    """One group a layer: the paper's layer-wise ablation; needs no Δloss."""


def by_sign(
    channels: Mapping[str, Iterable[int]], table: DeltaLossTable, bits: int
) -> list[Semilayer]:
    """The semilayers of some channels at one bitwidth, in layer order, negative before positive.

    Args:
        channels: Layer name -> channels to split; every one of them ends in exactly one semilayer.
        table: Δloss of every channel.
        bits: The bitwidth of the split, one of the table's.
    """
    return [
        semilayer
        for layer, members in channels.items()
        for semilayer in table.by_sign(layer, members, bits)
    ]


def whole_layers(channels: Mapping[str, Iterable[int]], bits: int) -> list[Semilayer]:
    """One group a layer, for the layer-wise ablation."""
    groups = ((layer, tuple(sorted(members))) for layer, members in channels.items())
    return [Semilayer(layer, Sign.BOTH, members, bits) for layer, members in groups if members]
