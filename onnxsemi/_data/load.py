"""Whatever the user has -> an ImageSet laid out for the model."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._data.batches import GivenBatch, from_array, from_batches, from_pair
from onnxsemi._data.folder import Framing, Naming, read_folder
from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.naming import check_class_names, read_class_names
from onnxsemi._data.npz import read_npz
from onnxsemi._data.reader import BatchReader, read_all
from onnxsemi._enum_choice import choice
from onnxsemi._errors import DataError, SettingsError
from onnxsemi._field_types import check_fields
from onnxsemi._head import Head
from onnxsemi._option import Decides, Option, Panel
from onnxsemi._reading import is_there

ImagesAndLabels = tuple[GivenBatch, GivenBatch]
"""Images [N, ...] and labels [N]."""
Data = (
    str
    | os.PathLike[str]
    | ImageSet
    | BatchReader
    | NDArray[Any]
    | ImagesAndLabels
    | Iterable[GivenBatch]
)


class Preset(StrEnum):
    """Preprocessing that many models share."""

    IMAGENET = "imagenet"
    """Shorter side to 256, centre 224, torchvision's mean and standard deviation."""


def read_numbers(name: str, text: str) -> tuple[float, ...]:
    """Read a list of numbers.

    >>> read_numbers("mean", "0.5,0.25")
    (0.5, 0.25)

    Raises:
        SettingsError: With the setting's name, if it is none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(
            f"`{name}`: {text!r} is no list of numbers such as 0.5,0.5,0.5"
        ) from None


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How image data are preprocessed.

    Attributes:
        classes: Names of the model's classes in its order, for the report; and for folders of
            images: those of class folders, of which some may be missing, and of ``labels``.
    """

    mean: Annotated[
        tuple[float, ...] | None,
        Option(Panel.IMAGES, read=partial(read_numbers, "mean"), decides=Decides.IMAGES),
    ] = None
    """Mean of the pixels on the scale 0 to 1, such as 0.485,0.456,0.406; for uint8 images after
    /255. Replaces what the file says."""
    std: Annotated[
        tuple[float, ...] | None,
        Option(Panel.IMAGES, read=partial(read_numbers, "std"), decides=Decides.IMAGES),
    ] = None
    """Standard deviation of the pixels, likewise."""
    resize: Annotated[int | None, Option(Panel.IMAGES, advanced=True, decides=Decides.IMAGES)] = (
        None
    )
    """Image files: length of the shorter side after resizing, pixels; that of `crop` by default."""
    crop: Annotated[int | None, Option(Panel.IMAGES, advanced=True, decides=Decides.IMAGES)] = None
    """Image files: side of the centred square, pixels; the model's input size by default."""
    preset: Annotated[Preset | None, Option(Panel.IMAGES, decides=Decides.IMAGES)] = None
    """imagenet: shorter side 256, centre 224, the usual mean and std."""
    classes: Annotated[
        tuple[str, ...] | None,
        Option(Panel.IMAGES, metavar="FILE", read=read_class_names, decides=Decides.IMAGES),
    ] = None
    """A text file with the names of all classes of the model, one a line in its order: the report
    has them. Class folders are found among them; without it they are the classes in the order of
    their names, and as many as the model has."""
    labels: Annotated[
        str | os.PathLike[str] | None, Option(Panel.IMAGES, metavar="FILE", decides=Decides.IMAGES)
    ] = None
    """A folder of images without class folders: a .csv file with the columns file and label, the
    number of the class, or its name with `classes`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.preset is not None:
            object.__setattr__(self, "preset", choice(Preset, self.preset))
        for flag, value in (("`resize`", self.resize), ("`crop`", self.crop)):
            if value is not None and value < 1:
                raise DataError(f"{flag}: {value} must be 1 or more")
        if self.classes is not None:
            check_class_names(self.classes)
            object.__setattr__(self, "classes", tuple(self.classes))
        if self.labels is not None:  # a run keeps its options as JSON
            object.__setattr__(self, "labels", os.fspath(self.labels))

    def filled(self) -> "DataOptions":
        """With the preset's values where nothing was given."""
        if self.preset is None:
            return self
        return replace(
            self,
            preset=None,
            mean=self.mean or (0.485, 0.456, 0.406),
            std=self.std or (0.229, 0.224, 0.225),
            resize=self.resize or 256,
            crop=self.crop or 224,
        )


