"""The words of the page that are claims: *accuracy*, *agreement* without labels, or a metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onnxsemi.heads import Head

LABELS = "labels"


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


def has_labels(document: Mapping[str, Any]) -> bool:
    """Whether answers were compared with labels, or with the float model's answers."""
    return bool(document["answers_compared_with"] == LABELS)


def head_of(document: Mapping[str, Any]) -> Head:
    """What the model's scores are."""
    return Head(document.get("head", Head.SOFTMAX))  # results of before had no other


def right(score: Mapping[str, Any]) -> float:
    """Answers that count as right: the labels', or the float model's; or the sum of a metric."""
    if "mean" in score:
        return float(score["mean"]) * int(score["images"])
    return int(score["correct"] if "correct" in score else score["same"])


def words_of(document: Mapping[str, Any]) -> Words:
    """Words for a result."""
    if "metric" in document["report"]:
        return _metric(document["report"])
    return _accuracy(document) if has_labels(document) else _agreement(document)


def points(share: float) -> str:
    """A change in percentage points.

    >>> points(-0.0005), points(0.0124)
    ('−0.05', '+1.24')
    """
    return f"{100 * share:+.2f}".replace("-", "−")


def _accuracy(document: Mapping[str, Any]) -> Words:
    paired, measure = document["report"], head_of(document).accuracy
    count, change = f"{paired['images']:,}", points(paired["change"])
    low, high = (points(end) for end in paired["interval_95"])
    before, after = (
        f"{paired[key] / paired['images']:.2%}" for key in ("correct_before", "correct_after")
    )
    figure = (
        f"{measure[0].upper()}{measure[1:]}, float → now",
        f"{before} → {after}",
        f"{change} points, 95 % interval {low} to {high}; {paired['lost']:,} broken and "
        f"{paired['won']:,} fixed of {count} test images",
    )
    sentence = (
        f"On {count} test images that the search never saw, {measure} changed by {change} "
        f"points: {paired['lost']:,} right answers were broken and {paired['won']:,} fixed. With "
        f"95 % confidence the change on other images of that kind lies between {low} and {high} "
        "points."
    )
    return Words(measure, "accuracy", "broken/fixed", figure, sentence)


def _metric(report: Mapping[str, Any]) -> Words:
    name, count, change = report["metric"], f"{report['images']:,}", points(report["change"])
    low, high = (points(end) for end in report["interval_95"])
    before, after = (f"{report[when]:.4f}" for when in ("mean_before", "mean_after"))
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


def _agreement(document: Mapping[str, Any]) -> Words:
    paired = document["report"]
    count, changed = paired["images"], paired["images"] - paired["same"]
    shares = (paired["agreement"], *paired["agreement_interval_95"])
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
