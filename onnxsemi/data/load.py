"""Whatever the user has -> an ImageSet laid out for the model."""

import os
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from onnxsemi.choices import choice
from onnxsemi.data.folder import Framing, Naming, read_folder
from onnxsemi.data.images import ImageSet, Normalization
from onnxsemi.data.naming import check_class_names
from onnxsemi.data.npz import read_npz
from onnxsemi.data.reader import BatchReader, read_all
from onnxsemi.errors import DataError

Data = str | os.PathLike[str] | ImageSet | BatchReader


class Preset(StrEnum):
    """Preprocessing that many models share."""

    IMAGENET = "imagenet"
    """Shorter side to 256, centre 224, torchvision's mean and standard deviation."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How image data are preprocessed.

    Attributes:
        mean: Mean of the pixels on the scale 0 to 1; replaces what the file says.
        std: Standard deviation, likewise.
        resize: Shorter side of image files after resizing; the crop unless told.
        crop: Side of the centred square; the model's input size unless told.
        preset: Fills whatever of these is not given.
        classes: Names of the model's classes in its order, for the report; and for folders of
            images: those of class folders, of which some may be missing, and of ``labels``.
        labels: For a folder of images: a table with the columns file and label, the number or the
            name of the class.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    crop: int | None = None
    preset: Preset | None = None
    classes: tuple[str, ...] | None = None
    labels: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.preset is not None:
            object.__setattr__(self, "preset", choice(Preset, self.preset))
        for flag, value in (("--resize", self.resize), ("--crop", self.crop)):
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
    data: Data, input_name: str, shape: tuple[int | None, ...], options: DataOptions | None = None
) -> ImageSet:
    """Read images and lay them out for the model.

    Args:
        data: Path of a ``.npz`` file or of a folder of class folders, an :class:`ImageSet`, or an
            ``onnxruntime.quantization.CalibrationDataReader``.
        input_name: Name of the model's input.
        shape: Its shape, batch axis first, None for an axis of any size.
        options: Preprocessing.

    Raises:
        DataError: If there are no images, or they do not fit the model.
    """
    options = (options or DataOptions()).filled()
    if isinstance(data, ImageSet):
        return data.fit(shape)
    if isinstance(data, BatchReader):
        return read_all(data, input_name).fit(shape)
    path = Path(data)
    if not path.exists():
        raise DataError(f"{data}: no such file or folder")
    if path.is_dir():
        normalization = Normalization(mean=options.mean or (0.0,), std=options.std or (1.0,))
        naming = Naming(classes=options.classes, table=options.labels)
        return read_folder(path, _framing(path, shape, options), normalization, naming).fit(shape)
    if options.labels is not None:
        raise DataError(
            f"{options.labels}: --labels is for a folder of images, and {data} is a file, whose "
            "labels are 'y'"
        )
    images = read_npz(path, options.mean, options.std).with_classes(options.classes)
    return images.fit(shape)


def _framing(path: Path, shape: tuple[int | None, ...], options: DataOptions) -> Framing:
    if len(shape) != 4:
        raise DataError(f"{path}: image folders need a model that takes [N, C, H, W]")
    channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    colours, side = (shape[3], shape[1]) if channels_last else (shape[1], shape[2])
    crop = options.crop or side
    if crop is None:
        raise DataError(f"{path}: the model takes images of any size: give --crop")
    return Framing(resize=options.resize or crop, crop=crop, colours=colours or 3)
