"""Where along the frontier the last plan lies that changes few enough answers, by those seen.

What is seen of a plan says how many times as many answers might change: its *room* r. The number of
answers that change grows about with a power of the KL, a half where the KL is small:

    log(1 / r) = power * (log KL - log KL of the boundary) + noise

(Measured by ``benchmarks/scouting.py``.) Both unknowns are fitted to all plans seen, the power held
near a half as long as nothing speaks against it. Counts are small numbers, and the rule is a rule
of thumb, which says less the farther a plan is from the boundary; each counts for

    1 / (NOISE^2 + (MISFIT log r)^2)

The KL is the predicted one, as it stands now: what predictions are off by at a plan they are off by
at those nearby. How many answers change is about the same in a quick look, where the KL is larger.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.frontier_course import Course

TYPICAL = 0.01
"""Nats per sample: where to begin. At 0.02 at most 10 % of the answers change (Pinsker)."""
NOISE = 0.2
MISFIT = 0.25
POWER = 0.5
SPREAD = 0.15
"""Of the power, before anything is seen."""
_LEAST_POWER = 0.2
_LEAST_KL = 1e-12


@dataclass(frozen=True)
class Seen:
    """What was seen of a plan.

    Attributes:
        plan: The plan.
        room: How many times as many answers might change, above 0.
    """

    plan: BitPlan
    room: float


@dataclass
class Boundary:
    """What is known of it.

    Attributes:
        course: The frontier.
        seen: Plans of it, or others.
    """

    course: Course
    seen: list[Seen] = field(default_factory=list)

    @property
    def place(self) -> int:
        """The last place that is expected to change few enough answers; -1 if none is."""
        return self.course.last_within(self.kl)

    @property
    def kl(self) -> float:
        """The KL at which as many answers are expected to change as may, nats per sample."""
        if not self.seen:
            return TYPICAL
        changes = np.array([-math.log(seen.room) for seen in self.seen])
        known = [self.course.prediction.of(seen.plan) for seen in self.seen]
        logs = np.log(np.maximum(known, _LEAST_KL))
        weights = 1 / (NOISE**2 + (MISFIT * changes) ** 2)
        middle, level = np.average(logs, weights=weights), np.average(changes, weights=weights)
        seen, before = float(weights @ (logs - middle) ** 2), 1 / SPREAD**2
        found = float(weights @ ((logs - middle) * (changes - level)))
        power = max(_LEAST_POWER, (found + POWER * before) / (seen + before))
        return math.exp(middle - level / power)
