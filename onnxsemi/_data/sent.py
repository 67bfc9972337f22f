"""Images on their way to another process.

What lies in files of the user's that the other process sees, too, is read there; everything else is
sent. Either way they are held in memory there: no image is read or decoded a second time. What is
read there must be what was read here, to the byte.
"""

import hashlib
import platform
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._data.images import ImageSet
from onnxsemi._data.source import PixelSource, elsewhere, take
from onnxsemi._errors import DataError, RunError

FEW = 4
"""Images that a process reads to tell whether it sees the user's files."""


@dataclass(frozen=True, eq=False)
class SentImages:
    """Images, which are an :class:`ImageSet` where this is unpickled.

    Attributes:
        images: Their pixels in memory, or read from files of the user's.
        digest: Of the pixels that are to be read; empty if they are sent.
    """

    images: ImageSet
    digest: str

    @classmethod
    def of(cls, images: ImageSet, *, by_files: bool) -> "SentImages":
        """Make them ready.

        Args:
            images: Here.
            by_files: Whether who receives them sees the user's files.
        """
        pixels = take(images.pixels, np.arange(len(images)))
        source = elsewhere(images.pixels, np.arange(len(images))) if by_files else None
        if source is None:
            return cls(images.with_pixels(pixels), "")
        return cls(images.with_pixels(source), _digest(pixels))

    def __reduce__(self) -> tuple[Any, ...]:
        """Received where it is unpickled."""
        return received, (self.images, self.digest)


def received(images: ImageSet, digest: str) -> ImageSet:
    """The images with their pixels in memory.

    Raises:
        DataError: If they cannot be read here.
        RunError: If others are read here than there.
    """
    pixels = take(images.pixels, np.arange(len(images)))
    if digest and _digest(pixels) != digest:
        raise RunError(
            f"{images.name}: worker {platform.node()} reads other pixels there than the machine "
            "of the command: give it the same files, and the same version of Pillow"
        )
    return images.with_pixels(pixels)


def sight_of(images: ImageSet) -> "Sight | None":
    """How another process tells whether it sees the files; None if the images lie in none."""
    source = elsewhere(images.pixels, np.arange(min(FEW, len(images))))
    return None if source is None else Sight(source)


@dataclass(frozen=True, eq=False)
class Sight:
    """Some images in files of the user's."""

    source: PixelSource

    def __call__(self) -> str:
        """Digest of their pixels as this process reads them; empty if it cannot."""
        try:
            return _digest(self.source.take(np.arange(self.source.shape[0])))
        except DataError:
            return ""


def _digest(pixels: NDArray[Any]) -> str:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
