"""What the times of both models come to, for the table and the page of a compression."""

from dataclasses import dataclass

from onnxsemi._report.parts import BenchPart
from onnxsemi._results.timings import BenchResult, TimeSpread


@dataclass(frozen=True)
class Speed:
    """Times of one run of one image.

    Attributes:
        seconds: Of the float model in a default session, median.
        loaded: What the file takes as ``load_session`` opens it, of that; and its quartiles.
        plain: The same in a default session.
        threads: Of a session.
        rounds: Times that it was measured.
    """

    seconds: float
    loaded: tuple[float, float, float]
    plain: tuple[float, float, float]
    threads: int
    rounds: int

    @classmethod
    def read(cls, found: BenchPart | None) -> "Speed | None":
        """From the document of a compression; None if the models were not timed."""
        if found is None:
            return None
        first, _, plain, loaded = (row.latency["1"] for row in found.rows)
        return cls(first.seconds, _spread(loaded), _spread(plain), found.threads, found.rounds)

    @classmethod
    def of(cls, result: BenchResult) -> "Speed":
        """From the times of the float model and the file."""
        first, _, plain, loaded = (row.latency[0] for row in result.rows)
        return cls(first.seconds, _spread(loaded), _spread(plain), result.threads, result.rounds)

    @property
    def faster(self) -> str:
        """The file in ``load_session``, as people say it; no figure where the quartiles cover 1.

        >>> Speed(0.002, (0.5, 0.4, 0.6), (1.2, 1.1, 1.3), 1, 7).faster
        '2.00x as fast'
        >>> Speed(0.002, (0.9, 0.8, 1.1), (1.2, 1.1, 1.3), 1, 7).faster
        'about as fast'
        """
        if self.loaded[1] <= 1 <= self.loaded[2]:
            return "about as fast"
        return f"{1 / self.loaded[0]:.2f}x as fast"

    @property
    def line(self) -> str:
        """All of it in one line of a terminal.

        >>> Speed(0.002, (0.5, 0.4, 0.6), (1.2, 1.1, 1.3), 1, 7).line
        'Speed: 0.50 ±0.10 of the float time of 2.00 ms an image by load_session, 1.20 ±0.10 in a \
default session.'
        """
        return (
            f"Speed: {ratio(self.loaded)} of the float time of {self.milliseconds} an image by "
            f"load_session, {ratio(self.plain)} in a default session."
        )

    @property
    def milliseconds(self) -> str:
        """Time of the float model."""
        return f"{1e3 * self.seconds:.2f} ms"


def ratio(found: tuple[float, float, float]) -> str:
    """A ratio with half of the distance of its quartiles.

    >>> ratio((0.5, 0.4, 0.6))
    '0.50 ±0.10'
    """
    middle, low, high = found
    return f"{middle:.2f} ±{(high - low) / 2:.2f}"


def _spread(latency: TimeSpread) -> tuple[float, float, float]:
    return latency.ratio, *latency.ratio_quartiles
