"""Ranking semilayers by sensitivity (paper, section 3.3).

    sensitivity = KL / (parameters of the semilayer * (1 - b / 32))

The divisor is what quantizing the semilayer saves, in float32 parameters, as in the authors'
published code; the text divides by the parameters alone, which gives the same order within one
bitwidth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from onnxsemi._arrays import Float64Array
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._plan.layers import Semilayer


class Order(StrEnum):
    """In which order semilayers are tried."""

    DESCENDING = "descending"
    """Most sensitive first: the paper's text and its Algorithm 1."""
    ASCENDING = "ascending"
    """Least sensitive first: the authors' published code."""


@dataclass(frozen=True)
class Ranked:
    """A semilayer with what it is ranked by.

    Attributes:
        semilayer: The semilayer.
        kl: Nats per sample, the semilayer quantized alone.
        sensitivity: Nats per float32 parameter saved.
    """

    semilayer: Semilayer
    kl: float
    sensitivity: float


def rank(
    semilayers: Sequence[Semilayer],
    kl: Float64Array,
    channel_params: Mapping[str, int],
    order: Order,
) -> list[Ranked]:
    """Semilayers sorted by sensitivity in the given order; ties by layer name, then sign.

    Args:
        semilayers: In any order.
        kl: float64[len(semilayers)], nats per sample.
        channel_params: Layer name -> weights in one channel.
        order: Descending or ascending sensitivity.
    """
    ranked = [
        Ranked(semilayer, float(value), float(value) / saved_parameters(semilayer, channel_params))
        for semilayer, value in zip(semilayers, kl, strict=True)
    ]
    direction = -1.0 if order is Order.DESCENDING else 1.0
    return sorted(
        ranked,
        key=lambda item: (
            direction * item.sensitivity,
            item.semilayer.layer,
            item.semilayer.sign,
            item.semilayer.channels,
        ),
    )


def saved_parameters(semilayer: Semilayer, channel_params: Mapping[str, int]) -> float:
    """Float32 parameters that quantizing the semilayer from float32 saves."""
    params = len(semilayer.channels) * channel_params[semilayer.layer]
    return params * (1 - semilayer.bits / FLOAT_BITS)
