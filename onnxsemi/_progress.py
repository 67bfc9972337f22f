"""The protocol through which long work reports where it is. The library itself prints nothing."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Receives what a long run is doing. A call returns quickly and changes no result."""

    def start(self, phase: str, total: int) -> None:
        """A phase begins that takes at most ``total`` steps."""

    def step(self, detail: str, amount: int = 1) -> None:
        """``amount`` steps of the current phase are done; ``detail`` names what they worked on."""

    def best(self, compression: float, share: float, measured: str) -> None:
        """The best found so far.

        Args:
            compression: Of the targets, 0 to 1.
            share: Of the calibration images that are answered rightly, 0 to 1; or a metric's mean.
            measured: What that is: top-1, or agreement where the float model's answers are right;
                or the metric's name.
        """


@runtime_checkable
class Warned(Protocol):
    """A progress that is told of warnings, too; one without the method is not."""

    def warn(self, warning: str) -> None:
        """Something about the model or the images is likely to be wrong."""


@runtime_checkable
class Expecting(Protocol):
    """A progress that is told what is left of the whole run, too; one without is not."""

    def expect(self, seconds: float) -> None:
        """The whole run is likely to take so many more seconds."""


def warn(progress: Progress, warnings: Iterable[str]) -> None:
    """Tell warnings to a progress that takes them."""
    if isinstance(progress, Warned):
        for warning in warnings:
            progress.warn(warning)


class Silent:
    """Reports nothing."""

    def start(self, phase: str, total: int) -> None:
        """Ignore the start of a phase."""

    def step(self, detail: str, amount: int = 1) -> None:
        """Ignore a step."""

    def best(self, compression: float, share: float, measured: str) -> None:
        """Ignore a new best."""


class Within:
    """Shows phases inside a step of another phase as its detail: ``rounding 13 of 22``."""

    def __init__(self, outer: Progress) -> None:
        """Tell ``outer``, and leave its count of steps as it is."""
        self._outer = outer
        self._phase, self._done, self._total = "", 0, 0

    def start(self, phase: str, total: int) -> None:
        """A phase inside begins."""
        self._phase, self._done, self._total = phase, 0, total
        self.step("", 0)

    def step(self, detail: str, amount: int = 1) -> None:
        """Part of it is done; ``detail`` is left out."""
        del detail
        self._done += amount
        self._outer.step(f"{self._phase} {self._done:,} of {self._total:,}", 0)

    def best(self, compression: float, share: float, measured: str) -> None:
        """Pass on a new best."""
        self._outer.best(compression, share, measured)
