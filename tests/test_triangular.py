"""The inverse of a Cholesky factor in tiles is that of LAPACK, whatever tiles there are."""

import numpy as np
import pytest

from onnxsemi._rounding import triangular
from onnxsemi._rounding.triangular import inverse_cholesky


def positive(size, seed=0):
    values = np.random.default_rng(seed).normal(size=(size, 2 * size))
    return values @ values.T / size


@pytest.fixture(params=[1, 3, 7, 20, 64])
def tile(request, monkeypatch):
    monkeypatch.setattr(triangular, "TILE_ROWS", request.param)


@pytest.mark.parametrize("size", [1, 6, 20, 41])
@pytest.mark.usefixtures("tile")
def test_is_the_inverse(size):
    matrix = positive(size)
    expected = np.linalg.inv(np.linalg.cholesky(matrix))
    np.testing.assert_allclose(inverse_cholesky(matrix.copy()), expected, atol=1e-12)


@pytest.mark.usefixtures("tile")
def test_reads_the_lower_triangle_only():
    matrix = positive(20)
    found = inverse_cholesky(np.tril(matrix) + np.triu(np.full((20, 20), np.nan), 1))
    np.testing.assert_array_equal(found, inverse_cholesky(matrix.copy()))


@pytest.mark.parametrize("place", [0, 5, 19])
@pytest.mark.usefixtures("tile")
def test_says_what_is_not_positive_definite(place):
    matrix = positive(20)
    matrix[place, place] = -1
    assert inverse_cholesky(matrix) is None


@pytest.mark.usefixtures("tile")
def test_singular():
    """Nothing is seen of one column: with no damping there is no inverse."""
    matrix = positive(20)
    matrix[:, 4] = matrix[4] = 0
    assert inverse_cholesky(matrix) is None
