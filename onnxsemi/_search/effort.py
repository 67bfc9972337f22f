"""How much work a search is: how many images there are for each part, and of tries.

What is given wins; the rest is filled in.
"""

from dataclasses import dataclass
from enum import StrEnum


class Effort(StrEnum):
    """How much work a search is."""

    LOW = "low"
    """Fewer images for rounding and Δloss, and the first plan that holds: an answer soon."""
    MEDIUM = "medium"
    """All calibration images to judge plans by, and as many to round on as pay off."""
    HIGH = "high"
    """More images for rounding and Δloss, and more tries: the last tenths of a point."""

    @property
    def options(self) -> "EffortOptions":
        """What it comes to."""
        return _OPTIONS[self]


@dataclass(frozen=True)
class EffortOptions:
    """Options of an effort.

    Attributes:
        search_samples: Images that plans are measured on; None for all.
        rounding_samples: Of these, those that weights are rounded on.
        delta_loss_samples: Of the others, those for Δloss and the fast KL.
        tries: Semilayers that are tried on top of the best plan of the frontier.
        caution: Places of the frontier before the one where the last plan that holds is expected;
            the first plan from there on that holds is taken. 0 to look for the last.
        patience: Plans of the frontier that are measured until the first that holds will do; what
            holds behind a plan that fails is luck, and each takes as long as the others.
    """

    search_samples: int | None
    rounding_samples: int
    delta_loss_samples: int
    tries: int
    caution: int = 0
    patience: int = 4


_OPTIONS = {
    Effort.LOW: EffortOptions(None, 256, 128, 0, caution=4),
    Effort.MEDIUM: EffortOptions(None, 1024, 512, 4),
    Effort.HIGH: EffortOptions(None, 4096, 2048, 12, patience=8),
}
