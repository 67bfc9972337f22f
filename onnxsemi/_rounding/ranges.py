"""From weights to the grids that they are rounded to.

*minmax*: from the smallest to the largest weight, zero on the grid: the paper's.
*mse*: the clipped range whose nearest levels differ least from the weights.
*output*: the clipped range whose rounded weights change the layer's output least. The candidates
are rounded as the layer will be, and compared by the second moments of its inputs; those alone that
are likely by a quick estimate. (Measured by
``benchmarks/rounding.py``, CIFAR-10 ResNet-20, of minmax's output error: mse 0.81, 0.80 and 0.91 at
2, 3 and 4 bits; output 0.57, 0.71 and 0.86.)
"""

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array, Int64Array
from onnxsemi._quantizer.affine import Scheme, quantize
from onnxsemi._rounding.grid import Grid, values

HALF_STEP_BITS = 4
"""Widest bitwidth with zero points in half steps. Measured by ``benchmarks/rounding.py`` (CIFAR-10
ResNet-20): the output error at 2, 3 and 4 bits is 0.81, 0.92 and 0.95 of that on whole steps."""
_CLIPS = tuple(np.linspace(0.3, 1.0, 8).tolist())
_FEW_CLIPS = tuple(np.linspace(0.7, 1.0, 4).tolist())
_WIDE_BITS = 5  # from here on clipping gains little
_CLOSER = {1: 4, 2: 6, 3: 4, 4: 3, 5: 2}
_CLOSER_WIDE = 1
"""Candidates of a row that are rounded, of 4 to 16, those with the least squared errors weighted by
the second moments of the inputs. Of the output errors of all candidates the best is met within 1 %
at 3 bits and above, 3 % below (``benchmarks/rounding.py``), with a third of the roundings."""


def minmax_grid(weight: Float32Array, bits: int, scheme: Scheme) -> Grid:
    """The paper's grids of the rows."""
    return Grid.of(quantize(weight, bits, scheme))


def on_halves(bits: int, *, halves: bool) -> bool:
    """Whether the grids of a bitwidth have zero points in half steps; one bit always has."""
    return bits == 1 or (halves and bits <= HALF_STEP_BITS)


def candidates(weight: Float32Array, bits: int, scheme: Scheme, *, halves: bool) -> list[Grid]:
    """Clipped grids to choose from, every one with a row for each row of the weights.

    Args:
        weight: float32[R, K].
        bits: 1 to 8.
        scheme: Symmetric grids lie evenly around zero, or have it at code 2^(bits - 1).
        halves: Whether zero points may be in half steps.
    """
    low = np.minimum(weight.min(axis=1), 0).astype(np.float64)
    high = np.maximum(weight.max(axis=1), 0).astype(np.float64)
    halves = on_halves(bits, halves=halves)
    grids = []
    for clip in _FEW_CLIPS if bits >= _WIDE_BITS else _CLIPS:
        if scheme is Scheme.SYMMETRIC:
            grids.append(_centred(clip * np.maximum(-low, high), bits, halves=halves))
        else:
            grids += _stretched(clip * low, clip * high, bits, halves=halves)
    return grids


def likely(grids: list[Grid], errors: Float64Array, bits: int) -> list[Grid]:
    """As many grids as are worth a closer look; each has for every row one that is likely best.

    Args:
        grids: To choose from.
        errors: float64[len(grids), R], which say about what a grid costs.
        bits: Of the grids: the wider, the better errors of single weights tell.
    """
    order = errors.argsort(axis=0, kind="stable")[: _CLOSER.get(bits, _CLOSER_WIDE)]
    rows = np.arange(errors.shape[1])
    return [_chosen(grids, place, rows) for place in order]


def pick(grids: list[Grid], errors: Float64Array) -> Grid:
    """For each row the grid of the least error, float64[len(grids), R]; the first of equals."""
    return _chosen(grids, errors.argmin(axis=0), np.arange(errors.shape[1]))


def _chosen(grids: list[Grid], places: Int64Array, rows: Int64Array) -> Grid:
    """For each row the grid of a place, int64[R]."""
    names = ("step", "zero", "top")
    return Grid(
        *(np.stack([getattr(grid, name) for grid in grids])[places, rows] for name in names)
    )


def squared_error(
    weight: Float32Array, codes: Float32Array, grid: Grid, weights: Float32Array | None = None
) -> Float64Array:
    """float64[R]: sum of the squared changes, each times a weight, float32[R, K], if given."""
    squares = (values(codes, grid) - weight) ** 2
    if weights is not None:
        squares *= weights
    found: Float64Array = squares.sum(axis=1, dtype=np.float64)
    return found


def stored_exactly(
    weight: Float32Array, codes: Float32Array, grid: Grid, scheme: Scheme, *, halves: bool
) -> tuple[Float32Array, Grid]:
    """Codes and grids with which rows of one value, zero among them, survive exactly.

    Only a row of zeros on a symmetric grid of half steps has no level for them: its levels are the
    smallest that there are.

    Args:
        weight: float32[R, K].
        codes: float32[R, K].
        grid: Grid of each row.
        scheme: Symmetric grids keep their zero points.
        halves: Whether zero points are in half steps.
    """
    constant = np.flatnonzero(weight.min(axis=1) == weight.max(axis=1))
    if not len(constant):
        return codes, grid
    step, zero, codes = grid.step.copy(), grid.zero.copy(), codes.copy()
    value = weight[constant, 0]
    distance = np.float32(0.5 if halves else 1)  # from zero to the level that the value takes
    towards = np.sign(value) * distance
    nothing = np.float32(1)
    if scheme is Scheme.ASYMMETRIC:
        zero[constant] = np.where(value < 0, distance, np.where(value > 0, distance % 1, 0))
    elif halves:
        towards[value == 0] = distance
        nothing = 4 * np.finfo(np.float32).tiny
    step[constant] = np.where(value == 0, nothing, np.abs(value) / distance)
    codes[constant] = (zero[constant] + towards)[:, None]
    return codes, Grid(step, zero, grid.top)


def _stretched(low: Float64Array, high: Float64Array, bits: int, *, halves: bool) -> list[Grid]:
    top = 2**bits - 1
    step = _step((high - low) / top)
    place = -low / step
    zeros = [*([] if bits == 1 else [np.rint(place)]), *([np.floor(place) + 0.5] if halves else [])]
    return [
        Grid(step, np.clip(zero, 0, top).astype(np.float32), _full(len(low), top)) for zero in zeros
    ]


def _centred(reach: Float64Array, bits: int, *, halves: bool) -> Grid:
    top, half = 2**bits - 1, 2 ** (bits - 1)
    zero = top / 2 if halves else half
    step = _step(2 * reach / top if halves else reach / (half - 0.5))
    return Grid(step, _full(len(reach), zero), _full(len(reach), top))


def _step(step: Float64Array) -> Float32Array:
    """Steps as float32, of which the half is no subnormal either."""
    return np.maximum(step, 4 * float(np.finfo(np.float32).tiny)).astype(np.float32)


def _full(count: int, value: float) -> Float32Array:
    return np.full(count, value, np.float32)
