"""The inverse of a Cholesky factor, tile by tile: side by side where there are threads.

LAPACK's own takes one thread, and gives other bits with more. Here the tiles are of one size, and
each product of them is made by one thread: it does not matter how many there are.
"""

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._rounding.row_parts import Each
from onnxsemi._runtime.batch_sizes import TILE_ROWS


def inverse_cholesky(matrix: Float64Array, each: Each = map) -> Float64Array | None:
    """L^-1 of a symmetric matrix L L^T.

    Tile after tile of the diagonal: its own factor is inverted, what lies below it becomes that of
    L, and is taken off what is left of the matrix; left of it L^-1 follows from its rows above.

    Args:
        matrix: float64[K, K], of which the lower triangle is read, and overwritten.
        each: Maps over tiles.

    Returns:
        float64[K, K], lower triangular; None if the matrix is not positive definite.

    >>> inverse_cholesky(np.array([[4.0, 0.0], [2.0, 5.0]]))
    array([[ 0.5 ,  0.  ],
           [-0.25,  0.5 ]])
    """
    inverse, size = np.zeros_like(matrix), len(matrix)
    tiles = [slice(start, min(start + TILE_ROWS, size)) for start in range(0, size, TILE_ROWS)]
    for place, tile in enumerate(tiles):
        own = _of_tile(matrix[tile, tile])
        if own is None:
            return None
        inverse[tile, tile] = own

        def beside(other: slice, tile: slice = tile) -> None:
            if other.start < tile.start:
                _invert(matrix, inverse, tile, columns=other)
            else:
                _divide(matrix, inverse, tile, rows=other)

        def behind(other: slice, tile: slice = tile) -> None:
            _take_off(matrix, tile, rows=other)

        for work, others in (
            (beside, tiles[:place] + tiles[place + 1 :]),
            (behind, tiles[place + 1 :]),
        ):
            for _ in each(work, others):
                pass
    return inverse


def _of_tile(matrix: Float64Array) -> Float64Array | None:
    """The same of one tile, by LAPACK."""
    from scipy.linalg import lapack  # noqa: PLC0415  slow to import

    lower, failed = lapack.dpotrf(matrix, lower=1)
    if failed:
        return None
    inverse, failed = lapack.dtrtri(lower, lower=1, overwrite_c=1)
    return None if failed else np.tril(inverse)


def _invert(matrix: Float64Array, inverse: Float64Array, tile: slice, columns: slice) -> None:
    """Rows of L^-1 left of a tile: what L makes of its rows above, divided."""
    above = slice(columns.start, tile.start)
    inverse[tile, columns] = -inverse[tile, tile] @ (matrix[tile, above] @ inverse[above, columns])


def _divide(matrix: Float64Array, inverse: Float64Array, tile: slice, rows: slice) -> None:
    """Rows below a tile become those of L."""
    matrix[rows, tile] = matrix[rows, tile] @ inverse[tile, tile].T


def _take_off(matrix: Float64Array, tile: slice, rows: slice) -> None:
    """What a column of L makes, off the rows of the matrix behind it."""
    behind = slice(tile.stop, rows.stop)
    matrix[rows, behind] -= matrix[rows, tile] @ matrix[behind, tile].T
