"""What ``bench`` gives back: times of models side by side."""

from dataclasses import dataclass
from pathlib import Path

from onnxsemi._short_form import Brief


@dataclass(frozen=True)
class TimeSpread:
    """A time that was taken many times.

    Attributes:
        seconds: The median.
        quartiles: A quarter of the times lie below the first, a quarter above the second.
        ratio: Median of the ratios to the first model, each within one round.
        ratio_quartiles: Quartiles of these ratios.
    """

    seconds: float
    quartiles: tuple[float, float]
    ratio: float
    ratio_quartiles: tuple[float, float]

    @property
    def text(self) -> str:
        """Median and ratio.

        >>> TimeSpread(0.00123, (0.001, 0.002), 0.98, (0.97, 0.99)).text
        '1.23 ms (0.98 of the first)'
        """
        return f"{1000 * self.seconds:.3g} ms ({self.ratio:.2f} of the first)"


@dataclass(frozen=True)
class BenchRow:
    """One model, opened in one way.

    Attributes:
        model: The file.
        folded: Whether it was opened as ``load_session`` does, else in a default session.
        file_bytes: Bytes of the file.
        load: Time to load it in a fresh process.
        peak_bytes: Bytes that loading it and one run of one image add to a process, at the most.
        latency: Time of a run, for each batch.
    """

    model: Path
    folded: bool
    file_bytes: int
    load: TimeSpread
    peak_bytes: int
    latency: tuple[TimeSpread, ...]

    @property
    def name(self) -> str:
        """The file, and how it was opened."""
        return f"{self.model.name}{' folded' if self.folded else ''}"


@dataclass(frozen=True, repr=False)
class BenchResult(Brief):
    """Models side by side.

    Attributes:
        threads: Threads of a session.
        rounds: Times that everything was measured.
        batches: Images in a run.
        rows: Two for each model, default session first; ratios are to the first row.
    """

    threads: int
    rounds: int
    batches: tuple[int, ...]
    rows: tuple[BenchRow, ...]

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """Latency of the first batch, by model; of no more than four rows."""
        batch, shown = self.batches[0], self.rows[:4]
        more = len(self.rows) - len(shown)
        head = f"{len(self.rows) // 2} models, batch {batch}, threads {self.threads}"
        return (
            ("models", f"{head}{f', {more} rows more' if more else ''}"),
            *((row.name, row.latency[0].text) for row in shown),
        )
