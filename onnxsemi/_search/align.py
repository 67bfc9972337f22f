"""Bitwidths rounded up, so that the channels of each bitwidth fill the blocks that kernels work in.

Kernels compute channels in blocks (16 of float32 in one AVX-512 register); a node of 17 channels
takes as long as one of 32. Channels only ever get more bits than the plan gave them.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.rounded_plan import Rounding


def aligned(
    plan: BitPlan, layers: Iterable[TargetLayer], rounding: Rounding, multiple: int
) -> BitPlan:
    """The plan with a multiple of so many channels at each bitwidth of a layer, but for the widest.

    From the narrowest bitwidth on, what is over a multiple is raised to the next one that the layer
    has: those channels that lose most to rounding.

    Args:
        plan: Bits of every target channel.
        layers: The target layers.
        rounding: Gives the codes of quantized channels.
        multiple: Channels of a block; 1 changes nothing.
    """
    channel_bits = plan.channel_bits.copy()
    for layer in layers:
        bits_of = channel_bits[plan.layout.places[layer.name]]  # int8[O], a view
        for bits, wider in pairwise(np.unique(bits_of).tolist()):
            channels = np.flatnonzero(bits_of == bits)
            over = len(channels) % multiple
            if over:
                worst = np.argsort(-_squared_error(layer, channels, bits, rounding), kind="stable")
                bits_of[channels[worst[:over]]] = wider
    return plan.with_channel_bits(channel_bits)


def _squared_error(
    layer: TargetLayer, channels: Int64Array, bits: int, rounding: Rounding
) -> Float64Array:
    """float64[C]: sum of squared changes of the weights of each channel."""
    if bits == FLOAT_BITS:
        return np.zeros(len(channels))
    quantized = rounding.at(layer, bits).take(channels).dequantize()
    change = quantized.astype(np.float64) - layer.weight[channels]
    return np.asarray((change**2).reshape(len(channels), -1).sum(axis=1))
