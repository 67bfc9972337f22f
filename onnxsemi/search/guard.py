"""When the calibration images speak against a plan.

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
tolerance. Where the images are too few to show that (:mod:`onnxsemi.search.few`), it may reach down
by what they can show, and the split into lost and won, the agreement and the KL are asked too.

Without labels the float model's answers count as right, so that every answer that changes is lost:
what is asked is asked of the agreement. Only within a tolerance half of what changes is counted
as lost (*balanced*), as it is not known which changes are losses.

By a metric a *point* is a hundredth of it, and the interval is that of its mean
(:mod:`onnxsemi.measure.means`). It is taken to run from 0 to 1: then no image changes it by more
than a right answer changes the accuracy, and as many images show as much.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from enum import StrEnum

from onnxsemi.errors import SettingsError
from onnxsemi.measure.paired import Paired
from onnxsemi.measure.pairing import Pairing, PerImage, pair
from onnxsemi.measure.seam import Closeness
from onnxsemi.search.few import (
    KL_FEW,
    images_to_show,
    least_agreement,
    least_tolerance,
    objections,
)


class Guarantee(StrEnum):
    """What the allowed drop is asked of."""

    POINT = "point"
    """The change seen on the calibration images."""
    INTERVAL = "interval"
    """The lower end of its paired 95 % interval."""


@dataclass(frozen=True)
class Finding:
    """What a guard says of counts.

    Attributes:
        holds: Whether nothing speaks against the plan.
        text: What was found and what is allowed.
        images_needed: Where the images are too few to tell a drop of the size asked for: how many
            it would take, at the share of answers that changed here; else None.
        asked: That drop, percentage points.
        allowed: What it was judged by: more where the images cannot show what was asked for.
    """

    holds: bool
    text: str
    images_needed: int | None
    asked: float
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
            f"`guarantee` interval: on {count:,} calibration images the interval of a plan that "
            f"changes no answer reaches {reach:.3f} points down: `max_drop` {self.max_drop:g} must "
            f"be at least {math.ceil(1000 * reach) / 1000:g}"
            + ("" if needed is None else f", or it takes {needed:,} calibration images")
        )

    def objection(self, before: PerImage, after: PerImage, close: Closeness | None) -> str | None:
        """Why a plan is not taken; None if nothing speaks against it.

        Args:
            before: Which images the float model answers rightly, or its values of a metric.
            after: The plan's.
            close: How close the plan is to the float model.
        """
        return self.against(pair(before, after), close)

    def against(self, paired: Pairing, close: Closeness | None = None) -> str | None:
        """The same from the counts; how close a plan is is asked for on few images only.

        >>> Guard(max_drop=0).against(Paired(4000, 3500, lost=21, won=20))
        '1 more broken than fixed of 4,000; allowed are 0'
        >>> Guard(max_drop=0, tolerance=0.5).against(Paired(4000, 3500, lost=21, won=20))
        >>> Guard(max_drop=0, tolerance=0.5).against(Paired(4000, 3500, lost=80, won=80))
        'the change may be as low as -0.62 points; allowed is -0.50 (80 broken, 80 fixed of 4,000)'
        >>> close = Closeness(kl=0.03, changed=15)
        >>> Guard(max_drop=0, tolerance=0.5).against(Paired(539, 480, lost=7, won=4), close)
        'the KL may be 0.03 nats, allowed are 0.02; the change may be as low as -1.86 points; \
allowed is -1.81 (7 broken, 4 fixed of 539), which is what so few images can show'
        """
        finding = self.judge(paired, close)
        return None if finding.holds else finding.text

    def judge(self, paired: Pairing, close: Closeness | None = None) -> Finding:
        """Everything there is to say of the counts, and on few images of agreement and KL."""
        counted, asked = self.counted(paired), self.asked
        wide = counted.half_width > asked / 100
        needed = counted.images_for(asked / 100) if wide else None
        if not self.few(paired.total):
            holds, text = self._point(paired) if self.tolerance is None else self._interval(paired)
            return Finding(holds, text, needed, asked, asked)
        if close is None:
            raise ValueError(f"{paired.total} images are few: the KL is asked for too")
        holds, text = self._interval(paired)
        more = objections(counted, close)
        whole = "; ".join((*more, f"{text}, which is what so few images can show"))
        most = max(needed or 0, images_to_show(asked))
        return Finding(holds and not more, whole, most, asked, self._reach(paired.total))

    @property
    def asked(self) -> float:
        """Percentage points that may be lost, or that the interval may reach down."""
        return self.max_drop + (self.tolerance or 0)

    def few(self, total: int) -> bool:
        """Whether so many images cannot show what is asked for."""
        return bool(self.tolerance) and self.asked < least_tolerance(total)

    def warning(self, total: int) -> str | None:
        """What is to be said at once of so few images; None if they are enough.

        >>> Guard(max_drop=0, tolerance=0.5).warning(539)
        '539 calibration images cannot show a change of 0.5 points: plans are judged by an \
interval that reaches at most 1.81 points down, an agreement of at least 95.7% and a KL of at most \
0.02 nats; it would take about 1,958 images'
        """
        if not self.few(total):
            return None
        return (
            f"{total:,} calibration images cannot show a change of {self.asked:g} points: plans "
            f"are judged by an interval that reaches at most {self._reach(total):.2f} points down, "
            f"an agreement of at least {least_agreement(total):.1%} and a KL of at most {KL_FEW:g} "
            f"nats; it would take about {images_to_show(self.asked):,} images"
        )

    def least_drop(self, paired: Pairing, close: Closeness | None) -> float:
        """The least ``max_drop``, in hundredths of a point, at which nothing speaks against a plan.

        Whatever holds at one holds at every larger one, so that it can be halved for.

        >>> guard, counts = Guard(max_drop=0, tolerance=0.5), Paired(4000, 3500, lost=80, won=80)
        >>> guard.least_drop(counts, Closeness(kl=0.01, changed=170))
        0.13
        """

        def holds(hundredths: int) -> bool:
            return replace(self, max_drop=hundredths / 100).judge(paired, close).holds

        return bisect_left(range(100 * 100), True, key=holds) / 100  # noqa: FBT003

    def _reach(self, total: int) -> float:
        """Points that the interval may reach down."""
        return least_tolerance(total) if self.few(total) else self.asked

    @property
    def asks(self) -> str:
        """What is asked, for messages."""
        if self.tolerance == 0:
            return f"an interval that reaches at most {self.max_drop:g} points down"
        return f"a drop of at most {self.max_drop:g} points"

    def _point(self, paired: Pairing) -> tuple[bool, str]:
        holds, found, allowed = paired.point(self.max_drop)
        return holds, f"{found if self.has_labels else paired.changed}; {allowed}"

    def _interval(self, paired: Pairing) -> tuple[bool, str]:
        low, least = 100 * self.counted(paired).interval[0], -self._reach(paired.total)
        holds = low >= least - 1e-9
        down = f"the change may be as low as {low:.2f} points; allowed is {least:.2f}"
        if self.balanced:
            return holds, f"if half of what changed is lost, {down} ({paired.changed})"
        if self.has_labels:
            return holds, f"{down} ({paired.seen})"
        agreement = f"agreement may be as low as {100 + low:.2f} %; allowed is {100 + least:.2f} %"
        return holds, f"{agreement} ({paired.changed})"

    def counted(self, paired: Pairing) -> Pairing:
        """What counts as lost and won: half of what changed each, if that is balanced."""
        return paired.even() if self.balanced else paired
