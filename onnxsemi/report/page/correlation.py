"""How closely two measurements go together."""

import warnings

import numpy as np

from onnxsemi.arrays import BoolArray, Float64Array


def correlations(one: Float64Array, other: Float64Array) -> tuple[str, str, str]:
    """Pearson's r, Spearman's rank correlation, and the number of pairs, as text.

    Pairs with a NaN are left out; a dash stands where fewer than three are left or one of the two
    never changes.

    >>> correlations(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    ('0.99', '1.00', '3')
    """
    from scipy import stats  # noqa: PLC0415  slow to import, and takes 40 MB

    both: BoolArray = np.isfinite(one) & np.isfinite(other)
    x, y = one[both], other[both]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return "–", "–", f"{len(x):,}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        pearson, spearman = stats.pearsonr(x, y).statistic, stats.spearmanr(x, y).statistic
    return _two(pearson), _two(spearman), f"{len(x):,}"


def _two(value: float) -> str:
    """Two decimals, and no minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
