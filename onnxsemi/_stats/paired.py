"""Two models on the same images: how many answers were broken and fixed, and how sure that is.

    change = (fixed - broken) / n

The 95 % interval is Bonett and Price's for paired proportions ("Adjusted Wald confidence interval
for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37, 2012): one
is added to each discordant count, so that it keeps its coverage when few images change.

    half = z * sqrt(((broken + fixed + 2) / (n + 2) - centre^2) / (n + 2))

It is the one interval of a change that is used everywhere: a closed form gives the same bits on
every machine, needs no seed, and can be solved for the number of images.

McNemar's p-value is the exact one: of broken + fixed answers that changed, how likely is a split as
uneven as this one if each falls either way with probability 1/2?
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import BoolArray

_Z95 = 1.959963984540054
COVERAGE = 0.95
MOST_IMAGES = 10**15
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Paired:
    """Right answers of two models on the same images.

    Attributes:
        total: Images.
        before: Right answers of the first model.
        broken: Images that only the first answers rightly.
        fixed: Images that only the second answers rightly.
    """

    total: int
    before: int
    broken: int
    fixed: int

    @classmethod
    def of(cls, before: BoolArray, after: BoolArray) -> "Paired":
        """Compare hits, bool[N] each, same images in the same order."""
        broken, fixed = int((before & ~after).sum()), int((after & ~before).sum())
        return cls(int(np.size(before)), int(before.sum()), broken, fixed)

    @property
    def after(self) -> int:
        """Right answers of the second model."""
        return self.before - self.broken + self.fixed

    @property
    def change(self) -> float:
        """Change of accuracy, -1 to 1."""
        return (self.fixed - self.broken) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the change, -1 to 1.

        >>> [round(end, 4) for end in Paired(total=3000, before=2600, broken=10, fixed=10).interval]
        [-0.0031, 0.0031]
        """
        return self.interval_at(COVERAGE)

    def interval_at(self, coverage: float) -> tuple[float, float]:
        """The interval at another coverage than 95 %, -1 to 1.

        >>> paired = Paired(total=3000, before=2600, broken=10, fixed=10)
        >>> [round(end, 4) for end in paired.interval_at(0.975)]
        [-0.0035, 0.0035]

        Args:
            coverage: 0 to 1.
        """
        centre, half = _adjusted(self.total, self.broken, self.fixed, quantile(coverage))
        return max(-1.0, centre - half), min(1.0, centre + half)

    @property
    def half_width(self) -> float:
        """Half of that interval, before it is cut off at -1 and 1."""
        return _adjusted(self.total, self.broken, self.fixed)[1]

    @property
    def p_value(self) -> float:
        """Exact two-sided p-value of McNemar's test; 1 if no answer changed.

        >>> Paired(total=100, before=90, broken=4, fixed=0).p_value
        0.125
        """
        from scipy.special import bdtr  # noqa: PLC0415  slow to import; scipy.stats takes 40 MB

        changed = self.broken + self.fixed
        return min(1.0, 2 * float(bdtr(min(self.broken, self.fixed), changed, 0.5)))

    def images_for(self, width: float, coverage: float = 0.95) -> int | None:
        """Images that it takes for an interval of at most ± ``width``, at the shares seen here.

        The interval narrows with every image more, so that the least number can be halved for.

        >>> Paired(total=4000, before=3800, broken=17, fixed=15).images_for(0.002)
        7922

        Args:
            width: Half the interval, 0 to 1.
            coverage: Of the interval, 0 to 1.

        Returns:
            None if there is no such number, as for a width of 0.
        """
        broken, fixed, z = self.broken / self.total, self.fixed / self.total, quantile(coverage)

        def narrow(images: int) -> bool:
            return _adjusted(images, broken * images, fixed * images, z)[1] <= width

        if not narrow(MOST_IMAGES):
            return None
        return bisect_left(range(MOST_IMAGES), True, lo=1, key=narrow)  # noqa: FBT003

    def even(self) -> "Paired":
        """The same if half of what changed were broken; of an odd number one more than half.

        >>> Paired(total=100, before=90, broken=4, fixed=1).even()
        Paired(total=100, before=90, broken=3, fixed=2)
        """
        half, odd = divmod(self.broken + self.fixed, 2)
        return Paired(self.total, self.before, half + odd, half)

    def scaled(self, factor: float) -> "Paired":
        """The same if so many times as many answers had changed.

        >>> Paired(total=100, before=90, broken=4, fixed=1).scaled(1.5)
        Paired(total=100, before=90, broken=6, fixed=2)
        """
        broken, fixed = round(self.broken * factor), round(self.fixed * factor)
        return Paired(self.total, self.before, broken, fixed)

    def point(self, max_drop: float) -> tuple[bool, str, str]:
        """Whether no more is lost than is allowed; what was found, and what is allowed.

        >>> Paired(total=4000, before=3500, broken=21, fixed=20).point(0)
        (False, '1 more broken than fixed of 4,000', 'allowed are 0')

        Args:
            max_drop: Percentage points.
        """
        more, allowed = self.broken - self.fixed, max_drop / 100 * self.total + _ROUNDING
        words = ("broken", "fixed") if more >= 0 else ("fixed", "broken")
        found = f"{abs(more):,} more {words[0]} than {words[1]} of {self.total:,}"
        return more <= allowed, found, f"allowed are {int(allowed):,}"

    def loss(self, level: float) -> str | None:
        """What shows a loss at a two-sided level; None if nothing does.

        >>> Paired(total=100, before=90, broken=9, fixed=1).loss(0.05)
        'McNemar p = 0.021'
        """
        if self.broken <= self.fixed or self.p_value >= level:
            return None
        return f"McNemar p = {self.p_value:.2g}"

    @property
    def levels(self) -> tuple[str, str]:
        """Shares of right answers before and after, as text."""
        return f"{self.before / self.total:.2%}", f"{self.after / self.total:.2%}"

    @property
    def seen(self) -> str:
        """What was found, in words."""
        return f"{self.broken:,} broken, {self.fixed:,} fixed of {self.total:,}"

    @property
    def sides(self) -> str:
        """How many images speak for either model."""
        return f"{self.broken:,} broken and {self.fixed:,} fixed"

    @property
    def changed(self) -> str:
        """How many answers changed."""
        return f"{self.broken + self.fixed:,} of {self.total:,} answers changed"


def even_width(total: int, changed: float) -> float:
    """Half of the 95 % interval where so many answers changed, as many of them broken as fixed.

    >>> round(even_width(2000, changed=24), 5)
    0.00499
    """
    return _adjusted(total, changed / 2, changed / 2)[1]


def quantile(coverage: float) -> float:
    """Of the standard normal distribution, two-sided."""
    if coverage == COVERAGE:
        return _Z95
    from scipy.special import ndtri  # noqa: PLC0415  slow to import; scipy.stats takes 40 MB

    return float(ndtri((1 + coverage) / 2))


def _adjusted(total: float, broken: float, fixed: float, z: float = _Z95) -> tuple[float, float]:
    """Centre and half width of the interval."""
    n = total + 2
    centre = (fixed - broken) / n
    return centre, z * math.sqrt(((fixed + broken + 2) / n - centre**2) / n)
