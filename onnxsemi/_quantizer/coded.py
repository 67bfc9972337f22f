"""Grids for entropy-coded weights: zero and as many levels on either side of it.

    w  ~  s * (code - 128),      code in 1 .. 255

An entropy coder takes fewer bits for what is frequent, so the range is no concern, and neither is
the number of levels: the step alone says what a weight takes. In units of the root mean square of
the channel's weights it is the same for all channels of a coded width, and so are, nearly, the
frequencies of their codes and the bits that they take:

    s = STEPS[width] * rms(w)            but at least max |w| / 127

Where theory holds, above two bits, these are the best scalar quantizers that there are (Gish and
Pierce: a uniform grid is 0.25 bits from the bound of any code); below, zero is chosen more often
than it is the nearest (:mod:`onnxsemi._rounding.rate`).

Source: H. Gish, J. Pierce, "Asymptotically Efficient Quantizing", IEEE Transactions on Information
Theory 14(5), 1968.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array, Int64Array, UInt8Array
from onnxsemi._plan.bitwidth import EVERY_CODED, MAX_BITS, is_coded
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme, quantize

ZERO = 2 ** (MAX_BITS - 1)
LEVELS = 2 * ZERO - 1
_HIGH = (0.032, 0.064, 0.127, 0.253, 0.36, 0.51, 0.73, 1.06, 1.28, 1.6, 2.03, 2.56)
_STEPS = (*_HIGH, 3.2, 4.3, 6.5, 9.0, 13.0, 20.0)
STEPS = dict(zip(EVERY_CODED, _STEPS, strict=True))
"""Coded width -> step over the root mean square of a channel's weights (``benchmarks/rate.py``)."""
_UNSEEN = 0.05
"""What a code that was not seen counts as: times of one that was seen once."""


def coded_steps(weight: Float32Array, width: int) -> Float32Array:
    """Step of each channel of float32[C, ...] at a coded width: float32[C]; 1 of no weights."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    mean_square = np.square(flat).mean(axis=1)
    steps = np.maximum(STEPS[width] * np.sqrt(mean_square), np.abs(flat).max(axis=1) / (ZERO - 1))
    tiny = float(np.finfo(np.float32).tiny)
    return np.where(mean_square > 0, np.maximum(steps, tiny), 1.0).astype(np.float32)


def nearest_coded(weight: Float32Array, width: int) -> QuantizedChannels:
    """Every channel of float32[C, ...] at a coded width, weights at their nearest level."""
    steps = coded_steps(weight, width)
    places = weight / steps.reshape(-1, *[1] * (weight.ndim - 1))
    codes = np.clip(np.rint(places), 1 - ZERO, ZERO - 1) + ZERO
    return on_coded_grid(codes.astype(np.uint8), steps)


def on_coded_grid(codes: UInt8Array, steps: Float32Array) -> QuantizedChannels:
    """Codes uint8[C, ...], 1 to 255, with the step of each channel."""
    return QuantizedChannels(codes, steps, np.full(len(steps), ZERO, np.uint8), MAX_BITS)


def code_lengths(codes: UInt8Array) -> Float32Array:
    """Bits of each code by how often it comes: float32[256]."""
    counts = np.bincount(codes.ravel(), minlength=2 * ZERO) + _UNSEEN
    return np.asarray(-np.log2(counts / counts.sum()), np.float32)


def code_bits(codes: UInt8Array) -> Float64Array:
    """Bits that a weight of each channel of uint8[C, ...] takes, by how often codes come in all.

    Returns:
        float64[C].
    """
    counts = np.bincount(codes.ravel(), minlength=2 * ZERO)
    lengths = np.log2(codes.size / np.maximum(counts, 1))
    return np.asarray(lengths[codes].reshape(len(codes), -1).mean(axis=1), np.float64)


@dataclass(frozen=True)
class CodedLayer:
    """What the codes of an entropy-coded layer are.

    Attributes:
        levels: From the lowest that is used to the highest, zero in the middle: odd.
        bits: Of a weight, by the frequencies of the codes; channels of zeros take none.
    """

    levels: int
    bits: float

    @classmethod
    def of(cls, groups: Iterable[QuantizedChannels]) -> "CodedLayer":
        """From all quantized channels of a layer, whatever their codes are stored in."""
        counts, zeros = np.zeros(2 * ZERO, np.int64), 0
        for channels in groups:
            steps = channels.codes.astype(np.int64) - channels.centre
            if channels.bits == 0:
                zeros += steps.size
            else:
                counts += np.bincount(steps.ravel() + ZERO, minlength=2 * ZERO)
        return cls.counted(counts, zeros)

    @classmethod
    def counted(cls, counts: Int64Array, zeros: int) -> "CodedLayer":
        """From how often each step from zero comes, int64[256], and weights of channels of none."""
        total, seen = int(counts.sum()) + zeros, counts[counts > 0]
        bits = float(seen @ np.log2(seen.sum() / seen)) / total if len(seen) else 0.0
        used = np.flatnonzero(counts) - ZERO
        return cls(2 * int(np.abs(used).max(initial=0)) + 1, bits)


def nearest(weight: Float32Array, width: int, scheme: Scheme) -> QuantizedChannels:
    """Every channel at any width but 32, weights at their nearest level."""
    return nearest_coded(weight, width) if is_coded(width) else quantize(weight, width, scheme)
