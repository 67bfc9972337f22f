"""A finished run, as the page shows it: its result, its evidence and its frontier."""

from dataclasses import dataclass
from pathlib import Path

from onnxsemi._data.labels import MOST_LABELS
from onnxsemi._report.record import RunRecord, read_result
from onnxsemi._run.frontier import KeptFrontier
from onnxsemi._run.frontier_file import read_frontier


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        path: Its folder, as commands are to name it.
        kept: What it came to.
        frontier: Every point that it could have written.
    """

    path: Path
    kept: RunRecord
    frontier: KeptFrontier

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read a run's folder.

        Raises:
            RunError: If it holds no result, or a damaged one.
        """
        return cls(path, read_result(path), read_frontier(path))

    @property
    def file(self) -> str:
        """Name of the file that it wrote."""
        return self.kept.document.output.replace("\\", "/").rpartition("/")[2]

    @property
    def per_label(self) -> bool:
        """Whether an answer is one yes or no for each label."""
        return self.kept.document.head.per_label

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the model's classes in its order; empty if they are not known."""
        return self.kept.document.classes or ()

    def answer_name(self, number: int) -> str:
        """Name of an answer: of a class, or of the labels that an image has."""
        if not self.per_label:
            return self.class_name(number)
        if number < 0:
            return f"labels {-number % 0x1000000:06x}"  # more than can be told by a number
        places = [place for place in range(MOST_LABELS) if number >> place & 1]
        return ", ".join(map(self.class_name, places)) or "none"

    def class_name(self, number: int) -> str:
        """Name of a class or label; its number where it has none."""
        names = self.class_names
        return names[number] if number < len(names) else str(number)
