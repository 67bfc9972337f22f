"""Labels as they are given -> labels that a model's answers are compared with."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Int64Array
from onnxsemi._errors import DataError
from onnxsemi._head import Head

MOST_LABELS = 62
"""Of which every set of them has a number of its own."""


def label_rows(labels: NDArray[Any], count: int, name: str) -> NDArray[Any]:
    """Labels of any kind, [N, ...]; one whole number an image as int64.

    Raises:
        DataError: If they are not as many as the images.
    """
    if labels.shape[:1] != (count,):
        raise DataError(f"{name}: {count} images, but 'y' has shape {list(labels.shape)}")
    whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    return labels.astype(np.int64) if whole else labels


def labels_for(head: Head, labels: NDArray[Any], count: int, name: str) -> Int64Array:
    """Labels that a head's answers are compared with: int64[N], or int64[N, L] of 0 and 1.

    Args:
        head: Of one Sigmoid, 0 and 1 may be of any type, and a column; of several, there is one
            for each label.
        labels: As they are given.
        count: Images.
        name: Of the image set.

    Raises:
        DataError: If they have another form.
    """
    if head is Head.SIGMOIDS:
        return multi_hot(labels, count, name)
    return label_array(binary(labels) if head is Head.ONE_SIGMOID else labels, count, name)


def label_array(labels: NDArray[Any], count: int, name: str) -> Int64Array:
    """Labels as int64[N].

    Raises:
        DataError: If there is not one whole number an image.
    """
    if labels.shape != (count,):
        said, remedy = f"{name}: {count} images, but 'y' has shape {list(labels.shape)}", ""
        if labels.shape == (count, 1):
            remedy = ": one number an image is needed, y.ravel()"
        elif labels.ndim == 2 and len(labels) == count:
            one_hot = bool(((labels != 0).sum(axis=1) == 1).all())
            found = "these are one-hot, np.argmax(y, axis=1)" if one_hot else "these are several"
            remedy = f": one number an image is needed, and {found}"
        raise DataError(said + remedy)
    if not np.issubdtype(labels.dtype, np.integer):
        whole = labels.dtype.kind == "f" and (labels == np.round(labels)).all()
        remedy = ", y.astype(int)" if whole else ", the classes from 0"
        raise DataError(f"{name}: 'y' is {labels.dtype}; it must be whole numbers{remedy}")
    return labels.astype(np.int64)


def binary(labels: NDArray[Any]) -> NDArray[Any]:
    """A column as a row, and 0 and 1 of any type as whole numbers; whatever else as it is."""
    row = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    return row.astype(np.int64) if row.dtype.kind in "bf" and _zeros_and_ones(row).all() else row


def multi_hot(labels: NDArray[Any], count: int, name: str) -> Int64Array:
    """Labels that an image may have or not: int64[N, L] of 0 and 1.

    Raises:
        DataError: If there is not a 0 or 1 for each label, with the first bad index.
    """
    if labels.ndim != 2 or len(labels) != count or labels.dtype.kind not in "biuf":
        raise DataError(
            f"{name}: 'y' is {labels.dtype} of shape {list(labels.shape)}, and the model, which "
            f"ends in Sigmoids, is judged per label: 0 or 1 for each label are needed, shape "
            f"[{count}, labels]; if an image has one class, export the model without its Sigmoids"
        )
    bad = np.flatnonzero(~_zeros_and_ones(labels).all(axis=1))
    if bad.size:
        raise DataError(
            f"{name}: the labels of image {bad[0]} are not all 0 or 1, as a model that ends in "
            "Sigmoids needs them"
        )
    return labels.astype(np.int64)


def _zeros_and_ones(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where labels are 0 or 1: bool, of their shape."""
    return np.asarray((labels == 0) | (labels == 1))


def answer_numbers(answers: Int64Array) -> Int64Array:
    """A number for each answer, the same for the same answer: int64[N].

    Of answers per label, int64[N, L] of 0 and 1, it is the sum of 2^l over the labels; beyond
    ``MOST_LABELS`` a digest below 0.

    >>> answer_numbers(np.array([[1, 0, 1], [0, 0, 0]])).tolist(), answer_numbers(np.arange(2))
    ([5, 0], array([0, 1]))
    """
    if answers.ndim == 1:
        return answers
    if answers.shape[1] <= MOST_LABELS:
        return np.asarray(answers @ (1 << np.arange(answers.shape[1], dtype=np.int64)))
    rows = np.packbits(answers.astype(np.bool_), axis=1)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=7).digest() for row in rows)
    return np.array([-1 - int.from_bytes(digest, "little") for digest in digests], np.int64)
