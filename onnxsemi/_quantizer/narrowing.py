"""Bitwidths that entropy-coded channels are stored in: one for each group of like frequencies.

Channels of one width have nearly the same frequencies of codes, and so one code will do for them.
In a file all channels of a layer with one bitwidth are a group, so each width is given its own, in
which its codes fit; an entropy coder does not mind if that is wider than they need. Channels whose
codes are all zero are a group of 0 bits.

A group has its price (:data:`onnxsemi._plan.groups.GROUP_BYTES`). While there are two widths next
to each other whose codes take less than that more in one group than in two, by the entropy of

    H(one and other) - H(one) - H(other)        plus the scales, if one has none so far

they are stored together, those that take least first.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array, Int8Array, Int64Array
from onnxsemi._plan.bitwidth import EVERY_CODED, MAX_BITS
from onnxsemi._plan.groups import GROUP_BYTES
from onnxsemi._quantizer.affine import QuantizedChannels

_SCALE_BITS = 32  # of a channel on a grid that is centred on zero
_Steps = NDArray[np.int16]


def narrowed(
    widths: Int8Array, quantized: Mapping[int, QuantizedChannels]
) -> tuple[Int8Array, dict[int, QuantizedChannels]]:
    """Codes of entropy-coded channels as they are stored, on the same levels.

    Args:
        widths: int8[O], width of each channel of a layer: coded, 0 or 32.
        quantized: Width -> the channels that have it, ascending.

    Returns:
        Bitwidth of each channel, int8[O]; bitwidth -> the channels that have it, ascending.

    Raises:
        ValueError: If there are bitwidths beside coded widths.
    """
    if any(0 < width <= MAX_BITS for width in quantized):
        raise ValueError(f"bitwidths and coded widths in one layer: {sorted(quantized)}")
    shape = next(iter(quantized.values())).codes.shape[1:]
    steps = np.zeros((len(widths), *shape), np.int16)
    scale = np.ones(len(widths), np.float32)
    for width, channels in quantized.items():
        rows = np.flatnonzero(widths == width)
        steps[rows] = channels.codes.astype(np.int16) - channels.centre
        scale[rows] = channels.scale
    stored, found = widths.copy(), {}
    for bits, rows in _bitwidths(_groups(widths, steps), steps).items():
        stored[rows] = bits
        found[bits] = _centred(steps[rows], scale[rows], bits)
    return stored, found


def _groups(widths: Int8Array, steps: _Steps) -> list[Int64Array]:
    """Rows that are stored together, from narrow to wide; first those of zeros, if there are."""
    coded = np.isin(widths, EVERY_CODED)
    zeros = ~steps.reshape(len(steps), -1).any(axis=1)
    none = np.flatnonzero((widths == 0) | (coded & zeros))
    others = [np.flatnonzero((widths == w) & ~zeros) for w in np.unique(widths[coded & ~zeros])]
    fixed = [none] if (widths == 0).any() else []
    groups = others if fixed or not len(none) else [none, *others]
    while len(groups) > 1:
        added = [_added(steps[one], steps[other]) for one, other in pairwise(groups)]
        place = int(np.argmin(added))
        if added[place] > 8 * GROUP_BYTES:
            break
        groups[place : place + 2] = [np.sort(np.concatenate(groups[place : place + 2]))]
    return [*fixed, *groups]


def _added(one: _Steps, other: _Steps) -> float:
    """Bits that two groups take more as one."""
    scales = sum(_SCALE_BITS * len(each) for each in (one, other) if not each.any())
    joined = _bits(np.concatenate([one.ravel(), other.ravel()]))
    return scales + joined - _bits(one.ravel()) - _bits(other.ravel())


def _bits(steps: _Steps) -> float:
    """By the entropy of all steps."""
    counts = np.bincount(steps.astype(np.int64) + 2**MAX_BITS)
    counts = counts[counts > 0]
    return float(counts @ np.log2(counts.sum() / counts))


def _bitwidths(groups: list[Int64Array], steps: _Steps) -> dict[int, Int64Array]:
    """Bitwidth -> the rows of a group; another for each as long as there are such."""
    needs = [_fewest_bits(steps[rows]) for rows in groups]
    found: dict[int, Int64Array] = {}
    last = -1
    for need, rows in sorted(zip(needs, groups, strict=True), key=lambda pair: pair[0]):
        bits = need if need == 0 else min(max(need, last + 1), MAX_BITS)
        found[bits] = np.sort(np.concatenate([found.get(bits, rows[:0]), rows]))
        last = bits
    return found


def _fewest_bits(steps: _Steps) -> int:
    """Bits for the largest step from zero, either way."""
    largest = int(np.abs(steps).max())
    return 1 + largest.bit_length() if largest else 0


def _centred(steps: _Steps, scale: Float32Array, bits: int) -> QuantizedChannels:
    """Steps from zero, int16[C, ...], as codes of so many bits."""
    centre = 2 ** (bits - 1) if bits else 0
    scale = scale if bits else np.ones_like(scale)
    zero = np.full(len(scale), centre, np.uint8)
    return QuantizedChannels((steps + centre).astype(np.uint8), scale, zero, bits)
