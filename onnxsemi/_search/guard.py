"""When the calibration images speak against a plan.

*point* (the paper's): the plan breaks more answers than it fixes, by more than is allowed.

    broken - fixed  >  max_drop * n

A point estimate fails both ways: it refuses a plan for one image in two thousand, and takes one
that loses half a point if that many images fell well.

*interval*: the paired 95 % interval of the change reaches too far down.

    lower end of the interval of (fixed - broken) / n  <  -max_drop

A plan that changes few answers may break some of them by chance; the more it changes, the more of
them it must fix. That bounds how far the accuracy on other images may lie. On few images even a
plan that changes nothing has an interval wider than what is allowed: then nothing can hold.

*interval within a tolerance* (the frontier's, unless told otherwise): it may reach below that by a
tolerance (:mod:`onnxsemi._search.tolerance`).

Without labels the float model's answers count as right, so that every answer that changes is
broken: what is asked is asked of the agreement.

By a metric a *point* is a hundredth of it, and the interval is that of its mean
(:mod:`onnxsemi._stats.means`). It is taken to run from 0 to 1: then no image changes it by more
than a right answer changes the accuracy, and as many images show as much.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass, replace
from enum import StrEnum

from onnxsemi._errors import SettingsError
from onnxsemi._search.protocols import Closeness
from onnxsemi._stats.comparison import Comparison
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing, PerImage, pair

SIGNIFICANT = 0.05
ROOM = (0.1, 3.0)
"""Beyond, what little or much changed says no more of how it would grow."""
_ROUNDING = 1e-9


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


@dataclass(frozen=True)
class Shown:
    """What other images show of what was asked.

    Attributes:
        holds: Whether they show that it holds.
        reason: What they show of the change, in words.
        images_needed: How many would settle it, at the shares seen here; None if it is settled, or
            if no number is enough.
    """

    holds: bool
    reason: str
    images_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Guard(ABC):
    """What is asked of a plan.

    Attributes:
        max_drop: Percentage points of accuracy, or of agreement without labels, that may be lost.
        has_labels: Whether right answers are known; else those of the float model count as right.
    """

    max_drop: float
    has_labels: bool = True

    @property
    def asked(self) -> float:
        """Percentage points that may be lost, or that the interval may reach down."""
        return self.max_drop

    @property
    def asks(self) -> str:
        """What is asked, for messages."""
        return f"a drop of at most {self.max_drop:g} points"

    @property
    def how(self) -> str:
        """How answers are counted, behind a reason; empty for as they are."""
        return ""

    @property
    def asked_again(self) -> bool:
        """Whether the choice asks points that the search took once more."""
        return False

    @property
    def balance(self) -> "Guard":
        """What is asked of how many answers change, whichever way they fell: the same."""
        return self

    def with_labels(self, *, has_labels: bool) -> "Guard":
        """The same for images with labels, or without."""
        return replace(self, has_labels=has_labels)

    def check_images(self, count: int) -> None:
        """Refuse to ask for what so few images can never show.

        Raises:
            SettingsError: With the least drop for them, and the least number for the drop.
        """
        del count  # any number is enough

    def few(self, total: int) -> bool:
        """Whether so many images cannot show what is asked for."""
        del total
        return False

    def warning(self, total: int) -> str | None:
        """What is to be said at once of so few images; None if they are enough."""
        del total
        return None

    def counted(self, paired: Pairing) -> Pairing:
        """What counts as broken and fixed."""
        return paired

    def judge(self, paired: Pairing, close: Closeness | None = None) -> Finding:
        """Everything there is to say of the counts, and on few images of agreement and KL."""
        del close
        holds, text = self.look(paired)
        return Finding(holds, text, self.images_for(paired), self.asked, self.asked)

    @abstractmethod
    def look(self, paired: Pairing) -> tuple[bool, str]:
        """Whether the counts hold what is asked, and what was found and is allowed."""

    def images_for(self, paired: Pairing) -> int | None:
        """How many images would tell a drop of what is asked; None if these do, or none can."""
        counted, asked = self.counted(paired), self.asked / 100
        return counted.images_for(asked) if counted.half_width > asked else None

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

        >>> PointGuard(max_drop=0).against(Paired(4000, 3500, broken=21, fixed=20))
        '1 more broken than fixed of 4,000; allowed are 0'
        """
        finding = self.judge(paired, close)
        return None if finding.holds else finding.text

    def room(self, paired: Pairing, close: Closeness) -> float:
        """How many times as much might change until something speaks against it, within ``ROOM``.

        >>> PointGuard(max_drop=1).room(Paired(4000, 3500, broken=25, fixed=5), Closeness(0, 30))
        2.02
        """

        def refused(percent: int) -> bool:
            factor = percent / 100
            return not self.judge(paired.scaled(factor), close.scaled(factor)).holds

        least, most = (round(100 * factor) for factor in ROOM)
        found = bisect_left(range(least, most), True, key=refused)  # noqa: FBT003
        return (least + max(0, found - 1)) / 100

    def least_drop(self, paired: Pairing, close: Closeness | None) -> float:
        """The least ``max_drop``, in hundredths of a point, at which nothing speaks against a plan.

        Whatever holds at one holds at every larger one, so that it can be halved for.
        """

        def holds(hundredths: int) -> bool:
            return replace(self, max_drop=hundredths / 100).judge(paired, close).holds

        return bisect_left(range(100 * 100), True, key=holds) / 100  # noqa: FBT003

    def shown(self, comparison: Comparison, coverage: float) -> Shown:
        """What other images show, by an interval of some coverage."""
        paired, least = self.counted(comparison.answers), -self.asked / 100
        if paired.interval_at(coverage)[0] >= least - _ROUNDING:
            return Shown(holds=True, reason=f"cannot lie below {100 * least:g} points")
        room = paired.change - least
        needed = paired.images_for(room, coverage) if room > 0 else None
        return Shown(False, f"may lie below {100 * least:g} points", needed)  # noqa: FBT003

    def loss(self, comparison: Comparison, coverage: float) -> str | None:
        """The loss that other images show; None if they show none."""
        paired, most = self.counted(comparison.answers), self.max_drop
        high, significant = paired.interval_at(coverage)[1], paired.loss(SIGNIFICANT)
        if not most and self.has_labels and significant is not None:
            return f"is a significant loss, {significant}"
        if high < -self.asked / 100:
            return f"lies below {-self.asked:g} points"
        more = most and high < -most / 100
        return f"is a loss of significantly more than {most:g} points" if more else None


