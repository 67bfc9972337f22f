"""The interval within a tolerance: what the frontier asks of a plan unless it is told otherwise.

    lower end of the paired 95 % interval of (fixed - broken) / n  >=  -(max_drop + tolerance)

Where the images are too few to show that (:mod:`onnxsemi._search.few_images`), the interval may
reach down by what they can show, and the split into broken and fixed, the agreement and the KL are
asked too.

*balanced*: half of what changes is counted as broken, whichever way it fell: without labels it is
not known which changes are losses, and of those that fell well many may be luck.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace

from onnxsemi._search.few_images import (
    KL_FEW,
    images_to_show,
    least_agreement,
    least_tolerance,
    objections,
)
from onnxsemi._search.guard import Finding, Guard, interval_text
from onnxsemi._search.protocols import Closeness
from onnxsemi._stats.comparison import Comparison, exact_interval
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class ToleranceGuard(Guard):
    """Asks an interval that may reach below what may be lost by a tolerance.

    Attributes:
        tolerance: Percentage points.
        balanced: Whether half of what changes is counted as broken, whichever way it fell.
    """

    tolerance: float
    balanced: bool = False

    @property
    def asked(self) -> float:
        """Percentage points that the interval may reach down."""
        return self.max_drop + self.tolerance

    @property
    def how(self) -> str:
        """How answers are counted, behind a reason."""
        return ", half of what changed counted as broken" if self.balanced else ""

    @property
    def balance(self) -> Guard:
        """What is asked of how many answers change: half of them count as broken."""
        return replace(self, balanced=True)

    def with_labels(self, *, has_labels: bool) -> Guard:
        """The same for images with labels; without them, half of what changes counts as broken."""
        return replace(self, has_labels=has_labels, balanced=not has_labels)

    def few(self, total: int) -> bool:
        """Whether so many images cannot show what is asked for."""
        return self.asked < least_tolerance(total)

    def warning(self, total: int) -> str | None:
        """What is to be said at once of so few images; None if they are enough.

        >>> ToleranceGuard(max_drop=0, tolerance=0.5).warning(539)
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

    def counted(self, paired: Pairing) -> Pairing:
        """What counts as broken and fixed: half of what changed each, if that is balanced."""
        return paired.even() if self.balanced else paired

    def judge(self, paired: Pairing, close: Closeness | None = None) -> Finding:
        """Everything there is to say of the counts, and on few images of agreement and KL.

        >>> guard = ToleranceGuard(max_drop=0, tolerance=0.5)
        >>> guard.against(Paired(4000, 3500, broken=21, fixed=20))
        >>> guard.against(Paired(4000, 3500, broken=80, fixed=80))
        'the change may be as low as -0.62 points; allowed is -0.50 (80 broken, 80 fixed of 4,000)'
        >>> close = Closeness(kl=0.03, changed=15)
        >>> guard.against(Paired(539, 480, broken=7, fixed=4), close)
        'the KL may be 0.03 nats, allowed are 0.02; the change may be as low as -1.86 points; \
allowed is -1.81 (7 broken, 4 fixed of 539), which is what so few images can show'
        >>> guard.least_drop(Paired(4000, 3500, broken=80, fixed=80), close)
        0.13

        Raises:
            ValueError: If the images are few, and it is not said how close the plan is.
        """
        if not self.few(paired.total):
            return super().judge(paired)
        if close is None:
            raise ValueError(f"{paired.total} images are few: the KL is asked for too")
        holds, text = self.look(paired)
        more = objections(self.counted(paired), close)
        whole = "; ".join((*more, f"{text}, which is what so few images can show"))
        most = max(self.images_for(paired) or 0, images_to_show(self.asked))
        return Finding(holds and not more, whole, most, self.asked, self._reach(paired.total))

    def look(self, paired: Pairing) -> tuple[bool, str]:
        """Whether the interval reaches no further down than is allowed, or can be shown."""
        low, least = 100 * self.counted(paired).interval[0], -self._reach(paired.total)
        holds = low >= least - _ROUNDING
        if not self.balanced:
            return holds, interval_text(self, paired, least)
        down = f"the change may be as low as {low:.2f} points; allowed is {least:.2f}"
        return holds, f"if half of what changed is broken, {down} ({paired.changed})"

    def loss(self, comparison: Comparison, coverage: float) -> str | None:
        """The loss that other images show; if that is balanced, that more changed than may."""
        return self._changes(comparison) if self.balanced else super().loss(comparison, coverage)

    def _changes(self, comparison: Comparison) -> str | None:
        """Whether more answers changed than are allowed, and not by chance."""
        images, changed = comparison.images, comparison.images - comparison.same

        def refused(count: int) -> bool:
            counts, close = Paired(images, images, broken=count, fixed=0), Closeness(0.0, count)
            return not self.judge(counts, close).holds

        most = max(0, bisect_left(range(images + 1), True, key=refused) - 1)  # noqa: FBT003
        if exact_interval(changed, images)[0] <= most / images:
            return None
        return f"is in {changed:,} answers, significantly more than the {most:,} that may change"

    def _reach(self, total: int) -> float:
        """Points that the interval may reach down."""
        return least_tolerance(total) if self.few(total) else self.asked
