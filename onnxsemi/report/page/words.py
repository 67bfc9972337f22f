"""The words of the page that are claims: with labels *accuracy*, without them *agreement*."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Words:
    """How a result is spoken of.

    Attributes:
        measure: What is measured: "top-1 accuracy", or "agreement with the float model".
        short: The same in one word.
        sentence: What can be said of the result, and defended.
    """

    measure: str
    short: str
    sentence: str


def words_of(document: Mapping[str, Any]) -> Words:
    """Words for a result."""
    paired = document["report"]
    labels = document["answers_compared_with"] == "labels"
    count = f"{paired['images']:,}"
    low, high = (points(end) for end in paired["interval_95"])
    if labels:
        sentence = (
            f"On {count} report images that the search never saw, top-1 accuracy changed by "
            f"{points(paired['change'])} points: {paired['lost']:,} right answers were lost and "
            f"{paired['won']:,} won. With 95 % confidence the change on other images of that kind "
            f"lies between {low} and {high} points."
        )
        return Words("top-1 accuracy", "accuracy", sentence)
    same = paired["images"] - paired["lost"]
    sentence = (
        f"On {count} report images that the search never saw, the compressed model gives the "
        f"float model's answer on {same / paired['images']:.2%}: {paired['lost']:,} answers "
        f"changed. With 95 % confidence the change of agreement on other images of that kind lies "
        f"between {low} and {high} points. There were no labels: which of the two is right is not "
        "known."
    )
    return Words("agreement with the float model", "agreement", sentence)


def points(share: float) -> str:
    """A change in percentage points.

    >>> points(-0.0005), points(0.0124)
    ('−0.05', '+1.24')
    """
    return f"{100 * share:+.2f}".replace("-", "−")
