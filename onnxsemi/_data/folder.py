"""Images from a folder with one folder a class (needs Pillow: ``pip install '.[images]'``).

The classes are the sub-folders in the order of their names, as text, or of the class names that are
given; hidden ones are passed over. A folder of images without sub-folders gives images without
labels, unless a table has them. Each image is resized so that its shorter
side is ``resize``, and its centre ``crop`` x ``crop`` is taken. Every file is decoded once, at the
start, so that a broken one is refused before anything is measured; the pixels of a folder that is
too large for the memory are put in a temporary file.
"""

import math
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from onnxsemi._arrays import Int64Array, UInt8Array
from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.naming import read_labels
from onnxsemi._data.rowfile import PixelSpill, RowFile
from onnxsemi._data.source import PixelSource, fits_memory
from onnxsemi._errors import DataError
from onnxsemi._lfs import pointer_remedy
from onnxsemi._reading import reading, regular_file

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"}
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
"""What a file may be, whatever its name says: other decoders of Pillow are not tried."""
MOST_PIXELS = 2**26
"""Of a framed image before its centre is taken, at the most."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How an image file becomes an array.

    Attributes:
        resize: Length of the shorter side after resizing, in pixels.
        crop: Side of the centred square that is taken, in pixels; at most ``resize``.
        colours: 1 for grey, 3 for RGB.
    """

    resize: int
    crop: int
    colours: int

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise DataError(
                f"`crop` {self.crop} must be above 0 and at most `resize` {self.resize}"
            )
        if self.colours not in (1, 3):
            raise DataError(
                f"image files give 1 or 3 colour channels, the model takes {self.colours}"
            )


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Where the labels of image files come from.

    Attributes:
        classes: Names of the model's classes, in its order; None for those of the folders.
        table: A table of files and labels; None for one folder a class, or no labels.
    """

    classes: tuple[str, ...] | None = None
    table: str | os.PathLike[str] | None = None


def read_folder(
    path: Path, framing: Framing, normalization: Normalization, naming: Naming | None = None
) -> ImageSet:
    """Read every image below ``path``, or those that a table of labels lists.

    Raises:
        DataError: If Pillow is missing, there is no image, one cannot be read, or has no label
            where others have one; or if there is no room for the pixels.
    """
    naming = naming or Naming()
    with reading(DataError, f"{path}: cannot be read"):
        if naming.table is None:
            labelled, classes = _in_folders(path, naming.classes)
        else:
            labelled, classes = _in_table(path, naming), naming.classes
        numbers = [label for label in labelled.values() if label is not None]
        labels = np.array(numbers, np.int64) if numbers else None
    pixels = _decoded(labelled, framing, str(path))
    return ImageSet(str(path), pixels, labels, normalization, classes=classes)


def _decoded(files: Collection[Path], framing: Framing, name: str) -> UInt8Array | RowFile:
    """uint8[N, crop, crop, colours]: an array if they are few, else rows of a temporary file."""
    shape, dtype = (len(files), framing.crop, framing.crop, framing.colours), np.dtype(np.uint8)
    if not fits_memory(shape, dtype):
        spill = PixelSpill(name, math.prod(shape))
        for file in files:
            spill.write(_read(file, framing))
        return spill.rows(shape, dtype, partial(_chosen, list(files), framing))
    pixels = np.empty(shape, dtype)
    for image, file in zip(pixels, files, strict=True):
        image[...] = _read(file, framing)
    return pixels


class ImageFiles(PixelSource):
    """Image files, which are decoded whenever they are asked for."""

    def __init__(self, files: Sequence[Path], framing: Framing) -> None:
        """Of files, each framed alike."""
        self.files, self.framing = tuple(files), framing
        self.shape = (len(files), framing.crop, framing.crop, framing.colours)
        self.dtype = np.dtype(np.uint8)

    def take(self, indices: Int64Array) -> UInt8Array:
        """uint8[M, crop, crop, colours]; see :meth:`PixelSource.take`."""
        pixels = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for image, place in zip(pixels, indices.tolist(), strict=True):
            image[...] = _read(self.files[place], self.framing)
        return pixels


def _chosen(files: Sequence[Path], framing: Framing, indices: Int64Array) -> ImageFiles:
    """Some of the files, by paths that do not depend on where a process runs."""
    return ImageFiles([files[place].absolute() for place in indices.tolist()], framing)


def _in_folders(
    path: Path, names: tuple[str, ...] | None
) -> tuple[Mapping[Path, int | None], tuple[str, ...] | None]:
    """Image file -> label by its class folder, None without folders; and the classes' names."""
    folders = sorted(e for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
    for folder in folders:
        if not any(_images(folder)):
            raise DataError(f"{path}: class folder {folder.name!r} has no images")
        if names is not None and folder.name not in names:
            raise DataError(f"{path}: class folder {folder.name!r} is none of the `classes`")
    known = tuple(folder.name for folder in folders) if names is None else names
    labelled: dict[Path, int | None] = {
        file: known.index(folder.name) for folder in folders for file in _images(folder)
    }
    labelled = labelled or dict.fromkeys(_images(path))
    if not labelled:
        raise DataError(f"{path}: no images in it or in its class folders")
    return labelled, known or None


def _in_table(path: Path, naming: Naming) -> Mapping[Path, int | None]:
    """Image file -> label of a table."""
    assert naming.table is not None
    labelled = read_labels(naming.table, path, naming.classes)
    missing = [file for file in _images(path) if file not in labelled]
    if missing:
        raise DataError(
            f"{path}: {missing[0].name} has no label in {naming.table}, nor have "
            f"{len(missing) - 1} others: give every image one, or take it out of the folder"
        )
    return dict(labelled)


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix.lower() in _SUFFIXES)


def _read(file: Path, framing: Framing) -> UInt8Array:
    """uint8[crop, crop, colours]."""
    try:
        from PIL import Image  # noqa: PLC0415  optional
    except ImportError:
        raise DataError("image folders need Pillow: pip install Pillow") from None
    regular_file(file, DataError)
    failure = pointer_remedy(file) or f"{file}: not a readable image"
    with reading(DataError, failure), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of an odd profile of colours
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file, formats=_FORMATS) as image:
            _check_size(image.size, framing)
            whole = image.convert("L" if framing.colours == 1 else "RGB")
    scale = framing.resize / min(whole.size)
    width, height = (max(framing.crop, round(side * scale)) for side in whole.size)
    left, top = (width - framing.crop) // 2, (height - framing.crop) // 2
    square = whole.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + framing.crop, top + framing.crop)
    )
    return np.asarray(square, np.uint8).reshape(framing.crop, framing.crop, framing.colours)


def _check_size(size: tuple[int, int], framing: Framing) -> None:
    """Refuse an image that is far longer than wide: framed, it would be all the larger.

    Raises:
        ValueError: With its size.
    """
    if framing.resize**2 * max(size) > MOST_PIXELS * max(1, min(size)):
        raise ValueError(f"{size[0]} x {size[1]} pixels are too long a strip")
