"""What ``compress`` raises when no plan holds what was asked: with everything that was measured."""

from pathlib import Path

from onnxsemi._errors import AccuracyError
from onnxsemi._run.frontier import KeptFrontier, KeptPoint


class NothingHoldsError(AccuracyError):
    """Plans were measured, but none holds what was asked.

    Attributes:
        frontier: Every measured plan, and every other point of the frontier.
        best: The measured plan that needs the least to be allowed more.
        max_drop: The least ``max_drop``, in percentage points, at which nothing speaks against it.
        run: The run's folder, which ``apply`` and ``pareto`` take; None if nothing was kept.
    """

    def __init__(
        self,
        message: str,
        *,
        frontier: KeptFrontier,
        best: KeptPoint,
        max_drop: float,
        run: Path | None,
    ) -> None:
        super().__init__(message)
        self.frontier = frontier
        self.best = best
        self.max_drop = max_drop
        self.run = run