def load_images(
    data: Data,
    input_name: str,
    shape: tuple[int | None, ...],
    options: DataOptions | None = None,
    *,
    for_metric: bool = False,
    head: Head = Head.SOFTMAX,
    raw: bool = False,
) -> ImageSet:
    """Read images and lay them out for the model.

    Args:
        data: Path of a ``.npz`` file or of a folder of class folders, an :class:`ImageSet`, an
            array of images, a pair (images, labels), an
            ``onnxruntime.quantization.CalibrationDataReader``, or any iterable of batches: arrays,
            pairs, or feeds (input name -> images).
        input_name: Name of the model's input.
        shape: Its shape, batch axis first, None for an axis of any size.
        options: Preprocessing.
        for_metric: Whether labels are for a metric: any numbers, kept as ``targets``.
        head: Else the head of the model, which says what form labels must have: classes, or 0 and
            1 for each label.
        raw: Whether the model takes uint8 pixels as they are.

    Raises:
        TypeError: If ``data`` is none of these.
        DataError: If there are no images, they do not fit the model, or have nothing to do with an
            option; or if labels have another form, or are missing for a metric.
    """
    images = _read(data, input_name, shape, options or DataOptions(), raw=raw)
    return images.for_metric() if for_metric else images.for_head(head)


def load_pixels(
    data: Data,
    input_name: str,
    shape: tuple[int | None, ...],
    options: DataOptions | None = None,
    *,
    raw: bool = False,
) -> ImageSet:
    """The same for what needs no labels: those that are no classes are left away."""
    images = _read(data, input_name, shape, options or DataOptions(), raw=raw)
    labels = images.labels
    classes = labels is None or (labels.ndim == 1 and labels.dtype == np.int64)
    return images if classes else replace(images, labels=None)


def _read(
    data: Data,
    input_name: str,
    shape: tuple[int | None, ...],
    options: DataOptions,
    *,
    raw: bool,
) -> ImageSet:
    """Images with labels as they are."""
    images = _laid_out(data, input_name, shape, options)
    return images.as_they_are() if raw else images


def _laid_out(
    data: Data, input_name: str, shape: tuple[int | None, ...], options: DataOptions
) -> ImageSet:
    if isinstance(data, str | os.PathLike):
        return _from_path(data, shape, options.filled()).fit(shape)
    _refuse(options, "resize", "crop", "labels")
    options = options.filled()  # of a preset mean and standard deviation
    if isinstance(data, ImageSet | BatchReader):
        images = data if isinstance(data, ImageSet) else read_all(data, input_name)
        if options.classes != images.classes:
            _refuse(options, "classes")
        if images.normalization != _normalization(options):
            _refuse(options, "mean", "std")
        return images.fit(shape)
    return replace(_from_memory(data, input_name, options), classes=options.classes).fit(shape)


def _from_path(
    data: str | os.PathLike[str], shape: tuple[int | None, ...], options: DataOptions
) -> ImageSet:
    path = Path(data)
    if not is_there(path):
        raise DataError(f"{data}: no such file or folder")
    if path.is_dir():
        naming = Naming(classes=options.classes, table=options.labels)
        framing = _framing(path, shape, options)
        return read_folder(path, framing, _normalization(options) or Normalization(), naming)
    if options.labels is not None:
        raise DataError(
            f"{options.labels}: `labels` is for a folder of images, and {data} is a file, whose "
            "labels are 'y'"
        )
    return read_npz(path, options.mean, options.std).named(options.classes)


def _from_memory(data: object, input_name: str, options: DataOptions) -> ImageSet:
    normalization = _normalization(options)
    if isinstance(data, np.ndarray):
        return from_array(data, normalization)
    if isinstance(data, tuple) and len(data) == 2:
        return from_pair(*data, normalization)
    if isinstance(data, Iterable) and not isinstance(data, bytes | Mapping):
        return from_batches(data, input_name, normalization)
    raise TypeError(
        "images must be a path, an ImageSet, an array, a pair (images, labels), a "
        f"CalibrationDataReader or an iterable of batches, not {type(data).__name__}"
    )


def _normalization(options: DataOptions) -> Normalization | None:
    """Mean and standard deviation that were given; None for neither."""
    if options.mean is None and options.std is None:
        return None
    return Normalization(mean=options.mean or (0.0,), std=options.std or (1.0,))


def _refuse(options: DataOptions, *names: str) -> None:
    """Options that would do nothing to images in memory."""
    for name in names:
        if getattr(options, name) is not None:
            raise DataError(f"`{name}`: is for images in files; these are in memory as they are")


def _framing(path: Path, shape: tuple[int | None, ...], options: DataOptions) -> Framing:
    if len(shape) != 4:
        raise DataError(f"{path}: image folders need a model that takes [N, C, H, W]")
    channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    colours, side = (shape[3], shape[1]) if channels_last else (shape[1], shape[2])
    crop = options.crop or side
    if crop is None:
        raise DataError(f"{path}: the model takes images of any size: give `crop`")
    return Framing(resize=options.resize or crop, crop=crop, colours=colours or 3)
