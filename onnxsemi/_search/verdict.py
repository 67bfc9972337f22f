"""What may be claimed of a compressed model, by images that the search never saw.

*holds*: the 95 % interval of the change does not reach below what was asked for.
*fails*: it lies below that as a whole, or the loss is significant:

    no loss is allowed     broken > fixed, and McNemar's exact p < 0.05; of a metric's mean: its
                           95 % interval lies below 0
    some loss is allowed   upper end of the interval  <  -max_drop

*unproven*: neither; as many images as it would take are named.

Without labels what is asked is asked of the agreement. Within a tolerance half of what changes is
taken to be broken, so that no number of changes is a loss in itself: it fails there if the share of
changed answers is significantly (exact, 95 %) above what the guard allows on so many images.

Images that were asked once can be asked again, but the best of several looks is flattered. Of *k*
looks each interval has a coverage of ``1 - 0.05 / k`` (Bonferroni), so that all of them together
hold with 95 %.
"""

from dataclasses import dataclass
from enum import StrEnum

from onnxsemi._search.guard import SIGNIFICANT, Guard, Shown
from onnxsemi._stats.comparison import Comparison


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
    coverage = 1 - SIGNIFICANT / looks
    interval = guard.counted(comparison.answers).interval_at(coverage)
    loss, shown = guard.loss(comparison, coverage), guard.shown(comparison, coverage)
    outcome = Outcome.HOLDS if shown.holds else Outcome.UNPROVEN
    if loss is not None:
        outcome, shown = Outcome.FAILS, Shown(holds=False, reason=loss)
    reason = f"{shown.reason}{guard.how}"
    return Verdict(outcome, reason, guard.asked, interval, shown.images_needed, looks)
