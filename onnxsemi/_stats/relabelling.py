"""Labels that follow another order than the model's classes, found from the answers.

An order is a map from labels to classes. Some are tried as they are: all labels shifted by one, and
numbers sorted as text, as folders are ("0", "1", "10", "2"). Any other is fitted: the one-to-one
map under which most answers are right,

    max_m sum_n [answer[n] == m(label[n])]        (linear assignment)

on one half of the images of each class, and it counts if it explains the other half: a map fitted
to few images explains these, whatever the labels are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Int64Array
from onnxsemi._stats.guessing import LEAST_GAIN, far_better

_SHOWN = 4


@dataclass(frozen=True, eq=False)
class Relabelling:
    """Another reading of the labels, under which far more answers are right.

    Attributes:
        classes: int64[K], label -> class of the model.
        right: Answers that are right under it.
        words: What it is.
    """

    classes: Int64Array
    right: int
    words: str


def relabelled(answers: Int64Array, labels: Int64Array, classes: int) -> Relabelling | None:
    """The order that explains the labels, if it is another than given.

    Args:
        answers: int64[N], 0 to ``classes`` - 1.
        labels: int64[N], likewise.
        classes: How many the model has.
    """
    if not _gains(answers, labels):
        return None
    usual = [
        Relabelling(order, int((order[labels] == answers).sum()), words)
        for order, words in _usual(classes)
        if far_better(answers, _back(order)[answers], labels)
    ]
    fitted = _fitted_if_it_holds(answers, labels, classes)
    found = [*usual, *([] if fitted is None else [fitted])]
    return max(found, key=lambda one: one.right, default=None)


def _fitted_if_it_holds(
    answers: Int64Array, labels: Int64Array, classes: int
) -> Relabelling | None:
    """The map that explains most, if one fitted to half of the images explains the others."""
    first = _first_halves(labels)
    order = _fitted(answers[first], labels[first], classes)
    if not far_better(answers[~first], _back(order)[answers[~first]], labels[~first]):
        return None
    order = _fitted(answers, labels, classes)
    return Relabelling(order, int((order[labels] == answers).sum()), _words(order, labels))


def _usual(classes: int) -> Iterator[tuple[Int64Array, str]]:
    numbers = np.arange(classes)
    yield (numbers - 1) % classes, "labels are shifted by one, the model's class k is labelled k+1"
    yield (numbers + 1) % classes, "labels are shifted by one, the model's class k is labelled k-1"
    for start in (0, 1):
        names = [str(number + start) for number in range(classes)]
        order = np.array(sorted(range(classes), key=names.__getitem__), np.int64)
        shown = ", ".join(names[number] for number in order[: _SHOWN - 1])
        if (order != numbers).any():
            yield order, f"labels follow class numbers that are sorted as text ({shown}, ...)"


def _back(order: Int64Array) -> Int64Array:
    """int64[K], class of the model -> label."""
    return np.argsort(order)


def _gains(answers: Int64Array, labels: Int64Array) -> bool:
    """Whether any map could explain much more: each label's commonest answer, twice or not."""
    counts = _counts(answers, labels)
    return float(counts.max(axis=1).sum() - np.trace(counts)) >= LEAST_GAIN * len(labels)


def _counts(answers: Int64Array, labels: Int64Array) -> Int64Array:
    """int64[M, M], images of a label (row) with an answer (column); of classes met in either."""
    met = np.union1d(answers, labels)
    pairs = np.searchsorted(met, labels) * len(met) + np.searchsorted(met, answers)
    return np.bincount(pairs, minlength=len(met) ** 2).reshape(len(met), len(met))


def _first_halves(labels: Int64Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """bool[N], every other image of each class."""
    order = np.argsort(labels, kind="stable")
    first = np.zeros(len(labels), np.bool_)
    first[order[::2]] = True
    return first


def _fitted(answers: Int64Array, labels: Int64Array, classes: int) -> Int64Array:
    """int64[K], the one-to-one map that explains most; of equal ones that which changes least."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  slow to import

    met = np.union1d(answers, labels)
    counts = _counts(answers, labels) * (len(met) + 1) + np.eye(len(met), dtype=np.int64)
    _, places = linear_sum_assignment(counts, maximize=True)
    order = np.arange(classes)
    order[met] = met[places]
    return order


def _words(order: Int64Array, labels: Int64Array) -> str:
    moved = [int(label) for label in np.unique(labels) if order[label] != label]
    shown = ", ".join(f"{label}->{order[label]}" for label in moved[:_SHOWN])
    return f"labels follow another order: {shown}" + (", ..." if len(moved) > _SHOWN else "")
