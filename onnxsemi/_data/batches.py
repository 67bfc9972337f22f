"""Images from memory: arrays, pairs of images and labels, or whatever gives batches of them.

An iterable is gone through once; batches that are too many for the memory go to a temporary file.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.reader import Batches, of_feed
from onnxsemi._errors import DataError

GivenBatch = Any
"""An array of images [M, ...]; a pair (images, labels); or a feed, input name -> images. What can
be made an array by ``numpy.asarray`` is one: a tensor of PyTorch on the CPU, or of TensorFlow."""
_PAIR = 2
_PICTURE = 3  # axes of a single image


def from_array(images: NDArray[Any], normalization: Normalization | None) -> ImageSet:
    """Images without labels, [N, ...]."""
    return ImageSet("the given array", images, normalization=normalization)


def from_pair(
    images: GivenBatch, labels: GivenBatch, normalization: Normalization | None
) -> ImageSet:
    """Images [N, ...] with labels [N]."""
    name = "the given arrays"
    return ImageSet(name, _array(images, name), _array(labels, name), normalization)


def from_batches(
    batches: Iterable[GivenBatch], input_name: str, normalization: Normalization | None
) -> ImageSet:
    """Collect batches, of which all or none have labels.

    Args:
        batches: Gives the images, in order.
        input_name: Which entry of a feed has them.
        normalization: Of uint8 pixels.

    Raises:
        TypeError: If an entry is no batch.
        DataError: If there is none, they differ in shape, or only some have labels.
    """
    name = f"the given {type(batches).__name__}"
    collected, labels = Batches(name), list[NDArray[Any]]()
    count = 0
    for count, batch in enumerate(batches, 1):
        images, given = _parts(batch, input_name, name)
        collected.add(images)
        if given is not None:
            labels.append(given)
        if labels and len(labels) != count:
            raise DataError(f"{name}: some batches have labels, others have none")
    pixels = collected.pixels()
    return ImageSet(name, pixels, np.concatenate(labels) if labels else None, normalization)


def _parts(
    batch: GivenBatch, input_name: str, name: str
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Images [M, ...] of a batch, and its labels [M, ...] if it has any."""
    if isinstance(batch, Mapping):
        return of_feed(batch, input_name, name), None
    if isinstance(batch, list | tuple):
        if len(batch) != _PAIR:
            raise TypeError(
                f"{name}: a batch is an array of images or a pair of images and labels, not "
                f"{len(batch)} things"
            )
        images, labels = (_array(part, name) for part in batch)
        if labels.ndim == 0:  # one image with its label, as a dataset gives them
            return images[None], labels[None]
        return images, labels
    images = _array(batch, name)
    if images.dtype == np.uint8 and images.ndim == _PICTURE:
        raise DataError(
            f"{name}: a batch of uint8 images is [N, H, W, C], this one is "
            f"{list(images.shape)}: single images become a batch by numpy.stack"
        )
    return images, None


def _array(given: object, name: str) -> NDArray[Any]:
    found = np.asarray(given)
    if found.dtype.kind not in "biuf":
        what = f"{found.dtype} entries" if isinstance(given, np.ndarray) else type(given).__name__
        raise TypeError(f"{name}: a batch holds {what}, which is no array of numbers")
    return found
