"""Where pixels come from, and how they are read without holding all of them.

An image set may be larger than the memory: 50,000 images of 224 x 224 are 7.5 GB. So pixels are
either an array, if they are few, or a :class:`PixelSource`, which reads the images that are asked
for. What goes through all images does so by :func:`chunks`, whose size does not grow with them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array, Int64Array, UInt8Array, read_only

MEMORY_LIMIT = 256 * 2**20
"""Pixels of at most so many bytes are held in memory: that is faster, and no machine minds."""

_CHUNK = 8 * 2**20


class PixelSource(ABC):
    """Images of one shape and type that are read when asked for.

    An abstract class and not a protocol, as arrays have the same attributes and another ``take``.

    Attributes:
        dtype: Type of the pixels.
        shape: Shape of all of them, images first: (N, ...).
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @abstractmethod
    def take(self, indices: Int64Array) -> NDArray[Any]:
        """The chosen images, in the order of ``indices``. Several threads may call it at once.

        Args:
            indices: int64[M], chosen as an array's rows are by an index array.

        Returns:
            dtype[M, ...], a new array.

        Raises:
            IndexError: If there is no such image.
            DataError: If the images can no longer be read.
        """

    def elsewhere(self, indices: Int64Array) -> "PixelSource | None":
        """Some of the images for other processes, which read them from the user's files.

        Args:
            indices: int64[M], as for :meth:`take`.

        Returns:
            What can be pickled, and is small; None if only this process has the images.
        """
        del indices
        return None


Pixels = NDArray[Any] | PixelSource


class Selection(PixelSource):
    """Some images of an array or of another source: an index array, no pixels."""

    def __init__(self, source: Pixels, indices: Int64Array) -> None:
        chosen = np.arange(source.shape[0])[indices]
        self.source: Pixels = source
        self.indices: Int64Array = read_only(chosen)
        if isinstance(source, Selection):  # so that selections do not pile up
            self.source, self.indices = source.source, read_only(source.indices[chosen])
        self.dtype = source.dtype
        self.shape = (len(chosen), *source.shape[1:])

    def take(self, indices: Int64Array) -> NDArray[Any]:
        """dtype[M, ...]; see :meth:`PixelSource.take`."""
        return take(self.source, self.indices[indices])

    def elsewhere(self, indices: Int64Array) -> PixelSource | None:
        """Those of what they were chosen from."""
        return elsewhere(self.source, self.indices[indices])


class Float32Source(PixelSource):
    """Another source's images, of whatever float type, as float32."""

    def __init__(self, source: PixelSource) -> None:
        self.source = source
        self.dtype = np.dtype(np.float32)
        self.shape = source.shape

    def take(self, indices: Int64Array) -> Float32Array:
        """float32[M, ...]; see :meth:`PixelSource.take`."""
        return self.source.take(indices).astype(np.float32)

    def elsewhere(self, indices: Int64Array) -> PixelSource | None:
        """The other source's, as float32."""
        source = self.source.elsewhere(indices)
        return None if source is None else Float32Source(source)


def fits_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether pixels are few enough to be held; the one place that decides.

    >>> fits_memory((50_000, 224, 224, 3), np.dtype(np.uint8))
    False
    """
    return math.prod(shape) * dtype.itemsize <= MEMORY_LIMIT


def take(pixels: Pixels, indices: Int64Array) -> NDArray[Any]:
    """The chosen images of an array or a source: dtype[M, ...]."""
    return pixels[indices] if isinstance(pixels, np.ndarray) else pixels.take(indices)


def elsewhere(pixels: Pixels, indices: Int64Array) -> PixelSource | None:
    """Some images for other processes; None of an array, which is sent as it is."""
    return None if isinstance(pixels, np.ndarray) else pixels.elsewhere(indices)


def select(pixels: Pixels, indices: Int64Array) -> UInt8Array | Float32Array | PixelSource:
    """The chosen images: copied if they are held in memory and few, else by their indices."""
    chosen = Selection(pixels, indices)
    if isinstance(pixels, np.ndarray) and fits_memory(chosen.shape, chosen.dtype):
        return read_only(pixels[indices])
    return chosen


def chunks(pixels: Pixels) -> Iterator[tuple[int, NDArray[Any]]]:
    """All images in order, a few megabytes at a time: (index of the first, dtype[M, ...])."""
    count = pixels.shape[0]
    step = max(1, _CHUNK // max(1, math.prod(pixels.shape[1:]) * pixels.dtype.itemsize))
    for start in range(0, count, step):
        stop = min(start + step, count)
        if isinstance(pixels, np.ndarray):
            yield start, pixels[start:stop]
        else:
            yield start, pixels.take(np.arange(start, stop))
