"""What may be claimed of a compressed model, by images that the search never saw.

*holds*: the 95 % interval of the change does not reach below what was asked for.
*fails*: it lies below that as a whole, or the loss is significant:

    no loss is allowed     lost > won, and McNemar's exact p < 0.05; of a metric's mean: its 95 %
                           interval lies below 0
    some loss is allowed   upper end of the interval  <  -max_drop

*unproven*: neither; as many images as it would take are named.

Without labels what is asked is asked of the agreement. Within a tolerance half of what changes is
taken to be lost, so that no number of changes is a loss in itself: it fails there if the share of
changed answers is significantly (exact, 95 %) above what the guard allows on so many images.

Images that were asked once can be asked again, but the best of several looks is flattered. Of *k*
looks each interval has a coverage of ``1 - 0.05 / k`` (Bonferroni), so that all of them together
hold with 95 %.
"""

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

from onnxsemi.measure.comparison import Comparison, exact_interval
from onnxsemi.measure.paired import Paired
from onnxsemi.measure.pairing import Pairing
from onnxsemi.measure.seam import Closeness
from onnxsemi.search.guard import Guard

SIGNIFICANT = 0.05
_ROUNDING = 1e-9


class Outcome(StrEnum):
    """What the images say."""

    HOLDS = "holds"
    """What was asked for is shown."""
    UNPROVEN = "unproven"
    """Neither what was asked for nor a loss is shown."""
    FAILS = "fails"
    """A loss beyond what was asked for is shown."""


@dataclass(frozen=True)
class Verdict:
    """What may be claimed.

    Attributes:
        outcome: What the images say.
        reason: What the images say of the change, in words.
        asked: Percentage points that the interval may reach down.
        interval: Of the change, -1 to 1, at the coverage that ``looks`` leave.
        images_needed: How many images would settle it, at the shares seen here; None if it is
            settled, or if no number is enough.
        looks: How often these images were asked, this time included.
    """

    outcome: Outcome
    reason: str
    asked: float
    interval: tuple[float, float]
    images_needed: int | None
    looks: int = 1

    @property
    def coverage(self) -> float:
        """Of the interval, 0 to 1."""
        return 1 - SIGNIFICANT / self.looks

    @property
    def holds(self) -> bool:
        """Whether what was asked for is shown."""
        return self.outcome is Outcome.HOLDS

    @property
    def fails(self) -> bool:
        """Whether a loss beyond what was asked for is shown."""
        return self.outcome is Outcome.FAILS


def verdict(guard: Guard, comparison: Comparison, looks: int = 1) -> Verdict:
    """What may be claimed of a model that was compared with the float one.

    Args:
        guard: What was asked of the plan.
        comparison: Float against compressed, on images that the search never saw.
        looks: How often these images were asked, this time included.
    """
    paired, coverage = guard.counted(comparison.answers), 1 - SIGNIFICANT / looks
    interval = paired.interval_at(coverage)

    def said(outcome: Outcome, reason: str, needed: int | None = None) -> Verdict:
        how = ", half of what changed counted as lost" if guard.balanced else ""
        return Verdict(outcome, f"{reason}{how}", guard.asked, interval, needed, looks)

    loss = _loss(guard, comparison, paired, interval[1])
    if loss is not None:
        return said(Outcome.FAILS, loss)
    if guard.tolerance is None:  # the point is asked
        holds, _, _ = paired.point(guard.max_drop)
        if not holds:
            return said(Outcome.UNPROVEN, f"is a loss of more than {guard.max_drop:g} points")
        return said(Outcome.HOLDS, f"is a loss of no more than {guard.max_drop:g} points")
    least = -guard.asked / 100
    if interval[0] >= least - _ROUNDING:
        return said(Outcome.HOLDS, f"cannot lie below {100 * least:g} points")
    room = paired.change - least
    needed = paired.images_for(room, coverage) if room > 0 else None
    return said(Outcome.UNPROVEN, f"may lie below {100 * least:g} points", needed)


def _loss(guard: Guard, comparison: Comparison, paired: Pairing, high: float) -> str | None:
    """The loss that is shown; None if none is."""
    if guard.balanced:
        return _many_changes(guard, comparison)
    asked, most, shown = guard.asked, guard.max_drop, paired.loss(SIGNIFICANT)
    if not most and guard.has_labels and shown is not None:
        return f"is a significant loss, {shown}"
    if high < -asked / 100:
        return f"lies below {-asked:g} points"
    significant = most and high < -most / 100
    return f"is a loss of significantly more than {most:g} points" if significant else None


def _many_changes(guard: Guard, comparison: Comparison) -> str | None:
    """Whether more answers changed than are allowed, and not by chance."""
    images, changed = comparison.images, comparison.images - comparison.same

    def refused(count: int) -> bool:
        counts, close = Paired(images, images, lost=count, won=0), Closeness(0.0, count)
        return not guard.judge(counts, close).holds

    most = max(0, bisect_left(range(images + 1), True, key=refused) - 1)  # noqa: FBT003
    if exact_interval(changed, images)[0] <= most / images:
        return None
    return f"is in {changed:,} answers, significantly more than the {most:,} that may change"
