"""When the search images speak against a plan.

*point* (the paper's): the plan loses more answers than it wins, and more than is allowed.

    lost - won  >  max_drop * n

A point estimate fails both ways: it refuses a plan for one image in two thousand, and takes one
that loses half a point if that many images fell well.

*interval*: the paired 95 % interval of the change reaches too far down.

    lower end of the interval of (won - lost) / n  <  -max_drop

A plan that changes few answers may lose some of them by chance; the more it changes, the more of
them it must win. That bounds how far the accuracy on other images may lie. On few images even a
plan that changes nothing has an interval wider than what is allowed: then nothing can hold.

*interval within a tolerance* (the frontier's, unless told otherwise): it may reach below that by a
tolerance, which is never less than twice the width at no change.

Without labels the float model's answers count as right, so that every answer that changes is lost:
what is asked is asked of the agreement. Only within a tolerance half of what changes is counted
as lost (*balanced*), as it is not known which changes are losses.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from onnxsemi.arrays import BoolArray
from onnxsemi.errors import SettingsError
from onnxsemi.measure.paired import Paired


class Guarantee(StrEnum):
    """What the allowed drop is asked of."""

    POINT = "point"
    """The change seen on the search images."""
    INTERVAL = "interval"
    """The lower end of its paired 95 % interval."""


@dataclass(frozen=True)
class Finding:
    """What a guard says of counts.

    Attributes:
        holds: Whether nothing speaks against the plan.
        text: What was found and what is allowed.
        images_needed: Where the images are too few to tell a drop of the size allowed: how many it
            would take, at the share of answers that changed here; else None.
        allowed: That drop, percentage points.
    """

    holds: bool
    text: str
    images_needed: int | None
    allowed: float


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What is asked of a plan.

    Attributes:
        max_drop: Percentage points of accuracy, or of agreement without labels, that may be lost.
        tolerance: Percentage points that the interval may reach below that; 0 for none; None asks
            the point.
        balanced: Whether half of what changes is counted as lost, whichever way it fell.
        has_labels: Whether right answers are known; else those of the float model count as right.
    """

    max_drop: float
    tolerance: float | None = None
    balanced: bool = False
    has_labels: bool = True

    def check_images(self, count: int) -> None:
        """Refuse to ask for what so few images can never show.

        Raises:
            SettingsError: With the least drop for them, and the least number for the drop.
        """
        if self.tolerance != 0:
            return
        unchanged = Paired(count, count, 0, 0)
        reach = -100 * unchanged.interval[0]
        if reach <= self.max_drop:
            return
        needed = unchanged.images_for(self.max_drop / 100)
        raise SettingsError(
            f"--guarantee interval: on {count:,} search images the interval of a plan that changes "
            f"no answer reaches {reach:.3f} points down: --max-drop {self.max_drop:g} must be at "
            f"least {math.ceil(1000 * reach) / 1000:g}"
            + ("" if needed is None else f", or it takes {needed:,} search images")
        )

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
        finding = self.judge(paired)
        return None if finding.holds else finding.text

    def judge(self, paired: Paired) -> Finding:
        """Everything there is to say of the counts."""
        counted, allowed = self._counted(paired), self.max_drop + (self.tolerance or 0)
        wide = counted.half_width > allowed / 100
        needed = counted.images_for(allowed / 100) if wide else None
        holds, text = self._point(paired) if self.tolerance is None else self._interval(paired)
        return Finding(holds, text, needed, allowed)

    @property
    def asks(self) -> str:
        """What is asked, for messages."""
        if self.tolerance == 0:
            return f"an interval that reaches at most {self.max_drop:g} points down"
        return f"a drop of at most {self.max_drop:g} points"

    def _point(self, paired: Paired) -> tuple[bool, str]:
        more, total = paired.lost - paired.won, paired.total
        allowed = self.max_drop / 100 * total + 1e-9
        words = ("lost", "won") if more >= 0 else ("won", "lost")
        text = (
            f"{abs(more):,} more {words[0]} than {words[1]} of {total:,}; "
            if self.has_labels
            else f"{paired.lost + paired.won:,} of {total:,} answers changed; "
        )
        return more <= allowed, f"{text}allowed are {int(allowed):,}"

    def _interval(self, paired: Paired) -> tuple[bool, str]:
        lost, won, total = paired.lost, paired.won, paired.total
        low, least = 100 * self._counted(paired).interval[0], -self.max_drop - self._slack(total)
        holds, changed = low >= least - 1e-9, f"{lost + won:,} of {total:,} answers"
        down = f"the change may be as low as {low:.2f} points; allowed is {least:.2f}"
        if self.balanced:
            return holds, f"if half of what changed is lost, {down} ({changed} changed)"
        if self.has_labels:
            return holds, f"{down} ({lost:,} lost, {won:,} won of {total:,})"
        agreement = f"agreement may be as low as {100 + low:.2f} %; allowed is {100 + least:.2f} %"
        return holds, f"{agreement} ({changed} changed)"

    def _counted(self, paired: Paired) -> Paired:
        """What counts as lost."""
        if not self.balanced:
            return paired
        half, odd = divmod(paired.lost + paired.won, 2)
        return Paired(paired.total, paired.before, half + odd, half)

    def _slack(self, total: int) -> float:
        """Points that the interval may reach below the allowed drop."""
        unchanged = Paired(total, total, 0, 0)
        return max(self.tolerance, -200 * unchanged.interval[0]) if self.tolerance else 0.0
