"""Images from a folder with one folder a class (needs Pillow: ``pip install '.[images]'``).

The classes are the sub-folders in the order of their names; hidden ones are passed over. A folder
of images without sub-folders gives images without labels. Each image is resized so that its shorter
side is ``resize``, and its centre ``crop`` x ``crop`` is taken. Every file is decoded once at the
start, so that a broken one is refused before anything is measured; the images of a folder that is
too large for the memory are decoded again whenever they are asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxsemi.arrays import Int64Array, UInt8Array
from onnxsemi.data.images import ImageSet, Normalization
from onnxsemi.data.source import PixelSource, fits_memory
from onnxsemi.errors import DataError

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"}


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
                f"--crop {self.crop} must be above 0 and at most --resize {self.resize}"
            )
        if self.colours not in (1, 3):
            raise DataError(
                f"image files give 1 or 3 colour channels, the model takes {self.colours}"
            )


class ImageFiles(PixelSource):
    """Images decoded from their files when asked for."""

    def __init__(self, files: Sequence[Path], framing: Framing) -> None:
        self._files, self._framing = tuple(files), framing
        self.dtype = np.dtype(np.uint8)
        self.shape = (len(files), framing.crop, framing.crop, framing.colours)

    def take(self, indices: Int64Array) -> UInt8Array:
        """uint8[M, crop, crop, colours]; see :meth:`PixelSource.take`."""
        places = np.arange(len(self._files))[indices]
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        for image, place in zip(images, places, strict=True):
            image[...] = _read(self._files[place], self._framing)
        return images

    def check(self) -> None:
        """Decode every file once and keep nothing.

        Raises:
            DataError: If one cannot be read.
        """
        for file in self._files:
            _read(file, self._framing)


def read_folder(path: Path, framing: Framing, normalization: Normalization) -> ImageSet:
    """Read every image below ``path``.

    Raises:
        DataError: If Pillow is missing, there is no image, or one cannot be read.
    """
    classes = sorted(e for e in path.iterdir() if e.is_dir() and not e.name.startswith("."))
    empty = [folder.name for folder in classes if not any(_images(folder))]
    if empty:
        raise DataError(f"{path}: class folder {empty[0]!r} has no images")
    files = [(file, label) for label, folder in enumerate(classes) for file in _images(folder)]
    files = files or [(file, -1) for file in _images(path)]
    if not files:
        raise DataError(f"{path}: no images in it or in its class folders")
    images = ImageFiles([file for file, _ in files], framing)
    labels = np.array([label for _, label in files], np.int64) if files[0][1] >= 0 else None
    if fits_memory(images.shape, images.dtype):
        return ImageSet(str(path), images.take(np.arange(len(files))), labels, normalization)
    images.check()
    return ImageSet(str(path), images, labels, normalization)


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix.lower() in _SUFFIXES)


def _read(file: Path, framing: Framing) -> UInt8Array:
    """uint8[crop, crop, colours]."""
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  optional
    except ImportError:
        raise DataError("image folders need Pillow: pip install Pillow") from None
    try:
        with Image.open(file) as image:
            whole = image.convert("L" if framing.colours == 1 else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{file}: not a readable image ({error})") from None
    scale = framing.resize / min(whole.size)
    width, height = (max(framing.crop, round(side * scale)) for side in whole.size)
    left, top = (width - framing.crop) // 2, (height - framing.crop) // 2
    square = whole.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + framing.crop, top + framing.crop)
    )
    return np.asarray(square, np.uint8).reshape(framing.crop, framing.crop, framing.colours)
