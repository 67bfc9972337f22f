"""Answers on the test images, class by class: what an interval over all classes can hide.

With labels a class has the images of that label; without, those that the float model gives that
class, and *broken* then means another answer.
"""

from dataclasses import dataclass

import numpy as np

from onnxsemi._report.page.run import Run
from onnxsemi._stats.comparison import exact_interval
from onnxsemi._stats.paired import Paired

FEW = 10
"""Images below which a class says next to nothing: such classes come last."""


@dataclass(frozen=True)
class ClassAnswers:
    """One class.

    Attributes:
        number: Of the class.
        name: Its name, or its number where it has none.
        paired: Float against compressed on its test images.
        labelled: Whether right answers are those of labels, or the float model's.
    """

    number: int
    name: str
    paired: Paired
    labelled: bool

    @property
    def few(self) -> bool:
        """Whether it has too few images to say anything."""
        return self.paired.total < FEW

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the change, -1 to 1; without labels of minus what changed."""
        if self.labelled:
            return self.paired.interval
        low, high = exact_interval(self.paired.after, self.paired.total)
        return low - 1, high - 1

    @property
    def shown_broken(self) -> bool:
        """Whether its images show a loss: the whole interval lies below 0."""
        return self.interval[1] < 0

    @property
    def shown_fixed(self) -> bool:
        """Whether its images show a gain."""
        return self.interval[0] > 0


def by_class(run: Run) -> list[ClassAnswers]:
    """Classes that have test images: worst change first, classes of few images behind the others.

    Of equal changes, that with more images comes first, then that with the smaller number.
    """
    evidence = run.kept.evidence
    labelled = run.kept.document.has_labels
    right = [answers == evidence.labels for answers in (evidence.before, evidence.after)]
    found = []
    for number in np.unique(evidence.labels).tolist():
        own = evidence.labels == number
        paired = Paired.of(right[0][own], right[1][own])
        found.append(ClassAnswers(number, run.class_name(number), paired, labelled))
    return sorted(found, key=lambda c: (c.few, c.paired.change, -c.paired.total, c.number))
