"""The words of the page that are claims: *accuracy*, *agreement* without labels, or a metric."""

from dataclasses import dataclass
from typing import TypeVar

from onnxsemi._report.document import RunResult
from onnxsemi._report.parts import Compared

T = TypeVar("T")


@dataclass(frozen=True)
class Words:
    """How a result is spoken of.

    Attributes:
        measure: What is measured: "top-1 accuracy", or "agreement with the float model".
        short: The same in one word.
        counted: What is counted in a trial: "broken/fixed", or "answers changed".
        figure: What it came to on the test images: name, figure, note.
        sentence: What can be said of the result, and defended.
    """

    measure: str
    short: str
    counted: str
    figure: tuple[str, str, str]
    sentence: str


def words_of(document: RunResult) -> Words:
    """Words for a result."""
    if document.report.metric is not None:
        return _metric(document.report, document.report.metric)
    return _accuracy(document) if document.has_labels else _agreement(document.report)


def points(share: float) -> str:
    """A change in percentage points.

    >>> points(-0.0005), points(0.0124)
    ('−0.05', '+1.24')
    """
    return f"{100 * share:+.2f}".replace("-", "−")


def _known(value: T | None) -> T:
    """What a report of its kind has."""
    assert value is not None
    return value


def _accuracy(document: RunResult) -> Words:
    paired, measure = document.report, document.head.accuracy
    count, change = f"{paired.total:,}", points(_known(paired.change))
    low, high = (points(end) for end in _known(paired.interval))
    before, after = (
        f"{_known(count) / paired.total:.2%}" for count in (paired.before, paired.after)
    )
    figure = (
        f"{measure[0].upper()}{measure[1:]}, float → now",
        f"{before} → {after}",
        f"{change} points, 95 % interval {low} to {high}; {paired.broken:,} broken and "
        f"{paired.fixed:,} fixed of {count} test images",
    )
    sentence = (
        f"On {count} test images that the search never saw, {measure} changed by {change} "
        f"points: {paired.broken:,} right answers were broken and {paired.fixed:,} fixed. With "
        f"95 % confidence the change on other images of that kind lies between {low} and {high} "
        "points."
    )
    return Words(measure, "accuracy", "broken/fixed", figure, sentence)


def _metric(report: Compared, name: str) -> Words:
    count, change = f"{report.total:,}", points(_known(report.change))
    low, high = (points(end) for end in _known(report.interval))
    before, after = (f"{_known(mean):.4f}" for mean in (report.mean_before, report.mean_after))
    figure = (
        f"Mean of {name}, float → now",
        f"{before} → {after}",
        f"{change} points, 95 % interval {low} to {high}, on {count} test images",
    )
    sentence = (
        f"On {count} test images that the search never saw, the mean of {name} went from "
        f"{before} to {after}, by {change} points. With 95 % confidence the change on other images "
        f"of that kind lies between {low} and {high} points."
    )
    return Words(f"mean of {name}", name, "images lower/higher", figure, sentence)


def _agreement(report: Compared) -> Words:
    count, changed = report.total, report.total - _known(report.same)
    shares = (_known(report.agreement), *_known(report.agreement_interval))
    share, low, high = (f"{value:.2%}" for value in shares)
    figure = (
        "Agreement with the float model",
        share,
        f"95 % interval {low} to {high}; {changed:,} of {count:,} answers on test images changed",
    )
    sentence = (
        f"On {count:,} test images that the search never saw, the compressed model gives the "
        f"float model's answer on {share}: {changed:,} answers changed. With 95 % confidence the "
        f"agreement on other images of that kind lies between {low} and {high}. There were no "
        "labels: which of two answers is right is not known."
    )
    measure = "agreement with the float model"
    return Words(measure, "agreement", "answers changed", figure, sentence)
