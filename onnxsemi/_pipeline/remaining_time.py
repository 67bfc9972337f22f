"""How long the rest of a run is likely to take.

Before the first plan of the frontier is measured: what a run usually takes, in forward passes over
the calibration images, less what has passed. From then on: as many plans as a run usually measures
from there, each as long as those so far took (the median).
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._progress import Expecting, Progress, warn
from onnxsemi._progress_callback import Listener, listening
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.journal import Question
from onnxsemi._run.spent import Spent
from onnxsemi._search.trajectory import Phase
from onnxsemi._sensitivity.forecast import forward_pass
from onnxsemi._settings import Settings

CROSSED = 2
"""How many times as many, where images are few and every plan is rounded twice."""
PLANS = {
    f"frontier phase, {Phase.FRONTIER}": 3,
    f"frontier phase, {Phase.LAYERS}": 1,
    f"frontier phase, {Phase.DESCENT}": 2,
    "writing and verifying": 1,
}
"""Plans that each phase usually measures, in their order (``benchmarks/search_cost.py``)."""
_RECALLED = 0.2  # seconds: a plan that takes less was measured before, and the run taken up again


class ForwardPass(Question, frozen=True):
    """What one float32 forward pass over so many images takes."""

    images: int


def passes_of(settings: Settings, images: int) -> tuple[int, int]:
    """Forward passes over so many calibration images that a run takes, from about to about."""
    few = CROSSED if settings.crosses(images) else 1
    least, most = settings.search.strategy.passes
    return few * least, few * most


def forecast(prepared: Prepared, run: RunFolder, progress: "Remaining", within: Progress) -> Spent:
    """Tell how long the run is likely to take.

    Args:
        prepared: Model and images.
        run: Recalls and keeps what a pass takes.
        progress: Told how long the run is likely to take.
        within: Told of every image that the float model runs on.

    Returns:
        What one float32 forward pass over the calibration images takes: the unit of cost.
    """
    workload = replace(prepared.workload(prepared.search), progress=within)
    asked = ForwardPass(len(workload.images))

    def measure() -> Spent:
        workload.float_logits()  # plans are compared with them
        return forward_pass(workload)

    one = run.journal.ask(asked, Spent, measure)
    progress.forecast(passes_of(prepared.settings, len(prepared.search)), one.seconds)
    return one


class Remaining:
    """Passes progress on, and tells what is left of the whole run wherever that is known better."""

    def __init__(
        self,
        progress: Listener | None,
        budget: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Tell ``progress``; no more is left than ``budget`` seconds from now on."""
        self._inner, self._now = listening(progress), now
        self._began = self._last = now()
        self._budget = budget
        self._whole: float | None = None
        self._phase, self._done, self._total = "", 0, 0
        self._plans: list[float] = []

    def forecast(self, passes: tuple[int, int], pass_seconds: float) -> None:
        """From what a pass takes, and from how many to how many of them a run does.

        Args:
            passes: Of the whole run.
            pass_seconds: Wall time of one.
        """
        self._whole = sum(passes) / len(passes) * pass_seconds
        self._tell()

    def start(self, phase: str, total: int) -> None:
        """Pass on the start of a phase."""
        self._phase, self._done, self._total = phase, 0, total
        self._inner.start(phase, total)
        self._tell()

    def step(self, detail: str, amount: int = 1) -> None:
        """Pass on a step; in the search it is a plan."""
        if amount and self._phase in PLANS:
            took, self._last = self._now() - self._last, self._now()
            if took > _RECALLED:
                self._plans.append(took)
        elif self._phase not in PLANS:
            self._last = self._now()
        self._done += amount
        self._inner.step(detail, amount)
        if amount:
            self._tell()

    def best(self, compression: float, share: float, measured: str) -> None:
        """Pass on a new best."""
        self._inner.best(compression, share, measured)

    def warn(self, warning: str) -> None:
        """Pass on a warning."""
        warn(self._inner, (warning,))

    @property
    def left(self) -> float | None:
        """Seconds that the rest is likely to take; None if that is not known."""
        elapsed, left = self._now() - self._began, None
        if self._plans:
            left = statistics.median(self._plans) * self._plans_left()
        elif self._whole is not None:
            left = max(0.0, self._whole - elapsed) or None
        if left is None or self._budget is None:
            return left
        return min(left, max(0.0, self._budget - elapsed))

    def _plans_left(self) -> int:
        names = list(PLANS)
        here = names.index(self._phase) if self._phase in PLANS else -1
        own = max(min(PLANS[names[here]], self._total) - self._done, 0) if here >= 0 else 0
        return own + sum(PLANS[name] for name in names[here + 1 :])

    def _tell(self) -> None:
        left = self.left
        if left is not None and isinstance(self._inner, Expecting):
            self._inner.expect(left)
