"""Whatever a caller follows a run with: an object of :class:`Progress`, a function, or the log.

The log is ``logging.getLogger("onnxsemi")``: phases and new bests at level INFO, warnings at
WARNING. It does not grow with the number of channels or images.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from onnxsemi._progress import Expecting, Progress, Silent, Warned
from onnxsemi._visible import shown_line

LOG = logging.getLogger("onnxsemi")
LOG.addHandler(logging.NullHandler())  # else Python prints warnings to standard error by itself
BETWEEN_CALLS = 0.1
"""Seconds between two steps that a function is told of: some take no longer than a millisecond."""


@dataclass(frozen=True)
class Event:
    """What a function is told; as text a line, so that ``progress=print`` shows what goes on.

    Attributes:
        phase: What is being done; "best" and "warning" tell of these in ``detail``.
        done: Steps of the phase that are done.
        total: Steps that it takes at most.
        detail: What the last of them worked on.
        left: Seconds that the whole run is likely to take from here; None if it is not known.
    """

    phase: str
    done: int = 0
    total: int = 0
    detail: str = ""
    left: float | None = None

    def __str__(self) -> str:
        """One line.

        >>> str(Event("rounding", 3, 22, "layer1.0.conv1"))
        'rounding: 3 of 22: layer1.0.conv1'
        """
        counted = f"{self.done:,} of {self.total:,}" if self.total > 1 else ""
        return shown_line(": ".join(filter(None, (self.phase, counted, self.detail))))


Listener = Progress | Callable[[Event], object]


def listening(progress: Listener | None) -> Progress:
    """What a pipeline tells where it is: the log, and ``progress``.

    Raises:
        TypeError: If ``progress`` is neither a function nor has the methods of a progress.
    """
    if progress is None:
        return _Logged(Silent())
    if not isinstance(progress, type):
        if isinstance(progress, Progress):
            return progress if isinstance(progress, _Logged) else _Logged(progress)
        if callable(progress):
            return _Logged(_Calls(progress))
    raise TypeError(
        "progress must be a function of one argument, or an object with the methods start, step "
        f"and best, not {progress!r}"
    )


class _Logged:
    """Writes to the log what is worth a line, and passes everything on."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def start(self, phase: str, total: int) -> None:
        LOG.info("%s", shown_line(phase))
        self._inner.start(phase, total)

    def step(self, detail: str, amount: int = 1) -> None:
        self._inner.step(detail, amount)

    def best(self, compression: float, share: float, measured: str) -> None:
        LOG.info("%s", _best(compression, share, measured))
        self._inner.best(compression, share, measured)

    def warn(self, warning: str) -> None:
        LOG.warning("%s", shown_line(warning))
        if isinstance(self._inner, Warned):
            self._inner.warn(warning)

    def expect(self, seconds: float) -> None:
        if isinstance(self._inner, Expecting):
            self._inner.expect(seconds)


class _Calls:
    """Calls a function."""

    def __init__(self, function: Callable[[Event], object]) -> None:
        self._function = function
        self._phase, self._done, self._total = "", 0, 0
        self._left: float | None = None
        self._called = -BETWEEN_CALLS

    def start(self, phase: str, total: int) -> None:
        self._phase, self._done, self._total = phase, 0, total
        self._call(Event(phase, 0, total, left=self._left))

    def step(self, detail: str, amount: int = 1) -> None:
        self._done += amount
        if time.monotonic() - self._called >= BETWEEN_CALLS or self._done == self._total:
            self._call(Event(self._phase, self._done, self._total, detail, self._left))

    def best(self, compression: float, share: float, measured: str) -> None:
        self._call(Event("best", detail=_best(compression, share, measured), left=self._left))

    def warn(self, warning: str) -> None:
        self._call(Event("warning", detail=warning, left=self._left))

    def expect(self, seconds: float) -> None:
        self._left = seconds

    def _call(self, event: Event) -> None:
        self._called = time.monotonic()
        self._function(event)


def _best(compression: float, share: float, measured: str) -> str:
    return f"{compression:.2%} smaller, {measured} {share:.2%}"
