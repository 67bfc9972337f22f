"""Rounding one layer: grids from its weights, codes for its inputs.

Rows (output channels, for every candidate grid) are worked on in blocks of a fixed size, side by
side; each block on one thread, so that the codes do not depend on how many there are. A block has
rows of one group, or all rows of several groups.
"""

from collections.abc import Callable, Iterator
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
        self._factor = (
            Factor.joined(list(pool.map(Factor.of, self._second))) if compensates else None
        )

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
        if self._factor is None:
            return weight
        return np.asarray(weight + self._factor.solved(cross).reshape(weight.shape), np.float32)

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
        self, ranges: Ranges, rows: Float32Array, groups: slice, grid: Grid
    ) -> Float32Array | Float64Array:
        """float[R]: what rounding to a grid costs."""
        if ranges is Ranges.MSE:
            return squared_error(rows, nearest(rows, grid), grid)
        if self._factor is not None:
            return compensated(rows, self._factor.groups(groups), grid)[1]
        return output_error(rows, nearest(rows, grid), self._second[groups], grid)

    def _rounded(self, rows: Float32Array, groups: slice, grid: Grid) -> Float32Array:
        if self._factor is None:
            return nearest(rows, grid)
        return compensated(rows, self._factor.groups(groups), grid)[0]

    def _finely(self, rows: Float32Array, groups: slice, grid: Grid) -> Float32Array:
        codes = self._rounded(rows, groups, grid)
        if self._factor is None:
            return codes
        return refined(rows, codes, self._second[groups], grid, self._settings.sweeps)

    def _in_blocks(
        self,
        rows: Float32Array,
        grid: Grid,
        work: Callable[[Float32Array, slice, Grid], Float32Array | Float64Array],
        size: int = ROWS,
    ) -> Float32Array:
        """Work on blocks of rows, and put the results in order.

        Args:
            rows: float32[O, K].
            grid: For every row one or several grids: the grids of all rows, one after the other.
            work: (rows, their groups, grids) -> float[rows, ...]; the rows of a group are together.
            size: Rows of a block at the most.
        """
        # [candidates, G, O/G] -> [G, candidates * O/G]
        places = np.arange(len(grid)).reshape(-1, len(self._second), len(rows) // len(self._second))
        members = places.transpose(1, 0, 2).reshape(len(self._second), -1)
        blocks = list(_blocks(members, size))

        def run(block: tuple[slice, Int64Array]) -> Float32Array | Float64Array:
            groups, chosen = block
            return work(rows[chosen % len(rows)], groups, grid.rows(chosen))

        found = np.concatenate(list(self._pool.map(run, blocks)))
        result = np.empty(found.shape, np.float32)
        result[members.ravel()] = found
        return result


def _blocks(members: Int64Array, size: int) -> Iterator[tuple[slice, Int64Array]]:
    """Rows int64[G, M] of groups in blocks: parts of large groups, or several small ones whole."""
    groups, each = members.shape
    together = max(1, size // each)
    for first in range(0, groups, together):
        chosen = slice(first, min(first + together, groups))
        rows = members[chosen].ravel()
        for start in range(0, len(rows), max(size, 1) if together == 1 else len(rows)):
            yield chosen, rows[start : start + size]
