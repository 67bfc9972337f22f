"""Per-channel affine quantization of weights to b bits, and back.

    w  ~  s * (code - zero_point),      code in 0 .. 2^b - 1,  s > 0 float32

On a *doubled* grid (up to 7 bits, so that 2 * code fits a byte) s is half a step and the zero point
counts half steps, up to 2 * (2^b - 1):

    w  ~  s * (2 * code - zero_point)

An odd zero point lies between two levels, an even one on a level, as on an ordinary grid. Stored
are b bits a code all the same.

From 2 bits on, what is computed here is an ordinary grid with zero on it (code == zero_point), so
that a zero weight stays zero.

*asymmetric* (the paper's "qint", section 3.1), from the channel's minimum and maximum, both
stretched to include zero:

    s = (max - min) / (2^b - 1)         zero_point = -round(min / s)
    code = clip(round(w / s) + zero_point, 0, 2^b - 1)

The authors' published code does not clip, so that a channel whose ``min/s`` and ``max/s`` both
round outwards takes 2^b + 1 levels, which b bits cannot store. Here what is measured is what is
stored: exactly 2^b levels.

*symmetric* (what integer kernels need: after subtracting the constant ``zero_point = 2^(b-1)`` the
code is a signed b-bit integer with zero point 0), all 2^b levels in use:

    s = max(max / (2^(b-1) - 1), -min / 2^(b-1))

``round`` is half to even, as in ONNX QuantizeLinear (opset 13), and the division is done in
float32 as the operator does it, so that codes agree with every runtime's.

*one bit*, in either scheme: two levels leave no room for zero. The grid is doubled, with zero
halfway between them, and a weight keeps its sign:

    s = max(|min|, |max|)               zero_point = 1               code = 1 if w >= 0 else 0

*zero bits*, in either scheme: the one level is zero, code 0 on a grid of scale 1. Nothing of it is
stored.

A channel of one value ``v`` survives exactly in either scheme: its scale is ``|v|`` and its code is
one unit of it from the zero point. A channel of zeros has scale 1 and all codes at the zero point;
only at one bit in the symmetric scheme, which leaves no choice of the zero point, it becomes the
smallest normal float32 instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array, Float64Array, Int64Array, UInt8Array, read_only
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS, MIN_BITS


class Scheme(StrEnum):
    """How a channel's range becomes a grid."""

    ASYMMETRIC = "asymmetric"
    """Minimum to maximum: the paper's quantizer."""
    SYMMETRIC = "symmetric"
    """Centred on zero: what integer kernels need."""


@dataclass(frozen=True, eq=False)
class QuantizedChannels:
    """Channels of one layer, quantized to the same bitwidth.

    Attributes:
        codes: uint8[C, ...], each 0 to 2^bits - 1, shape of the weights.
        scale: float32[C], > 0: a step of the grid, half a step of a doubled one.
        zero_point: uint8[C], each 0 to 2^bits - 1; to 2 * (2^bits - 1) on a doubled grid.
        bits: 0 to 8.
        doubled: Whether zero points count half steps; up to 7 bits.
    """

    codes: UInt8Array
    scale: Float32Array
    zero_point: UInt8Array
    bits: int
    doubled: bool = False

    def __post_init__(self) -> None:
        most = MAX_BITS - 1 if self.doubled else MAX_BITS
        if not MIN_BITS <= self.bits <= most:
            kind = " on a doubled grid" if self.doubled else ""
            raise ValueError(f"{self.bits} bits{kind} is outside {MIN_BITS} to {most}")
        for name, dtype in (("codes", np.uint8), ("scale", np.float32), ("zero_point", np.uint8)):
            values = getattr(self, name)
            if values.dtype != dtype:
                raise ValueError(f"{name} of type {values.dtype}, not {np.dtype(dtype)}")
            object.__setattr__(self, name, read_only(values))
        if not self.codes.shape[:1] == self.scale.shape == self.zero_point.shape:
            raise ValueError(
                f"codes {self.codes.shape}, scale {self.scale.shape}, zero point "
                f"{self.zero_point.shape}: not one of each for every channel"
            )
        last = 2**self.bits - 1
        if (largest := int(self.codes.max(initial=0))) > last:
            raise ValueError(f"code {largest} has more than {self.bits} bits")
        if (largest := int(self.zero_point.max(initial=0))) > last * self.units_of_a_step:
            raise ValueError(f"zero point {largest} is beyond the last level of {self.bits} bits")
        if not ((self.scale > 0) & np.isfinite(self.scale)).all():
            raise ValueError("a scale is not positive and finite")

    @property
    def units_of_a_step(self) -> int:
        """Scales from one level to the next: 2 on a doubled grid, 1 otherwise."""
        return 2 if self.doubled else 1

    @property
    def units(self) -> UInt8Array:
        """uint8[C, ...]: codes in the units of the zero point, doubled if the grid is."""
        return self.codes * np.uint8(self.units_of_a_step)

    @property
    def centre(self) -> int:
        """The zero point that puts zero in the middle of the levels, as signed codes have it."""
        return int(2**self.bits - 1 if self.doubled else 2 ** (self.bits - 1))

    def take(self, channels: Int64Array) -> "QuantizedChannels":
        """Some of the channels.

        Args:
            channels: int64[M], their indices, in the order of the result.
        """
        codes, scale, zero = self.codes[channels], self.scale[channels], self.zero_point[channels]
        return QuantizedChannels(codes, scale, zero, self.bits, self.doubled)

    def dequantize(self) -> Float32Array:
        """float32[C, ...]: ``scale * (units - zero_point)``: ONNX DequantizeLinear (opset 13)."""
        steps = self.units.astype(np.int32) - _per_channel(self.zero_point, self.codes.ndim)
        values: Float32Array = steps.astype(np.float32) * _per_channel(self.scale, steps.ndim)
        return values


