"""Where a long run is, shown on standard error: live on a terminal, a line a phase elsewhere."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


class LiveProgress:
    """Phase, layer, share done, trials, best so far and time left of the phase."""

    def __init__(self, console: Console) -> None:
        """Show on ``console``."""
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[best]}{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._best = ""
        self._trials = 0
        self._counts = False

    def __enter__(self) -> "LiveProgress":
        """Begin to show."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the display."""
        self._bar.stop()

    def start(self, phase: str, total: int) -> None:
        """Show a new phase."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._counts = "phase" in phase
        self._task = self._bar.add_task(phase, total=total, best=self._best, detail="")

    def step(self, detail: str, amount: int = 1) -> None:
        """Advance the bar."""
        if self._task is None:
            return
        self._trials += self._counts
        tried = f"trial {self._trials}: " if self._counts else ""
        self._bar.update(self._task, advance=amount, best=self._best, detail=tried + detail)

    def best(self, compression: float, share: float, measured: str) -> None:
        """Show the best so far."""
        self._best = f"best {compression:.1%} at {measured} {share:.2%}; "


class LineProgress:
    """One line when a phase begins, with the best so far: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Print on ``console``."""
        self._console = console
        self._best = ""

    def start(self, phase: str, total: int) -> None:
        """Print the phase."""
        self._console.print(f"{phase}{self._best}", highlight=False)

    def step(self, detail: str, amount: int = 1) -> None:
        """Print nothing: the log does not grow with the number of channels."""

    def best(self, compression: float, share: float, measured: str) -> None:
        """Remember the best for the next phase's line."""
        self._best = f" (best so far {compression:.2%} at {measured} {share:.2%})"
