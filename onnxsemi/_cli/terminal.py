"""Where a long run is, shown on standard error: live on a terminal, a line a phase elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from onnxsemi._cli.flags import with_flags
from onnxsemi._progress import Silent
from onnxsemi._visible import shown_line

LINE_SECONDS = 60.0
"""Between two lines about the same phase."""
MOMENT_SECONDS = 1.0
RECALL_SECONDS = 0.5
_ROOM = 3  # columns left free: ^C is echoed there, and would break a full line
_WIDE = 72  # columns from which there is room for a long bar
Now = Callable[[], float]


class _Phase:
    """How far a phase is, and what is left of it."""

    def __init__(self, name: str, total: int, now: Now) -> None:
        self.name, self.total, self.done = name, total, 0
        self._now, self._began = now, now()
        self._last = self._measured = self._began  # since when steps tell how long one takes
        self._recalled = 0

    @property
    def counted(self) -> bool:
        """Whether it has steps that can be counted."""
        return self.total > 1

    def step(self, amount: int) -> None:
        self.done += amount
        if amount:
            self._last = self._now()
            if self.elapsed < RECALL_SECONDS:  # a run that is taken up again knows these already
                self._recalled, self._measured = self.done, self._last

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._now() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until it ends if steps go on as they did; None if that is not known."""
        steps = self.done - self._recalled
        if not self.counted or not steps:
            return None
        since, so_far = self._now() - self._last, self._now() - self._measured
        each = max((self._last - self._measured) / steps, so_far / (steps + 1))
        return max(0.0, (self.total - self.done) * each - min(since, each))


class LiveProgress:
    """Two lines: phase, share done, time and time left; best so far and what is worked on."""

    def __init__(self, console: Console, now: Now = time.monotonic) -> None:
        """Show on ``console``; ``now`` gives seconds."""
        self._live = Live(
            self, console=console, transient=True, refresh_per_second=8, redirect_stdout=False
        )
        self._now = now
        self._spinner = Spinner("dots")
        self._phase: _Phase | None = None
        self._best = ""
        self._detail = ""
        self._trials = 0
        self._end: float | None = None  # of the whole run, as far as it is known

    def __enter__(self) -> "LiveProgress":
        """Begin to show."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the display."""
        self._live.stop()

    def start(self, phase: str, total: int) -> None:
        """Show a new phase."""
        self._phase, self._detail = _Phase(phase, total, self._now), ""

    def step(self, detail: str, amount: int = 1) -> None:
        """Advance the bar."""
        if self._phase is None:
            return
        self._phase.step(amount)
        searching = "phase" in self._phase.name
        self._trials += amount if searching else 0
        running = self._trials + (0 if amount else 1)
        self._detail = f"trial {running}: {detail}" if searching else detail

    def expect(self, seconds: float) -> None:
        """Show what is left of the whole run instead of what is left of the phase."""
        self._end = self._now() + seconds

    def best(self, compression: float, share: float, measured: str) -> None:
        """Show the best so far."""
        self._best = f"best {compression:.2%} smaller, {measured} {share:.2%}"

    def warn(self, warning: str) -> None:
        """Print a warning above the display."""
        print_warning(self._live.console, warning)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Both lines, narrower than the terminal."""
        if self._phase is None:
            return
        options = options.update_width(max(1, options.max_width - _ROOM))
        said = shown_line("; ".join(filter(None, (self._best, self._detail))))
        below = Text(f"  {said}", "dim", no_wrap=True, overflow="ellipsis")
        both = Group(self._bar(self._phase, options.max_width), below)
        yield from console.render(both, options)

    def _bar(self, phase: _Phase, width: int) -> Table:
        row = Table.grid(padding=(0, 1), pad_edge=False, expand=True)
        row.add_column(width=1)
        row.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for columns in (16 if width >= _WIDE else 6, 4, 7, 13):
            row.add_column(no_wrap=True, width=columns, justify="right")
        known = phase.counted
        row.add_row(
            self._spinner,
            Text(phase.name),
            ProgressBar(phase.total if known else None, phase.done, pulse=not known),
            f"{phase.done / phase.total:.0%}" if known else "",
            clock(phase.elapsed),
            _left(phase, self._end, self._now),
        )
        return row


class LineProgress:
    """A line for a phase that takes longer than a moment, and one a minute: for logs and pipes."""

    def __init__(self, console: Console, now: Now = time.monotonic) -> None:
        """Print on ``console``; ``now`` gives seconds."""
        self._console = console
        self._now = now
        self._phase: _Phase | None = None
        self._best = ""
        self._said: float | None = None  # when a line about the phase was last printed
        self._end: float | None = None

    def start(self, phase: str, total: int) -> None:
        """Remember the phase: what fails at once is told by its error alone."""
        self._phase, self._said = _Phase(phase, total, self._now), None

    def step(self, detail: str, amount: int = 1) -> None:
        """Print the phase after a moment, and how far it is after each minute.

        The log does not grow with the number of channels.
        """
        phase = self._phase
        if phase is None:
            return
        phase.step(amount)
        if self._said is None and phase.elapsed >= MOMENT_SECONDS:
            self._print(phase.name)
        elif self._said is not None and self._now() - self._said >= LINE_SECONDS:
            how_far = f"{phase.done:,} of {phase.total:,}, {clock(phase.elapsed)}"
            left = _left(phase, self._end, self._now)
            self._print(f"{phase.name}: {how_far}{', ' if left else ''}{left}")

    def expect(self, seconds: float) -> None:
        """Tell what is left of the whole run in the next line."""
        self._end = self._now() + seconds

    def best(self, compression: float, share: float, measured: str) -> None:
        """Remember the best for the next line."""
        self._best = f"; best so far {compression:.2%} smaller, {measured} {share:.2%}"

    def warn(self, warning: str) -> None:
        """Print a warning."""
        print_warning(self._console, warning)

    def _print(self, text: str) -> None:
        self._said = self._now()
        self._console.print(
            shown_line(f"{text}{self._best}"),
            highlight=False,
            markup=False,
            soft_wrap=True,
            emoji=False,
        )


def _left(phase: _Phase, end: float | None, now: Now) -> str:
    """What is left of the whole run, or if that is not known of its phase; empty if neither is."""
    if end is not None:
        whole = end - now()
        return f"~{clock(whole)} left" if whole > 0 else ""
    return "" if phase.left is None else f"{clock(phase.left)} left"


class OnlyWarnings(Silent):
    """Nothing but warnings, a line each."""

    def __init__(self, console: Console) -> None:
        """Print on ``console``."""
        self._console = console

    def warn(self, warning: str) -> None:
        """Print a warning."""
        print_warning(self._console, warning)


def print_warning(console: Console, warning: str) -> None:
    """One line, however long."""
    text = warning_line(warning)
    console.print(text, highlight=False, markup=False, soft_wrap=True, emoji=False)


def warning_line(warning: str) -> str:
    """A warning of the library as the command line says it."""
    return shown_line(f"warning: {with_flags(warning)}")


def clock(seconds: float) -> str:
    """Hours, minutes, seconds.

    >>> clock(7.4), clock(3725)
    ('0:07', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
