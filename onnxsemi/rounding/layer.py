"""Rounding one layer: grids from its weights, codes for its inputs.

Rows (output channels, for every candidate grid) are worked on in blocks of a fixed size, side by
side; each block on one thread, so that the codes do not depend on how many there are.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from onnxsemi.arrays import Float32Array, Float64Array, Int64Array
from onnxsemi.quantizer.affine import QuantizedChannels, Scheme, quantize
from onnxsemi.rounding.gptq import Factor, compensated, output_error, refined
from onnxsemi.rounding.grid import Grid, nearest, stored
from onnxsemi.rounding.moments import Moments
from onnxsemi.rounding.ranges import (
    Ranges,
    candidates,
    minmax_grid,
    on_halves,
    pick,
    squared_error,
    stored_exactly,
)
from onnxsemi.rounding.settings import RoundingMethod, RoundingSettings

ROWS = 256  # rows of a block
MANY_ROWS = 2048  # of candidates: less work between the products of matrices


class LayerRounder:
    """Rounds the weights of one layer for given inputs."""

    def __init__(
        self,
        moments: Moments,
        settings: RoundingSettings,
        scheme: Scheme,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Prepare the second moments of the inputs.

        Args:
            moments: Of the layer's inputs, G groups.
            settings: How to round.
            scheme: Of the grids.
            pool: Works on blocks side by side.
        """
        self._settings, self._scheme, self._pool = settings, scheme, pool
        self._second = moments.second
        compensates = settings.method is RoundingMethod.GPTQ
        self._factors: list[Factor] = []
        if compensates:
            self._factors = list(pool.map(Factor.of, moments.second, moments.damping))

    def at(self, weight: Float32Array, bits: int) -> QuantizedChannels:
        """All channels of a weight, float32[O, ...], at one bitwidth, on grids that are chosen."""
        if bits == 0:
            return quantize(weight, bits, self._scheme)
        rows, settings = weight.reshape(len(weight), -1), self._settings
        clipped = settings.ranges is not Ranges.MINMAX
        halves = on_halves(bits, halves=settings.half_steps and clipped)
        grid = self._grid(rows, bits)
        codes = self._in_blocks(rows, grid, self._rounded)
        codes, grid = stored_exactly(rows, codes, grid, self._scheme, halves=halves)
        return stored(codes.reshape(weight.shape), grid, bits, halves=halves)

    def aimed(self, weight: Float32Array, cross: Float64Array) -> Float32Array:
        """The weight, float32[O, ...], moved to where the layer's outputs come close to others.

        Args:
            weight: The float model's.
            cross: float64[O, K], covariance of what the outputs are short of with the inputs.
        """
        if not self._factors:
            return weight
        parts = zip(self._factors, np.split(cross, len(self._factors)), strict=True)
        gain = np.concatenate(list(self._pool.map(lambda part: part[0].solved(part[1]), parts)))
        return np.asarray(weight + gain.reshape(weight.shape), np.float32)

    def codes(self, weight: Float32Array, grid: Grid) -> Float32Array:
        """Codes float32[O, ...] of a weight on given grids, refined as the settings say."""
        rows = np.asarray(weight.reshape(len(weight), -1), np.float32)
        return self._in_blocks(rows, grid, self._finely).reshape(weight.shape)

    def _grid(self, rows: Float32Array, bits: int) -> Grid:
        settings = self._settings
        if settings.ranges is Ranges.MINMAX:
            return minmax_grid(rows, bits, self._scheme)
        grids = candidates(rows, bits, self._scheme, halves=settings.half_steps)
        work = partial(self._error, settings.ranges)
        errors = self._in_blocks(rows, Grid.joined(grids), work, MANY_ROWS)
        return pick(grids, errors.astype(np.float64).reshape(len(grids), len(rows)))

    def _error(
        self, ranges: Ranges, rows: Float32Array, group: int, grid: Grid
    ) -> Float32Array | Float64Array:
        """float[R]: what rounding to a grid costs."""
        if ranges is Ranges.MSE:
            return squared_error(rows, nearest(rows, grid), grid)
        if self._factors:
            return compensated(rows, self._factors[group], grid)[1]
        return output_error(rows, nearest(rows, grid), self._second[group], grid)

    def _rounded(self, rows: Float32Array, group: int, grid: Grid) -> Float32Array:
        if not self._factors:
            return nearest(rows, grid)
        return compensated(rows, self._factors[group], grid)[0]

    def _finely(self, rows: Float32Array, group: int, grid: Grid) -> Float32Array:
        codes = self._rounded(rows, group, grid)
        if not self._factors:
            return codes
        return refined(rows, codes, self._factors[group].second, grid, self._settings.sweeps)

    def _in_blocks(
        self,
        rows: Float32Array,
        grid: Grid,
        work: Callable[[Float32Array, int, Grid], Float32Array | Float64Array],
        size: int = ROWS,
    ) -> Float32Array:
        """Work on blocks of rows of one group each, and put the results in order.

        Args:
            rows: float32[O, K].
            grid: For every row one or several grids: the grids of all rows, one after the other.
            work: (rows, group, grids) -> float[rows, ...].
            size: Rows of a block at the most.
        """
        each = len(rows) // len(self._second)
        groups = np.arange(len(grid)) % len(rows) // each
        members = [np.flatnonzero(groups == group) for group in range(len(self._second))]
        blocks = [
            (group, chosen[first : first + size])
            for group, chosen in enumerate(members)
            for first in range(0, len(chosen), size)
        ]

        def run(block: tuple[int, Int64Array]) -> Float32Array | Float64Array:
            group, chosen = block
            return work(rows[chosen % len(rows)], group, grid.rows(chosen))

        found = np.concatenate(list(self._pool.map(run, blocks)))
        result = np.empty(found.shape, np.float32)
        result[np.concatenate(members)] = found
        return result
