"""How far second moments that were seen on few images are to be trusted.

Of a sample the covariance C of a layer's inputs has small eigenvalues that are far too small:
weights rounded for it push their errors to where these images happen not to look, and other images
see them. So C is shrunk towards a multiple of the identity, as far as the sample asks for:

    C + damping I,    damping = mean(diag C) l / (1 - l),    l = V / |C - mean(diag C) I|^2

V is the expected squared error of C (Frobenius norm). It is found from how much the sums of single
blocks of images differ, S_b over n_b columns, B blocks:

    V = B / (B - 1) * (sum_b |S_b|^2 - sum_b n_b^2 |C|^2) / (sum_b n_b)^2

Blocks, not columns, are the samples here, as the patches of one image say much the same.

Source: Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
Journal of Multivariate Analysis 88, 2004. What it is worth on images that weights were not rounded
on is measured by ``benchmarks/few_images.py``.
"""

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array

LEAST_DAMPING = 0.01
"""Share of the mean of C's diagonal that is added to it however many images there are: GPTQ's."""

MOST_SHRUNK = 0.9
"""The largest l, and that of a single block, which does not tell how much blocks differ."""


class MomentSpread:
    """How much the second moments of blocks of images differ: a group of a layer's columns."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._centre: Float64Array | None = None
        self._squares = 0.0
        self._counts: list[int] = []

    def add(self, products: Float32Array, first: Float64Array, count: int) -> None:
        """Add a block.

        Args:
            products: float32[K, K], sum of the products of its columns.
            first: float64[K], sum of its columns.
            count: How many columns.
        """
        if self._centre is None:  # near the mean, which is not known yet
            self._centre = first / count
        centre = self._centre
        around = products - np.outer(centre, first - count * centre).astype(np.float32)
        around -= np.outer(first, centre).astype(np.float32)
        self._squares += float(np.einsum("ij,ij->", around, around, dtype=np.float64))
        self._counts.append(count)

    def damping(self, second: Float32Array, mean: Float64Array) -> float:
        """What to add to the diagonal.

        Args:
            second: float32[K, K], mean of the products of all columns.
            mean: float64[K], their mean.
        """
        covariance = second - np.outer(mean, mean).astype(np.float32)
        level = max(0.0, float(np.trace(covariance, dtype=np.float64)) / len(second))
        shrunk = min(MOST_SHRUNK, max(0.0, self._share(covariance, mean, level)))
        return level * max(LEAST_DAMPING, shrunk / (1 - shrunk))

    def _share(self, covariance: Float32Array, mean: Float64Array, level: float) -> float:
        blocks, total = len(self._counts), sum(self._counts)
        if blocks < 2 or self._centre is None:
            return MOST_SHRUNK
        squared = float(np.einsum("ij,ij->", covariance, covariance, dtype=np.float64))
        off = mean - self._centre
        moved = float(off @ covariance @ off)
        around_centre = squared + 2 * moved + float(off @ off) ** 2
        each = sum(count * count for count in self._counts)
        error = blocks / (blocks - 1) * (self._squares - each * around_centre) / total**2
        structure = squared - len(covariance) * level * level  # |C - level I|^2
        return error / structure if structure > 0 else 0.0
