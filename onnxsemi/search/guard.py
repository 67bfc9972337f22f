"""When the search images speak against a plan.

*point* (the paper's): the plan loses more answers than it wins, and more than is allowed.

    lost - won  >  max_drop * n

A point estimate fails both ways: it refuses a plan for one image in two thousand, and takes one
that loses half a point if that many images fell well.

*interval* (the frontier's): the paired 95 % interval of the change reaches too far down.

    lower end of the interval of (won - lost) / n  <  -max_drop - tolerance

A plan that changes few answers may lose some of them by chance; the more it changes, the more of
them it must win. That bounds how far the accuracy on other images may lie. Without labels it is not
known which changes are losses: half of them are counted as such. On few images even a plan that
changes nothing has a wide interval: the tolerance is never less than twice its width.
"""

from dataclasses import dataclass

from onnxsemi.arrays import BoolArray
from onnxsemi.measure.paired import Paired


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is asked of a plan.

    Attributes:
        max_drop: Percentage points of accuracy that may be lost.
        tolerance: Percentage points that the interval may reach below that; None asks for the
        point.
        has_labels: Whether right answers are known; else those of the float model count as right.
    """

    max_drop: float
    tolerance: float | None = None
    has_labels: bool = True

    def objection(self, before: BoolArray, after: BoolArray) -> str | None:
        """Why a plan is not taken; None if nothing speaks against it.

        Args:
            before: bool[N], which images the float model answers rightly.
            after: bool[N], which ones the plan does.
        """
        return self.against(Paired.of(before, after))

    def against(self, paired: Paired) -> str | None:
        """The same from the counts.

        >>> Guard(max_drop=0).against(Paired(4000, 3500, lost=21, won=20))
        '1 more lost than won of 4,000; allowed are 0'
        >>> Guard(max_drop=0, tolerance=0.5).against(Paired(4000, 3500, lost=21, won=20))
        >>> Guard(max_drop=0, tolerance=0.5).against(Paired(4000, 3500, lost=80, won=80))
        'the change may be as low as -0.62 points; allowed is -0.50 (80 lost, 80 won of 4,000)'
        """
        lost, won, total = paired.lost, paired.won, paired.total
        if self.tolerance is None:
            if lost - won <= self.max_drop / 100 * total + 1e-9:
                return None
            allowed = int(self.max_drop / 100 * total)
            return f"{lost - won:,} more lost than won of {total:,}; allowed are {allowed:,}"
        if not self.has_labels:
            half, odd = divmod(lost + won, 2)
            paired = Paired(total, paired.before, half + odd, half)
        unchanged = Paired(total, paired.before, 0, 0)
        least = -self.max_drop - max(self.tolerance, -200 * unchanged.interval[0])
        low = 100 * paired.interval[0]
        if low >= least - 1e-9:
            return None
        return (
            f"the change may be as low as {low:.2f} points; allowed is {least:.2f} "
            f"({lost:,} lost, {won:,} won of {total:,})"
        )
