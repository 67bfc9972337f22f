"""Grids of output channels while their codes are looked for.

    value = step * (code - zero),     code in 0 .. 2^b - 1,   zero in whole or half steps

A zero point in half steps lets a grid of few levels lie evenly around zero: {-3, -1, 1, 3} / 2
steps with 2 bits, {-1, 1} / 2 with 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._quantizer.affine import QuantizedChannels


@dataclass(frozen=True, eq=False)
class Grid:
    """One grid a row; rows may have different bitwidths.

    Attributes:
        step: float32[R], > 0.
        zero: float32[R], in steps, a multiple of 1/2.
        top: float32[R], largest code, 2^b - 1.
    """

    step: Float32Array
    zero: Float32Array
    top: Float32Array

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.step)

    def rows(self, chosen: Int64Array | slice) -> "Grid":
        """Grids of some rows."""
        return Grid(self.step[chosen], self.zero[chosen], self.top[chosen])

    def shaped(self, *shape: int) -> "Grid":
        """The same with rows in another shape."""
        return Grid(*(each.reshape(shape) for each in (self.step, self.zero, self.top)))

    def choose(
        self, places: Float32Array, importance: Float32Array, held: Float32Array | None = None
    ) -> Float32Array:
        """The codes that are taken for places on the grid, whatever shape: the nearest.

        Args:
            places: Where weights lie, in codes.
            importance: What the square of an error costs; decides nothing here.
            held: Codes that were there before; neither do they.
        """
        del importance, held
        return np.minimum(np.maximum(np.rint(places), 0), self.top)  # faster than np.clip

    def priced(self, spread: Float32Array) -> "Grid":
        """For rows of groups whose errors cost float32[G]; what a code takes is no concern here."""
        del spread
        return self

    @classmethod
    def of(cls, quantized: QuantizedChannels) -> "Grid":
        """The grids that codes are stored on."""
        factor = np.float32(2 if quantized.doubled else 1)
        zero = quantized.zero_point.astype(np.float32) / factor
        top = np.full(len(zero), 2**quantized.bits - 1, np.float32)
        return cls(quantized.scale * factor, zero, top)

    @classmethod
    def joined(cls, grids: Sequence["Grid"]) -> "Grid":
        """Rows of several grids, one after the other."""
        parts = zip(*((grid.step, grid.zero, grid.top) for grid in grids), strict=True)
        return cls(*map(np.concatenate, parts))


def written_codes(codes: Float32Array, grid: Grid, bits: int, *, halves: bool) -> QuantizedChannels:
    """Codes float32[R, ...] as they are written, all rows of one bitwidth."""
    factor = np.float32(2 if halves else 1)
    return QuantizedChannels(
        codes=codes.astype(np.uint8),
        scale=(grid.step / factor).astype(np.float32),
        zero_point=np.rint(factor * grid.zero).astype(np.uint8),
        bits=bits,
        doubled=halves,
    )


def nearest(weight: Float32Array, grid: Grid) -> Float32Array:
    """Codes of the nearest levels, half to even: float32[R, K]."""
    codes = np.rint(weight / grid.step[:, None] + grid.zero[:, None])
    return np.asarray(np.clip(codes, 0, grid.top[:, None]), np.float32)


def values(codes: Float32Array, grid: Grid) -> Float32Array:
    """float32[R, K] values of codes."""
    return np.asarray((codes - grid.zero[:, None]) * grid.step[:, None], np.float32)
