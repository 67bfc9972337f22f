"""Two models on the same images by a metric: by how much its mean changes, and how sure that is.

    change = mean_n d[n]          d[n] = value of the second model - value of the first

The 95 % interval is a percentile bootstrap's. Resampling what was seen knows nothing of what was
not: where few images change, it is too narrow. So two images are added before it is drawn, as
Bonett and Price add two answers (:mod:`onnxsemi._stats.paired`): one that falls and one that rises
by as much as any image did; or where none did, by the range of the values. Of values 0 and 1 these
are Bonett and Price's own counts.

Where a closed form is needed (how wide the interval is where changes are even, how many images it
takes), it is theirs, too:

    half = z * sqrt(sum_n (d[n] - centre)^2 + 2 * largest^2) / (n + 2)

At another coverage than 95 % each end lies as many times farther from the middle as a normal one.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float64Array
from onnxsemi._stats.metric import Values
from onnxsemi._stats.paired import COVERAGE, MOST_IMAGES, quantile

RESAMPLES = 2000
"""Each end of the interval is then known to 3 % of its half width; it is the same every time."""
_BLOCK = 2**20  # values drawn at once: 12 MB
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Means:
    """Mean of a metric for two models on the same images.

    Attributes:
        name: The metric's.
        total: Images.
        before: Mean of the first model.
        after: Mean of the second.
        broken: Images whose value fell.
        fixed: Images whose value rose.
        spread: Root mean square of the changes.
        largest: The largest of them; the range of the values where there is none.
        interval: 95 % interval of the change.
    """

    name: str
    total: int
    before: float
    after: float
    broken: int
    fixed: int
    spread: float
    largest: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, before: Values, after: Values) -> "Means":
        """Compare values on the same images in the same order."""
        changes = after.each - before.each
        largest = float(np.abs(changes).max()) or float(np.ptp(before.each))
        return cls(
            name=before.name,
            total=len(changes),
            before=float(before.each.mean()),
            after=float(after.each.mean()),
            broken=int((changes < 0).sum()),
            fixed=int((changes > 0).sum()),
            spread=float(np.sqrt(np.mean(changes**2))),
            largest=largest,
            interval=bootstrap(np.append(changes, [-largest, largest])),
        )

    @property
    def change(self) -> float:
        """Change of the mean."""
        return self.after - self.before

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.interval[1] - self.interval[0]) / 2

    def interval_at(self, coverage: float) -> tuple[float, float]:
        """The interval at another coverage than 95 %.

        Args:
            coverage: 0 to 1.
        """
        if coverage == COVERAGE:
            return self.interval
        low, high = self.interval
        middle, wider = self._middle, quantile(coverage) / quantile(COVERAGE)
        return middle + wider * (low - middle), middle + wider * (high - middle)

    def images_for(self, width: float, coverage: float = COVERAGE) -> int | None:
        """Images that it takes for an interval of about ± ``width``, at the changes seen here.

        Returns:
            None if there is no such number, as for a width of 0.
        """
        z, variance = quantile(coverage), max(0.0, self.spread**2 - self.change**2)

        def narrow(images: int) -> bool:
            return _half(images, images * variance, self.largest, z) <= width

        if not narrow(MOST_IMAGES):
            return None
        return bisect_left(range(MOST_IMAGES), True, lo=1, key=narrow)  # noqa: FBT003

    def even(self) -> "Means":
        """The same if what changed had fallen and risen alike.

        A significant fall is no luck, and stays: a metric of many small steps may change on most
        images, and the mean is still known well.
        """
        if self.loss(1 - COVERAGE) is not None:
            return self
        half = _half(self.total, self.total * self.spread**2, self.largest, quantile(COVERAGE))
        fell, odd = divmod(self.broken + self.fixed, 2)
        return replace(
            self, after=self.before, broken=fell + odd, fixed=fell, interval=(-half, half)
        )

    def scaled(self, factor: float) -> "Means":
        """The same if every value had changed by so many times as much."""
        low, high = self.interval
        return replace(
            self,
            after=self.before + factor * self.change,
            spread=factor * self.spread,
            largest=factor * self.largest,
            interval=(factor * low, factor * high),
        )

    def point(self, max_drop: float) -> tuple[bool, str, str]:
        """Whether the change as it was seen is no larger loss; what it is, and what is allowed.

        Args:
            max_drop: Hundredths of the metric.
        """
        holds = 100 * self.change >= -max_drop - _ROUNDING
        found = f"the mean of {self.name} changed by {100 * self.change:+.2f} points"
        return holds, found, f"allowed are {-max_drop:g}"

    def loss(self, level: float) -> str | None:
        """What shows a loss at a two-sided level; None if nothing does."""
        high = self.interval_at(1 - level)[1]
        return f"{1 - level:.0%} interval up to {100 * high:+.2g} points" if high < 0 else None

    @property
    def levels(self) -> tuple[str, str]:
        """Both means, as text."""
        return f"{self.before:.4f}", f"{self.after:.4f}"

    @property
    def seen(self) -> str:
        """What was found, in words."""
        before, after = self.levels
        return f"mean of {self.name} {before} -> {after} on {self.total:,}"

    @property
    def sides(self) -> str:
        """How many images speak for either model."""
        return f"{self.broken:,} images with a lower {self.name} and {self.fixed:,} with a higher"

    @property
    def changed(self) -> str:
        """How many images changed."""
        return f"{self.broken + self.fixed:,} of {self.total:,} values changed"

    @property
    def _middle(self) -> float:
        """Mean of what is resampled: the two added images cancel out."""
        return self.change * self.total / (self.total + 2)


def bootstrap(changes: Float64Array) -> tuple[float, float]:
    """95 % percentile interval of the mean of a sample, float64[N]: the same on every call.

    ``RESAMPLES`` samples of N are drawn by numpy's PCG64 generator, seed 0, a block at a time.

    >>> [round(end, 2) for end in bootstrap(np.array([0.0] * 90 + [1.0] * 10))]
    [0.04, 0.16]
    """
    means = np.concatenate([changes[drawn].mean(axis=1) for drawn in _draws(len(changes))])
    low, high = np.quantile(means, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _draws(count: int) -> Iterator[NDArray[np.int32]]:
    """The samples, a block at a time: int32[M, count], indices."""
    generator, rows = np.random.default_rng(0), max(1, _BLOCK // count)
    for first in range(0, RESAMPLES, rows):
        yield generator.integers(count, size=(min(rows, RESAMPLES - first), count), dtype=np.int32)


def _half(total: float, squares: float, largest: float, z: float) -> float:
    """Half width of an interval, from the sum of squared changes around their mean."""
    return z * math.sqrt(squares + 2 * largest**2) / (total + 2)