def quantize(
    weight: Float32Array, bits: int, scheme: Scheme = Scheme.ASYMMETRIC
) -> QuantizedChannels:
    """Quantize every channel to ``bits`` bits.

    Args:
        weight: float32[C, ...], channels on axis 0, finite.
        bits: 0 to 8.
        scheme: How the grid follows from the channel's range.

    Returns:
        Codes, scales and zero points; the error of a weight is at most half a step, but for 0 bits.

    Raises:
        ValueError: If ``bits`` is outside 0 to 8, or a weight is not finite.

    Source: Matsumoto et al., ACML 2023, section 3.1; ONNX QuantizeLinear, opset 13.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"{bits} bits is outside {MIN_BITS} to {MAX_BITS}")
    if not np.isfinite(weight).all():
        raise ValueError("a weight is not finite")
    flat = weight.reshape(len(weight), -1)  # [C, ...] -> [C, P]
    if bits == 0:
        none, zeros = np.zeros(weight.shape, np.uint8), np.zeros(len(weight), np.uint8)
        return QuantizedChannels(none, np.ones(len(weight), np.float32), zeros, bits)
    if bits == 1:
        return _signs(weight, flat, Scheme(scheme))
    low = np.minimum(flat.min(axis=1), 0).astype(np.float64)
    high = np.maximum(flat.max(axis=1), 0).astype(np.float64)
    grid = _asymmetric_grid if Scheme(scheme) is Scheme.ASYMMETRIC else _symmetric_grid
    scale, zero = grid(low, high, bits)
    constant = flat.min(axis=1) == flat.max(axis=1)
    scale = np.where(constant, _distance_from_zero(flat[:, 0]), scale)
    codes = np.rint(flat / scale[:, None]).astype(np.int64) + zero[:, None]
    codes = np.clip(codes, 0, 2**bits - 1).astype(np.uint8).reshape(weight.shape)
    return QuantizedChannels(codes, scale, zero.astype(np.uint8), bits)


def fake_quantize(
    weight: Float32Array, channel_bits: Sequence[int], scheme: Scheme = Scheme.ASYMMETRIC
) -> Float32Array:
    """The float32 weights that a runtime computes from the stored codes.

    Args:
        weight: float32[C, ...], the float model's weights.
        channel_bits: Bitwidth of each channel, 0 to 8; 32 keeps the channel's float32 bits.
        scheme: How the grid follows from the channel's range.

    Returns:
        float32[C, ...], a new array.

    Raises:
        ValueError: If the number of bitwidths is not the number of channels.
    """
    bits_of = np.asarray(channel_bits)
    if bits_of.shape != (len(weight),):
        raise ValueError(f"{bits_of.size} bitwidths for {len(weight)} channels")
    result = np.array(weight, dtype=np.float32)
    for bits in sorted(set(bits_of.tolist()) - {FLOAT_BITS}):
        chosen = bits_of == bits
        result[chosen] = quantize(weight[chosen], bits, scheme).dequantize()
    return result


def _asymmetric_grid(
    low: Float64Array, high: Float64Array, bits: int
) -> tuple[Float32Array, Int64Array]:
    scale = storable((high - low) / (2**bits - 1))
    zero = -np.rint(low.astype(np.float32) / scale).astype(np.int64)
    return scale, np.clip(zero, 0, 2**bits - 1)


def _symmetric_grid(
    low: Float64Array, high: Float64Array, bits: int
) -> tuple[Float32Array, Int64Array]:
    half = 2 ** (bits - 1)
    scale = storable(np.maximum(high / (half - 1), -low / half))
    return scale, np.full(scale.shape, half, np.int64)


def _signs(weight: Float32Array, flat: Float32Array, scheme: Scheme) -> QuantizedChannels:
    """One bit: the signs of the weights, on a doubled grid with zero between its two levels."""
    largest = np.abs(flat).max(axis=1)
    constant = (flat.min(axis=1) == flat.max(axis=1)) & (largest > 0)
    scale = np.where(constant, largest, storable(largest.astype(np.float64)))
    zero = np.ones(len(flat), np.uint8)
    codes = (flat >= 0).astype(np.uint8)
    if scheme is Scheme.ASYMMETRIC:
        nothing = largest == 0
        scale[nothing], zero[nothing], codes[nothing] = 1, 0, 0
    return QuantizedChannels(codes.reshape(weight.shape), scale, zero, 1, doubled=True)


def storable(scale: Float64Array) -> Float32Array:
    """Scales as float32, never zero or subnormal: some runtimes flush subnormals to zero."""
    return np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)


def _distance_from_zero(value: Float32Array) -> Float32Array:
    """|value|: the scale on which a constant channel lies exactly, one step from zero; 1 for 0."""
    return np.where(value == 0, np.float32(1), np.abs(value))


def _per_channel(values: NDArray[Any], ndim: int) -> NDArray[Any]:
    """[C] -> [C, 1, ...] with ``ndim`` axes; integers widened, so that differences can be < 0."""
    shaped = values.reshape(-1, *[1] * (ndim - 1))
    return shaped.astype(np.int32) if shaped.dtype == np.uint8 else shaped
