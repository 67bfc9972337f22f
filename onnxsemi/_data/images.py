"""Images, held or read when asked for, with what turns them into the model's input.

uint8 pixels [N, H, W, C] become float32 by ``(pixel / 255 - mean) / std``, per colour channel, one
batch at a time; float32 arrays are taken as they are, in the model's own layout.
"""

import copy
import hashlib
import json
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array, Int64Array, UInt8Array, read_only
from onnxsemi._data.labels import label_rows, labels_for
from onnxsemi._data.source import Float32Source, Pixels, PixelSource, chunks, select, take
from onnxsemi._errors import DataError
from onnxsemi._head import Head

_HASHED = 2**20
"""Bytes of images that are laid out at once to be hashed."""


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values) or "nothing"


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Mean and standard deviation of the pixels, on the scale 0 to 1.

    Attributes:
        mean: One value, or one a colour channel; 0 unless told.
        std: Likewise, each > 0; 1 unless told.
        unit: What pixels are divided by before; 1 for a model that takes them as they are.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    unit: float = 255.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not values or not np.isfinite(values).all():
                raise DataError(f"`{name}`: {_listed(values)} is not such as 0.5,0.5,0.5")
        if min(self.std) <= 0:
            raise DataError(f"`std`: {_listed(self.std)} must be above 0")

    def apply(self, pixels: NDArray[np.uint8]) -> Float32Array:
        """uint8[N, H, W, C] -> float32[N, H, W, C]."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return (pixels.astype(np.float32) / np.float32(self.unit) - mean) / std


RAW = Normalization(unit=1.0)
"""Pixels as they are."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one source, in order.

    Attributes:
        name: Where they come from, for messages.
        pixels: uint8[N, H, W, C], or float32[N, ...] in the model's layout: an array, read-only
            and not copied if it has one of these types, or a source that reads what it is asked.
        labels: int64[N], the class of each image; of a model that is judged per label int64[N, L]
            of 0 and 1; or None. As they are given they may be any numbers, [N, ...]: whoever takes
            the images for something else refuses them.
        normalization: Applied to uint8 pixels, by default only the division by 255.
        channels_first: Whether the model takes [N, C, H, W]; set by :meth:`fit`.
        classes: Names of the labels in their order, where the source has any.
        targets: [N, ...], labels that a metric compares answers with; set by :meth:`for_metric`.
        places: int64[N], which images these are of the set that they were chosen from.
    """

    name: str
    pixels: UInt8Array | Float32Array | PixelSource
    labels: NDArray[Any] | None = None
    normalization: Normalization | None = None
    channels_first: bool = True
    classes: tuple[str, ...] | None = None
    targets: NDArray[Any] | None = None
    places: Int64Array = field(init=False, repr=False)
    _source: object = field(init=False, repr=False, default_factory=object)

    def __post_init__(self) -> None:
        given = self.pixels
        pixels = checked(given if isinstance(given, PixelSource) else np.asarray(given), self.name)
        if pixels.dtype == np.uint8 and self.normalization is None:
            object.__setattr__(self, "normalization", Normalization())
        if pixels.dtype != np.uint8 and self.normalization is not None:
            raise DataError(
                f"{self.name}: float images are taken as they are, but mean and std are given: "
                "give uint8 images, or leave the normalization away"
            )
        frozen = read_only(pixels) if isinstance(pixels, np.ndarray) else pixels
        object.__setattr__(self, "pixels", frozen)
        for name in ("labels", "targets"):
            labels = getattr(self, name)
            if labels is not None:
                found = label_rows(np.asarray(labels), len(self), self.name)
                object.__setattr__(self, name, read_only(found))
        object.__setattr__(self, "places", read_only(np.arange(len(self))))

    def __len__(self) -> int:
        """Number of images."""
        return self.pixels.shape[0]

    @property
    def origin(self) -> Hashable:
        """What :attr:`places` count in: in sets of one origin the same place is the same input."""
        return self._source, self.normalization, self.channels_first

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one image as the model takes it."""
        return self.batch(0, 1).shape[1:]

    def batch(self, start: int, stop: int) -> Float32Array:
        """Model input for images ``start`` to ``stop``: float32[stop - start, ...]."""
        if isinstance(self.pixels, np.ndarray):
            return self._input(self.pixels[start:stop])  # a view: nothing is copied twice
        return self.rows(np.arange(*slice(start, stop).indices(len(self))))

    def rows(self, indices: Int64Array) -> Float32Array:
        """Model input for any images, in the order of ``indices``: float32[M, ...]."""
        return self._input(take(self.pixels, indices))

    def select(self, indices: Int64Array) -> "ImageSet":
        """The chosen images, in the order of ``indices``."""
        pixels = select(self.pixels, indices)
        check_kind(pixels.shape, pixels.dtype, self.name)
        labels, targets = (
            None if given is None else read_only(given[indices])
            for given in (self.labels, self.targets)
        )
        places = read_only(self.places[indices])
        return self._with(pixels=pixels, labels=labels, targets=targets, places=places)

    def with_labels(self, labels: Int64Array, head: Head = Head.SOFTMAX) -> "ImageSet":
        """The same images with other labels, of the form that the answers of ``head`` have.

        Raises:
            DataError: If they have another form.
        """
        found = labels_for(head, np.asarray(labels), len(self), self.name)
        return self._with(labels=read_only(found))

    def for_head(self, head: Head) -> "ImageSet":
        """The same images with labels of the form that the answers of ``head`` have.

        Raises:
            DataError: If they have another form.
        """
        return self if self.labels is None else self.with_labels(self.labels, head)

    def for_metric(self) -> "ImageSet":
        """The same images, whose labels are for a metric and need not be classes.

        Raises:
            DataError: If there are none, or they are no finite numbers.
        """
        if self.labels is None:
            raise DataError(
                f"{self.name}: has no labels, and a metric compares answers with labels; leave "
                "metric away to measure agreement with the float model"
            )
        if self.labels.dtype.kind not in "biuf":
            raise DataError(f"{self.name}: 'y' is {self.labels.dtype}; it must be numbers")
        bad = np.flatnonzero(~np.isfinite(self.labels).reshape(len(self), -1).all(axis=1))
        if bad.size:
            raise DataError(f"{self.name}: the label of image {bad[0]} holds NaN or infinity")
        return self._with(labels=None, targets=self.labels)

    @property
    def labelled(self) -> bool:
        """Whether there is something to compare answers with."""
        return self.labels is not None or self.targets is not None

    @property
    def strata(self) -> Int64Array:
        """What samples keep the shares of: int64[N], the same for the same labels."""
        if self.labels is None:
            return np.zeros(len(self), np.int64)
        if self.labels.ndim == 1:
            return self.labels
        _, strata = np.unique(self.labels, axis=0, return_inverse=True)
        return np.asarray(strata, np.int64).ravel()

    def with_pixels(self, pixels: UInt8Array | Float32Array | PixelSource) -> "ImageSet":
        """The same images, whose pixels are kept in memory, or read from somewhere else."""
        held = read_only(pixels) if isinstance(pixels, np.ndarray) else pixels
        return self._with(pixels=held)

    def named(self, classes: tuple[str, ...] | None) -> "ImageSet":
        """The same images with names of the labels."""
        return self._with(classes=classes)

    def as_they_are(self) -> "ImageSet":
        """The same uint8 pixels for a model that takes these.

        Raises:
            DataError: If they are floats, or have a mean or standard deviation.
        """
        if self.normalization is None:
            raise DataError(
                f"{self.name}: float images, but the model takes uint8 pixels: give these"
            )
        if self.normalization != Normalization():
            raise DataError(
                f"{self.name}: mean or std given, but the model takes uint8 pixels as they are and "
                "normalizes them itself: leave mean and std away"
            )
        return self._with(normalization=RAW)

    def fit(self, shape: tuple[int | None, ...]) -> "ImageSet":
        """The same images, laid out for an input of ``shape`` (batch first, None: any size).

        Raises:
            DataError: If an image has another shape, or mean and std another number of colours.
        """
        if self.normalization is None:
            if not _fits(self.pixels.shape, shape):
                raise self._misfit(self.pixels.shape, shape)
            return self
        count, height, width, colours = self.pixels.shape
        for values in (self.normalization.mean, self.normalization.std):
            if len(values) not in (1, colours):
                raise DataError(
                    f"{self.name}: {colours} colour channels, but mean or std has {len(values)}"
                )
        if _fits((count, colours, height, width), shape):
            return self._with(channels_first=True)
        if _fits((count, height, width, colours), shape):
            return self._with(channels_first=False)
        raise self._misfit((count, colours, height, width), shape)

    def check_labels(self, classes: int) -> None:
        """Refuse a label that is no class of the model, or more or fewer labels than it has.

        Raises:
            DataError: With the first bad index.
        """
        if self.labels is None:
            return
        if self.labels.ndim == 2:
            if self.labels.shape[1] != classes:
                raise DataError(
                    f"{self.name}: 'y' has shape {list(self.labels.shape)}, and the model tells "
                    f"{classes} labels: [{len(self)}, {classes}] is needed"
                )
            return
        bad = np.flatnonzero((self.labels < 0) | (self.labels >= classes))
        if bad.size:
            from_one = self.labels.min() == 1 and self.labels.max() == classes
            raise DataError(
                f"{self.name}: label {self.labels[bad[0]]} of image {bad[0]} is no class of the "
                f"model, whose {classes} classes are 0 to {classes - 1}"
                + ("; these count from 1: give y - 1" if from_one else "")
            )

    def digests(self) -> list[bytes]:
        """A digest of each image as the model sees it."""
        step, found = max(1, _HASHED // (4 * math.prod(self.row))), list[bytes]()
        for start in range(0, len(self), step):
            rows = self.batch(start, min(start + step, len(self)))
            found += (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows)
        return found

    def fingerprint(self) -> str:
        """SHA-256 of what the model sees and of the labels, whatever the images are read from."""
        seen: dict[str, object] = {"dtype": str(self.pixels.dtype), "shape": self.pixels.shape}
        if self.normalization is not None:
            seen["mean"] = [float(value) for value in self.normalization.mean]
            seen["std"] = [float(value) for value in self.normalization.std]
            seen["channels_first"] = self.channels_first
            if self.normalization == RAW:
                seen["raw"] = True
        seen["labels"] = self.labels is not None
        if self.labels is not None and self.labels.ndim > 1:
            seen["labels"] = self.labels.shape[1:]
        digest = hashlib.sha256(json.dumps(seen).encode())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        if self.targets is not None:
            little = self.targets.astype(self.targets.dtype.newbyteorder("<"), copy=False)
            digest.update(f"targets {little.dtype.str} {little.shape}".encode())
            digest.update(little.tobytes())
        for _, pixels in chunks(self.pixels):
            digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()

    def _input(self, pixels: NDArray[Any]) -> Float32Array:
        """What the model takes for these pixels: float32[M, ...]."""
        if self.normalization is None or pixels.dtype != np.uint8:
            return np.asarray(pixels, np.float32)
        images = self.normalization.apply(pixels)
        # [N, H, W, C] -> [N, C, H, W]
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self.channels_first else images

    def _with(self, **changes: object) -> "ImageSet":
        """The same but for ``changes``, not checked again: that would read every pixel."""
        changed = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(changed, name, value)
        return changed

    def _misfit(self, found: tuple[int, ...], wanted: tuple[int | None, ...]) -> DataError:
        shown = ", ".join("any" if size is None else str(size) for size in wanted[1:])
        return DataError(
            f"{self.name}: the model takes images of shape [{shown}], these have {list(found[1:])}"
        )


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether every axis but the batch has the wanted size."""
    return len(found) == len(wanted) and all(
        size in (None, have) for have, size in zip(found[1:], wanted[1:], strict=True)
    )


def checked(images: Pixels, name: str) -> Pixels:
    """uint8[N, H, W, C] as it is, any float as float32; all of it finite.

    Raises:
        DataError: With the first bad index.
    """
    check_kind(images.shape, images.dtype, name)
    if images.dtype == np.uint8:
        return images
    for start, chunk in chunks(images):
        bad = np.flatnonzero(~np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1))
        if bad.size:
            raise DataError(f"{name}: image {start + bad[0]} holds NaN or infinity")
    if isinstance(images, np.ndarray):
        return images.astype(np.float32, copy=False)
    return images if images.dtype == np.float32 else Float32Source(images)


def check_kind(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Refuse what can be no images by its shape and type alone.

    Raises:
        DataError: With the shape or the type.
    """
    if len(shape) < 2 or math.prod(shape) == 0:
        raise DataError(f"{name}: no images: 'x' has shape {list(shape)}")
    if dtype == np.uint8:
        if len(shape) != 4:
            raise DataError(f"{name}: uint8 images need shape [N, H, W, C], 'x' has {list(shape)}")
    elif not np.issubdtype(dtype, np.floating):
        raise DataError(f"{name}: 'x' is {dtype}; it must be uint8 or float32")
