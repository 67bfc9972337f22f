"""Rounding one layer: grids from its weights, codes for its inputs.

Rows (output channels, for every candidate grid) are worked on in blocks of a fixed size, side by
side; each block on one thread, so that the codes do not depend on how many there are. A block has
rows of one panel, or all rows of several panels: the groups of a layer, or parts of a group whose
columns are cut (:mod:`onnxsemi._rounding.panels`).
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._plan.bitwidth import is_coded
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme, quantize, storable
from onnxsemi._quantizer.coded import on_coded_grid
from onnxsemi._quantizer.settings import Ranges, RoundingMethod, RoundingSettings
from onnxsemi._rounding.gptq import Factor, by_group, compensated, output_error, refined
from onnxsemi._rounding.grid import Grid, nearest, written_codes
from onnxsemi._rounding.ranges import (
    candidates,
    likely,
    minmax_grid,
    on_halves,
    pick,
    squared_error,
    stored_exactly,
)
from onnxsemi._rounding.rate import RateGrid, rate_grid
from onnxsemi._rounding.second_moments import SecondMoments
from onnxsemi._runtime.batch_sizes import CANDIDATE_ROWS, ROUNDED_ROWS

_RowsWork = Callable[[Float32Array, slice, Grid], Float32Array | Float64Array]
"""(rows, their panels, grids) -> float[rows, ...]; the rows of a panel are together."""
_Map = Callable[..., Iterable[Any]]


class LayerRounder:
    """Rounds the weights of one layer for given inputs."""

    def __init__(
        self,
        moments: SecondMoments,
        settings: RoundingSettings,
        scheme: Scheme,
        pool: ThreadPoolExecutor,
    ) -> None:
        """Prepare the second moments of the inputs.

        Args:
            moments: Of the layer's inputs, P panels.
            settings: How to round.
            scheme: Of the grids.
            pool: Works on blocks side by side; called by none of its threads.
        """
        self._settings, self._scheme = settings, scheme
        self._each: _Map = pool.map
        self._moments = moments
        self._factor: Factor | None = None
        compensates = settings.method is not RoundingMethod.NEAREST
        if compensates and len(moments.second) == 1:
            self._factor = Factor.of(moments.second[0], pool.map)
        elif compensates:
            self._factor = Factor.joined(list(pool.map(Factor.of, moments.second)))

    def alone(self) -> "LayerRounder":
        """The same without a pool, for other processes."""
        found = copy(self)
        found._each = map
        return found

    def at(self, weight: Float32Array, bits: int) -> QuantizedChannels:
        """All channels of a weight, float32[O, ...], at one bitwidth, on grids that are chosen."""
        if bits == 0:
            return quantize(weight, bits, self._scheme)
        if is_coded(bits):
            return self._coded(weight, bits)
        rows, settings = weight.reshape(len(weight), -1), self._settings
        clipped = settings.ranges is not Ranges.MINMAX
        halves = on_halves(bits, halves=settings.half_steps and clipped)
        grid = self._grid(rows, bits)
        codes = self._codes(rows, grid, self._rounded)
        codes, grid = stored_exactly(rows, codes, grid, self._scheme, halves=halves)
        return written_codes(codes.reshape(weight.shape), grid, bits, halves=halves)

    def aimed(self, weight: Float32Array, cross: Float64Array) -> Float32Array:
        """The weight, float32[O, ...], moved to where the layer's outputs come close to others.

        Args:
            weight: The float model's.
            cross: float64[P * O/G, k], covariance of what the outputs are short of with the inputs.
        """
        if self._factor is None:
            return weight
        panels = self._moments.panels(weight[0].size)
        rows = panels.rows(weight.reshape(len(weight), -1))
        moved = np.asarray(rows + self._factor.solved(cross, self._each), np.float32)
        return panels.joined(moved).reshape(weight.shape)

    def codes(self, weight: Float32Array, grid: Grid) -> tuple[Float32Array, Grid]:
        """Codes float32[O, ...] of a weight on given grids, refined as the settings say.

        The steps of entropy-coded channels are fitted to their codes afterwards.
        """
        codes = self.unfitted(weight, grid)
        return codes, self.fitted(weight, codes, grid)

    def unfitted(self, weight: Float32Array, grid: Grid) -> Float32Array:
        """The codes alone. Rows of one panel may come in parts of ``ROUNDED_ROWS``."""
        rows = np.asarray(weight.reshape(len(weight), -1), np.float32)
        return self._codes(rows, grid, self._finely).reshape(weight.shape)

    def fitted(self, weight: Float32Array, codes: Float32Array, grid: Grid) -> Grid:
        """Grids whose steps are fitted to codes float32[O, ...], if these are to be coded."""
        if not isinstance(grid, RateGrid):
            return grid
        rows = np.asarray(weight.reshape(len(weight), -1), np.float32)
        return self._fitted(rows, codes.reshape(rows.shape), grid)

    def _coded(self, weight: Float32Array, width: int) -> QuantizedChannels:
        """All channels of a weight at a coded width."""
        rows = weight.reshape(len(weight), -1)
        grid = rate_grid(rows, np.full(len(rows), width))
        codes = self._codes(rows, grid, self._rounded)
        steps = self._fitted(rows, codes, grid).step
        return on_coded_grid(codes.reshape(weight.shape).astype(np.uint8), steps)

    def _fitted(self, rows: Float32Array, codes: Float32Array, grid: RateGrid) -> RateGrid:
        """The steps s that change the output least with the codes q: s = (q C w) / (q C q)."""
        panels, second = self._moments.panels(rows.shape[1]), self._moments.second
        steps = panels.rows(codes - grid.zero[:, None])
        weight = panels.rows(rows)
        seen = by_group(steps, second).astype(np.float64)
        both, own = (panels.summed((seen * other).sum(axis=1)) for other in (weight, steps))
        fits = (both > 0) & (own > 0)
        step = np.where(fits, both / np.where(fits, own, 1), grid.step)
        return replace(grid, step=storable(step))

    def _grid(self, rows: Float32Array, bits: int) -> Grid:
        settings = self._settings
        if settings.ranges is Ranges.MINMAX:
            return minmax_grid(rows, bits, self._scheme)
        grids = candidates(rows, bits, self._scheme, halves=settings.half_steps)
        if settings.ranges is Ranges.OUTPUT:
            grids = likely(grids, self._errors(rows, grids, self._weighted_error), bits)
            if len(grids) == 1:
                return grids[0]
        return pick(grids, self._errors(rows, grids, partial(self._error, settings.ranges)))

    def _errors(self, rows: Float32Array, grids: list[Grid], work: _RowsWork) -> Float64Array:
        """float64[len(grids), O]: what rounding every row to each grid costs."""
        found = self._in_blocks(rows, Grid.joined(grids), work, CANDIDATE_ROWS).astype(np.float64)
        panels = self._moments.panels(rows.shape[1])
        errors = found.reshape(len(panels), len(grids), -1).swapaxes(0, 1)  # [grids, P, O/G]
        return np.stack([panels.summed(own) for own in errors])

    def _codes(
        self,
        rows: Float32Array,
        grid: Grid,
        work: _RowsWork,
    ) -> Float32Array:
        """Codes of rows on one grid each: float32[O, K]."""
        panels = self._moments.panels(rows.shape[1])
        return panels.joined(self._in_blocks(rows, grid, work, ROUNDED_ROWS))

    def _error(
        self, ranges: Ranges, rows: Float32Array, panels: slice, grid: Grid
    ) -> Float32Array | Float64Array:
        """float[R]: what rounding to a grid costs."""
        if ranges is Ranges.MSE:
            return squared_error(rows, nearest(rows, grid), grid)
        if self._factor is not None:
            return compensated(rows, self._factor.groups(panels), grid)[1]
        return output_error(rows, nearest(rows, grid), self._moments.second[panels], grid)

    def _weighted_error(self, rows: Float32Array, panels: slice, grid: Grid) -> Float64Array:
        """float64[R]: mean square of the change of output if the columns were uncorrelated."""
        weights = np.einsum("gkk->gk", self._moments.second[panels])
        each = np.repeat(weights, len(rows) // len(weights), axis=0)
        return squared_error(rows, nearest(rows, grid), grid, each)

    def _rounded(self, rows: Float32Array, panels: slice, grid: Grid) -> Float32Array:
        if self._factor is None:
            return nearest(rows, grid)
        factor = self._factor.groups(panels)
        return compensated(rows, factor, grid.priced(factor.spread))[0]

    def _finely(self, rows: Float32Array, panels: slice, grid: Grid) -> Float32Array:
        codes = self._rounded(rows, panels, grid)
        if self._factor is None:
            return codes
        second, priced = (
            self._moments.second[panels],
            grid.priced(self._factor.groups(panels).spread),
        )
        return refined(rows, codes, second, priced, self._settings.sweeps)

    def _in_blocks(
        self,
        rows: Float32Array,
        grid: Grid,
        work: _RowsWork,
        size: int,
    ) -> Float32Array:
        """Work on blocks of rows, panel after panel.

        Args:
            rows: float32[O, K].
            grid: For every row one or several grids: the grids of all rows, one after the other.
            work: What is done with a block.
            size: Rows of a block at the most.

        Returns:
            float32[P * grids * O/G, ...]: in a panel grid after grid, for each grid all rows.
        """
        panels = self._moments.panels(rows.shape[1])
        # [grids, G, O/G] -> [G, grids * O/G] -> [P, grids * O/G]
        places = np.arange(len(grid)).reshape(-1, panels.groups, len(rows) // panels.groups)
        of_group = places.transpose(1, 0, 2).reshape(panels.groups, -1)
        members = np.repeat(of_group, panels.count, axis=0)
        parts = panels.rows(rows).reshape(len(panels), -1, panels.width)  # [P, O/G, k]

        def run(block: tuple[slice, slice]) -> Float32Array | Float64Array:
            chosen, some = block
            own = np.arange(members.shape[1])[some] % parts.shape[1]
            taken = parts[chosen][:, own].reshape(-1, panels.width)
            return work(taken, chosen, grid.rows(members[chosen, some].ravel()))

        found = list(self._each(run, _blocks(len(members), members.shape[1], size)))
        return np.concatenate(found).astype(np.float32, copy=False)


def _blocks(panels: int, each: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Panels and their rows in blocks: parts of large panels, or several small ones whole."""
    together = max(1, size // each)
    for first in range(0, panels, together):
        chosen = slice(first, min(first + together, panels))
        for start in range(0, each, size if together == 1 else each):
            yield chosen, slice(start, start + size)
