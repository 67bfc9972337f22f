"""Whoever watches a search: is told how it goes, and may stop it."""

from collections.abc import Callable
from dataclasses import dataclass

from onnxsemi._progress import Progress
from onnxsemi._search.trajectory import Point


def _never() -> bool:
    return False


def _nothing() -> None:
    pass


def _ignore(_point: Point) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """What a search tells and asks while it goes on.

    Attributes:
        progress: Told of every trial.
        out_of_time: Asked before every trial whether to stop and give the best so far.
        ending: Told that the search ends for want of time; what it measures then was counted in.
        improved: Told of every point that is the best so far.
        settled: Told of the best point when a phase ends that found a better one.
        measured: What the share of right answers is: top-1, or agreement without labels; or the
            metric whose mean it is.
    """

    progress: Progress
    out_of_time: Callable[[], bool] = _never
    ending: Callable[[], None] = _nothing
    improved: Callable[[Point], None] = _ignore
    settled: Callable[[Point], None] = _ignore
    measured: str = "top-1"

    def best(self, point: Point) -> None:
        """Tell of the best point so far."""
        self.progress.best(point.plan.compression, point.score.accuracy, self.measured)
        self.improved(point)
