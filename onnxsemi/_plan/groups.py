"""What groups of channels take in a file: all of a layer that are stored in as many bits are one.

A group has nodes and names of its own, and its channels a scale and a zero point each. At 0 bits a
channel saves these, too: to a channel of n weights that is worth ``SCALE_BITS / n`` bits a weight.
"""

from itertools import pairwise

import numpy as np

from onnxsemi._arrays import Int8Array
from onnxsemi._plan.bitwidth import BITS_TAKEN

GROUP_BYTES = 120
"""What a group of channels takes in a file beyond codes and scales (measured: ``inspect``, qdq)."""

SCALE_BITS = 40
"""A channel's scale and zero point, which are not stored at 0 bits."""


def taken(bits: int, weights: int) -> float:
    """Bits that a weight takes in a file, less its share of the scale that 0 bits do not need."""
    return float(BITS_TAKEN[bits]) or -SCALE_BITS / weights


def merged(bits: Int8Array, weights: int) -> Int8Array:
    """Bitwidths of a layer without groups that cost more to keep apart than wider codes would.

    While there is a group that takes fewer bits at the layer's next wider bitwidth than its
    ``GROUP_BYTES``, the cheapest goes there: the file shrinks, and no channel gets fewer bits.

    Args:
        bits: int8[O], of each channel.
        weights: Weights of a channel.

    Returns:
        int8[O].
    """
    counts = np.bincount(bits).tolist()
    found = bits.copy()
    while len(ladder := [b for b, count in enumerate(counts) if count]) > 1:
        added = [
            counts[b] * weights * (taken(wider, weights) - taken(b, weights))
            for b, wider in pairwise(ladder)
        ]
        least = min(added)
        if least > 8 * GROUP_BYTES:
            break
        narrow, wider = ladder[added.index(least) :][:2]
        found[found == narrow] = wider
        counts[wider], counts[narrow] = counts[wider] + counts[narrow], 0
    return found
