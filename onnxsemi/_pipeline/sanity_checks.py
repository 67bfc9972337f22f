"""Whether the images and labels can be those of the model, before anything is measured.

What was preprocessed for another model, or is labelled in another order, gives figures like any
other: answers stay the same at 1 bit a weight if all of them are wrong. So the float model's
answers are compared with guessing; where they are no better, or something looks odd, the usual
mistakes are tried, and the one under which far more answers are right is named.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._data.checks import (
    check_classes,
    numbers,
    once,
    order_doubts,
    sample,
    sampled,
    scale_warnings,
    value_doubts,
    value_range,
)
from onnxsemi._data.images import RAW, ImageSet, Normalization
from onnxsemi._data.labels import answer_numbers
from onnxsemi._data.scaled import channel_axis, rescaled
from onnxsemi._data.source import chunks
from onnxsemi._errors import DataError, ModelError
from onnxsemi._head import Head
from onnxsemi._search.few_images import TELLING
from onnxsemi._stats.guessing import Guessing, far_better, labels_better
from onnxsemi._stats.likelihood import LIKELIHOODS
from onnxsemi._stats.relabelling import Relabelling, relabelled

LEAST_IMAGES = TELLING
"""Fewer different images tell no two models apart, even if these answer all of them otherwise."""

_SAME_ANSWER = 0.95
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Forward = Callable[[ImageSet], Float32Array]


@dataclass(frozen=True, eq=False)
class Fitting:
    """Images that fit the model.

    Attributes:
        images: Each of them once.
        warnings: What is to be said of them.
        doubts: What is to be said of them unless the model's answers settle it.
    """

    images: ImageSet
    warnings: tuple[str, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class JudgedImages:
    """Images with what the float model answers.

    Attributes:
        images: The images.
        logits: float32[N, K].
        forward: Gives the logits of other images.
        head: What the logits are.
    """

    images: ImageSet
    logits: Float32Array
    forward: Forward
    head: Head = Head.SOFTMAX


def checked(images: ImageSet, forward: Forward) -> Fitting:
    """What images and labels tell, and how many classes the model has.

    Raises:
        DataError: If a label is no class of the model, or the classes' names are not as many.
        ModelError: If the model cannot run the images.
    """
    classes = forward(images.select(np.arange(1))).shape[1]
    check_classes(images, classes)
    images.check_labels(classes)
    images, repeated = once(images)
    seen = sample(images)
    doubts = (*value_doubts(seen), *order_doubts(images))
    return Fitting(images, (*repeated, *scale_warnings(images)), doubts)


def check_answers(judged: JudgedImages, doubts: tuple[str, ...], *, force: bool) -> tuple[str, ...]:
    """What the float model's answers tell of the images and their labels: warnings.

    Args:
        judged: The answers, to all images or a sample.
        doubts: What labelled answers that are good settle.
        force: Whether answers no better than guessing are a warning only.

    Raises:
        DataError: If they are no better than guessing, and images are enough to tell, with the
            likely causes; or if more than twice as many are right with labels in another order.
    """
    images, answers = judged.images, LIKELIHOODS[judged.head].answers(judged.logits)
    if images.labels is None:
        answered = images.targets is None  # what a metric takes need not be any
        return (*doubts, *(_same_answer(images, answers) if answered else ()))
    if judged.head.per_label:
        return _check_labels(images, answers, images.labels, doubts)
    return _check_classes(judged, answers, images.labels, doubts, force=force)


def _check_classes(
    judged: JudgedImages,
    answers: Int64Array,
    labels: Int64Array,
    doubts: tuple[str, ...],
    *,
    force: bool,
) -> tuple[str, ...]:
    """Warnings of answers and labels that are classes: int64[N] each."""
    images = judged.images
    guessing = Guessing.of(answers, labels)
    other = relabelled(answers, labels, judged.logits.shape[1])
    found = _explained(judged, answers, guessing, other, doubts)
    if other is not None and other.right > 2 * guessing.right and guessing.better:
        return _refused(found[0], force=force)
    if guessing.better:
        return (*found, *(doubts if found else ()))
    if len(np.unique(labels)) == 1:
        return (*found, *doubts, f"{images.name}: {_of_one_class(guessing, labels)}")
    said = (
        f"{images.name}: the model is right on {guessing.right:,} of {guessing.total:,} images "
        f"({guessing.right / guessing.total:.2%}), guessing gives {guessing.chance:.2%}"
    )
    if not guessing.told:
        return (*found, *doubts, f"{said}: too few images to tell that it is better")
    causes = _plain(images, (*found, *scale_warnings(images), *doubts))
    said = f"{said}: {'; '.join(causes or [_usual_causes(images)])}"
    return _refused(said, force=force)


def _refused(said: str, *, force: bool) -> tuple[str, ...]:
    if not force:
        raise DataError(f"{said}; `force` goes on all the same")
    return (said,)


def _explained(
    judged: JudgedImages,
    answers: Int64Array,
    guessing: Guessing,
    other: Relabelling | None,
    doubts: tuple[str, ...],
) -> tuple[str, ...]:
    """The order of labels, or else the preprocessing, under which far more answers are right."""
    images = judged.images
    if other is not None:
        now, so_read = (_share(n, guessing.total) for n in (guessing.right, other.right))
        said = f"{images.name}: {other.words}: so read, {so_read} are right, not {now}"
        names = "; give the names of the classes in the model's order with `classes` names.txt"
        return (said + (names if images.classes else ""),)
    if images.normalization == RAW:
        return ()
    if guessing.better and not doubts and images.normalization != Normalization():
        return ()
    return _better_preprocessed(judged, answers)


def _better_preprocessed(judged: JudgedImages, answers: Int64Array) -> tuple[str, ...]:
    """The preprocessing under which most answers are right, if that are far more; of a sample."""
    places, images = sampled(judged.images), sample(judged.images)
    labels, answers = images.labels, answers[places]
    assert labels is not None
    best, said = int((answers == labels).sum()), ""
    now = _share(best, len(images))
    for how, tried in _preprocessed(images):
        try:
            found = judged.forward(tried).argmax(axis=1)
        except ModelError:  # numbers that this model takes to infinity
            continue
        right = int((found == labels).sum())
        if right > best and far_better(answers, found, labels):
            best, said = right, f"with {how}, {_share(right, len(images))} are right, not {now}"
    return (f"{images.name}: {said}",) if said else ()


def _preprocessed(images: ImageSet) -> Iterator[tuple[str, ImageSet]]:
    """The same images as other preprocessing would give them; the likeliest first."""
    given = images.normalization
    unit = 1.0 if given is None and value_range(images)[1] <= 1 else 255.0
    if given is not None and max(*given.mean, *given.std) > 1:
        mean, std = (tuple(v / 255 for v in values) for values in (given.mean, given.std))
        yield _scaled(images, mean, std, 255.0)
    plain = replace(images, normalization=Normalization()) if given is not None else images
    yield _scaled(images, *_statistics(plain, unit), unit)
    axis = channel_axis(images)
    if axis is not None and images.pixels.shape[axis] == 3:
        yield _scaled(images, *_IMAGENET, unit)
    yield _scaled(images, (0.5,), (0.5,), unit)
    yield _scaled(images, (0.0,), (1.0,), unit)
    yield _scaled(images, (0.0,), (1 / 255,), unit)


def _scaled(
    images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...], unit: float
) -> tuple[str, ImageSet]:
    """How uint8 or float images are preprocessed, and these."""
    words = f"mean {numbers(mean)} and std {numbers(std)}"
    if images.normalization is None:
        words = words if unit == 1 else f"values / {unit:g}, {words}"
        return words, rescaled(images, mean, std, unit)
    return words, replace(images, normalization=Normalization(mean=mean, std=std))


def _statistics(images: ImageSet, unit: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of the pixels of each colour, on the scale 0 to 1."""
    axis = channel_axis(images)
    size = 1 if axis is None else images.pixels.shape[axis]
    count, total, squares = 0, np.zeros(size), np.zeros(size)
    for _, part in chunks(images.pixels):
        values = part.astype(np.float64) / unit
        rows = values.reshape(-1, 1) if axis is None else np.moveaxis(values, axis, -1)
        rows = rows.reshape(-1, size)
        count, total = count + len(rows), total + rows.sum(axis=0)
        squares += (rows**2).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return tuple(map(float, mean)), tuple(map(float, std))


