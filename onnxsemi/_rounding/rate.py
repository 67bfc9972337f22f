"""Grids of entropy-coded weights: what a code takes counts beside the error that it leaves.

Error-compensating rounding (:mod:`onnxsemi._rounding.gptq`) takes the code that costs least,

    ((place - code) / U[j, j])^2 + PRICE mean_j(1 / U[j, j]^2) bits(code)

with places and codes in steps. Of the codes those compete that may be cheapest: the nearest, the
one next to it towards zero, zero, and what was there. At high rate a bit less for each weight makes
the step twice as large and the error four times; in these units that is worth ``ln 2 / 6 = 0.12``
an extra bit, the price at which no channel would gain by another step. Of what is quantized to few
bits a smaller price is better, as the errors of neighbours are not independent any more.

The bits of a code are those of its frequency among the nearest levels of the layer at that width.

Source: the cost is that of rate-distortion optimized quantization in video coding, Sullivan &
Wiegand, "Rate-Distortion Optimization for Video Compression", IEEE Signal Processing Magazine
15(6), 1998; in GPTQ's order, CERWU (Conzelmann et al., 2025).
"""

from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._plan.bitwidth import is_coded
from onnxsemi._quantizer.coded import LEVELS, ZERO, code_lengths, coded_steps, nearest_coded
from onnxsemi._rounding.grid import Grid

PRICE = 0.07
"""Of 0, 0.06, 0.1, 0.15, 0.22 and 0.3, 0.06 and 0.1 have the least output error at 0.8 to 3.5 bits,
within 0.02 bits of each other; 0 takes 0.1 bits more at one bit. In KL of
whole plans 0 to 0.07 cannot be told apart above one bit, and 0.2 is worse (``benchmarks/rate.py``).
"""


@dataclass(frozen=True, eq=False)
class RateGrid(Grid):
    """Grids whose codes are chosen by what they take, too.

    Attributes:
        lengths: float32[T, 256], bits of each code.
        table: int64[R], whose lengths a row has.
        price: float32[R], what a bit costs in units of the importance.
    """

    lengths: Float32Array
    table: Int64Array
    price: Float32Array

    def rows(self, chosen: Int64Array | slice) -> "RateGrid":
        """Grids of some rows."""
        plain = super().rows(chosen)
        table, price = self.table[chosen], self.price[chosen]
        return RateGrid(plain.step, plain.zero, plain.top, self.lengths, table, price)

    def shaped(self, *shape: int) -> "RateGrid":
        """The same with rows in another shape."""
        plain = super().shaped(*shape)
        table, price = self.table.reshape(shape), self.price.reshape(shape)
        return RateGrid(plain.step, plain.zero, plain.top, self.lengths, table, price)

    def priced(self, spread: Float32Array) -> "RateGrid":
        """With the price of a bit for rows of groups whose errors spread as said: float32[G]."""
        price = np.float32(PRICE) * np.repeat(spread, len(self) // len(spread))
        return replace(self, price=price.astype(np.float32))

    def choose(
        self, places: Float32Array, importance: Float32Array, held: Float32Array | None = None
    ) -> Float32Array:
        """The codes of least cost for places on the grid."""
        near = np.minimum(np.maximum(np.rint(places), np.minimum(self.top, 1)), self.top)
        others = [near - np.sign(near - self.zero), np.broadcast_to(self.zero, near.shape)]
        best: Float32Array = near
        least = self._cost(near, places, importance)
        for code in others if held is None else [*others, held]:
            cost = self._cost(code, places, importance)
            best = np.where(cost < least, code, best)
            least = np.minimum(cost, least)
        return best

    def _cost(
        self, codes: Float32Array, places: Float32Array, importance: Float32Array
    ) -> Float32Array:
        bits = self.lengths.ravel()[self.table * (2 * ZERO) + codes.astype(np.int64)]
        return np.asarray(importance * np.square(places - codes) + self.price * bits, np.float32)


def rate_grid(rows: Float32Array, widths: Int64Array) -> RateGrid:
    """The grids of channels at coded widths, and of those at 0 bits; any grid for float32 ones.

    Args:
        rows: float32[O, K], the float model's weights of a layer.
        widths: int64[O].
    """
    coded = [width for width in np.unique(widths).tolist() if is_coded(width)]
    step, table = np.ones(len(rows), np.float32), np.zeros(len(rows), np.int64)
    for place, width in enumerate(coded):
        step[widths == width] = coded_steps(rows, width)[widths == width]
        table[widths == width] = place
    lengths = np.stack([code_lengths(nearest_coded(rows, width).codes) for width in coded])
    some = (widths > 0).astype(np.float32)  # at 0 bits the one level is zero, code 0
    zero, top = ZERO * some, LEVELS * some
    return RateGrid(step, zero, top, lengths, table, np.zeros_like(step))
