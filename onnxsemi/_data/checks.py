"""What images and labels alone tell, before a model has seen them.

A *warning* is said whatever follows. A *doubt* is said unless the model's answers settle it:
images from 0 to 1 are right for a model that was trained on such, and its answers on labelled ones
say so.
"""

from collections.abc import Iterable

import numpy as np

from onnxsemi._arrays import Int64Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.sample import stratified
from onnxsemi._data.source import chunks
from onnxsemi._errors import DataError

SAMPLE = 512
"""Images at most that are looked at: enough to tell 93 % from 90 %, and a pass of any model."""


def sampled(images: ImageSet) -> Int64Array:
    """Indices of at most ``SAMPLE`` images, of each class its share: always the same ones."""
    return stratified(images.strata, SAMPLE, seed=0)


def sample(images: ImageSet) -> ImageSet:
    """These images; the same object if they are all."""
    return images if len(images) <= SAMPLE else images.select(sampled(images))


def once(images: ImageSet) -> tuple[ImageSet, tuple[str, ...]]:
    """Each image once, by its content, and a warning if that leaves some out.

    A copy says nothing new, but intervals would get narrower by it. The first of the copies stays,
    with its label.
    """
    _, first, copy_of = np.unique(images.digests(), return_index=True, return_inverse=True)
    copies = len(images) - len(first)
    if not copies:
        return images, ()
    said = (
        f"{images.name}: {copies:,} of the {len(images):,} images are copies of others and are "
        f"left out: {len(first):,} different ones count"
    )
    labels = images.labels if images.targets is None else images.targets
    if labels is not None:
        other = labels != labels[first][copy_of]  # [N, ...]
        conflicts = int(other.reshape(len(images), -1).any(axis=1).sum())
        if conflicts:
            said += f"; {conflicts:,} of the copies have another label than the first, which stays"
    return images.select(np.sort(first)), (said,)


def scale_warnings(images: ImageSet) -> tuple[str, ...]:
    """Mean and std that are not on the scale 0 to 1, which is that of the pixels."""
    if images.normalization is None:
        return ()
    mean, std = images.normalization.mean, images.normalization.std
    said = []
    if min(mean) < 0 or max(mean) > 1:
        said.append(f"mean {numbers(mean)} is outside 0 to 1")
    if max(std) > 1:
        said.append(f"std {numbers(std)} is above 1")
    if not said:
        return ()
    remedy = ""
    if max(*mean, *std) > 2:
        scaled = (tuple(v / 255 for v in values) for values in (mean, std))
        remedy = "; if they are of pixels 0 to 255: mean {} and std {}".format(
            *map(numbers, scaled)
        )
    where = f"{images.name}: {' and '.join(said)}"
    return (f"{where}: they are for pixels on the scale 0 to 1{remedy}",)


def value_doubts(images: ImageSet) -> tuple[str, ...]:
    """Float images whose values look as if nothing had normalized them."""
    if images.normalization is not None:
        return ()
    low, high = value_range(images)
    if low < 0 or not (high <= 1 or 2 < high <= 255):
        return ()
    return (
        f"{images.name}: the float images look unnormalised (minimum {low:g}, maximum {high:g}) "
        "and are taken as they are: give uint8 images with mean and std, or normalize them",
    )


def value_range(images: ImageSet) -> tuple[float, float]:
    """Smallest and largest value of the pixels."""
    found = [(float(part.min()), float(part.max())) for _, part in chunks(images.pixels)]
    return min(low for low, _ in found), max(high for _, high in found)


def order_doubts(images: ImageSet) -> tuple[str, ...]:
    """Class folders whose names are numbers that count otherwise than they sort."""
    names = images.classes or ()
    if not names or not all(name.isdecimal() for name in names):
        return ()
    if list(names) != sorted(names) or list(names) == sorted(names, key=int):
        return ()
    shown = ", ".join(names[:4])
    return (
        f"{images.name}: class folders are taken in the order of their names as text ({shown}, "
        "...), not as numbers: if the model counts them, say so with `classes` names.txt",
    )


def check_classes(images: ImageSet, classes: int) -> None:
    """Refuse class names or folders that cannot be the model's classes.

    Args:
        images: The images.
        classes: How many the model has.

    Raises:
        DataError: If there are more or fewer.
    """
    if images.classes is None or len(images.classes) == classes:
        return
    raise DataError(
        f"{images.name}: {len(images.classes):,} classes are named by folders or `classes`, and "
        f"the model has {classes:,}: say which are which with `classes` names.txt, one name of the "
        f"{classes:,} a line in the model's order"
    )


def too_few(images: ImageSet, least: int) -> str | None:
    """What to say of fewer images than can tell anything; None if there are enough."""
    if len(images) >= least:
        return None
    return (
        f"{images.name}: {len(images)} different images are too few to tell one model from "
        f"another: at least {least} are needed, and hundreds are of use"
    )


def numbers(values: Iterable[float]) -> str:
    """As the flags take them."""
    return ",".join(f"{value:.3g}" for value in values)