def _same_answer(images: ImageSet, answers: Int64Array) -> tuple[str, ...]:
    """Images without labels that nearly all get one answer."""
    numbers, counts = np.unique(answer_numbers(answers), return_counts=True)
    often = int(counts.max())
    if len(images) < LEAST_IMAGES or often < _SAME_ANSWER * len(images):
        return ()
    what = "the same labels" if answers.ndim > 1 else f"class {numbers[counts.argmax()]}"
    return (
        f"{images.name}: the model answers {often:,} of {len(images):,} images with {what}: "
        f"{_usual_causes(images)}",
    )


def _check_labels(
    images: ImageSet, answers: Int64Array, labels: Int64Array, doubts: tuple[str, ...]
) -> tuple[str, ...]:
    """Warnings of answers and labels that are 0 or 1 for each label: int64[N, L] each.

    No more than warnings: a model may be right to give none of its rare labels.
    """
    if len(images) < LEAST_IMAGES:
        return doubts
    if labels_better(answers, labels):
        return ()
    right = _share(int((answers == labels).sum()), answers.size)
    said = f"the model is right on {right} of the labels, no better than by guessing"
    return (*doubts, f"{images.name}: {said}: {_usual_causes(images)}")


def _of_one_class(guessing: Guessing, labels: Int64Array) -> str:
    return (
        f"all labels are class {labels[0]}, and {guessing.right:,} of {guessing.total:,} answers "
        "are: nothing tells them from guessing"
    )


def _usual_causes(images: ImageSet) -> str:
    """What to look at where nothing is known, likeliest first."""
    forgotten = images.normalization == Normalization()
    first = "no mean and std are given: they" if forgotten else "mean and std"
    return f"{first} may be others in training, or size, order of colours, order of the classes"


def _plain(images: ImageSet, said: tuple[str, ...]) -> list[str]:
    return [text.removeprefix(f"{images.name}: ") for text in said]


def _share(right: int, total: int) -> str:
    return f"{right / total:.2%}"