@dataclass(frozen=True, kw_only=True)
class PointGuard(Guard):
    """Asks the change that was seen."""

    def look(self, paired: Pairing) -> tuple[bool, str]:
        """Whether no more is lost than is allowed."""
        holds, found, allowed = paired.point(self.max_drop)
        return holds, f"{found if self.has_labels else paired.changed}; {allowed}"

    def shown(self, comparison: Comparison, coverage: float) -> Shown:
        """Whether no more is lost there, either; no number of images would settle it."""
        del coverage
        holds, _, _ = comparison.answers.point(self.max_drop)
        extent = "no more" if holds else "more"
        return Shown(holds, f"is a loss of {extent} than {self.max_drop:g} points")


@dataclass(frozen=True, kw_only=True)
class IntervalGuard(Guard):
    """Asks the lower end of the paired interval."""

    @property
    def asks(self) -> str:
        """What is asked, for messages."""
        return f"an interval that reaches at most {self.max_drop:g} points down"

    @property
    def asked_again(self) -> bool:
        """The paper's search asks counts alone, whatever is asked of its choice."""
        return True

    def check_images(self, count: int) -> None:
        """Refuse to ask for what so few images can never show.

        Raises:
            SettingsError: With the least drop for them, and the least number for the drop.
        """
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

    def look(self, paired: Pairing) -> tuple[bool, str]:
        """Whether the interval reaches no further down than is allowed."""
        low = 100 * paired.interval[0]
        return low >= -self.asked - _ROUNDING, interval_text(self, paired, -self.asked)


def interval_text(guard: Guard, paired: Pairing, least: float) -> str:
    """How far down an interval reaches, and how far it may, in points."""
    low = 100 * guard.counted(paired).interval[0]
    if guard.has_labels:
        down = f"the change may be as low as {low:.2f} points; allowed is {least:.2f}"
        return f"{down} ({paired.seen})"
    agreement = f"agreement may be as low as {100 + low:.2f} %; allowed is {100 + least:.2f} %"
    return f"{agreement} ({paired.changed})"
