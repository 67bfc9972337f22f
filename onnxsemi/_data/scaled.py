"""Float images with other values, computed when they are asked for."""

from dataclasses import replace

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.source import Pixels, PixelSource, take


class Scaled(PixelSource):
    """``(x - shift) / scale`` of another source's images."""

    def __init__(self, source: Pixels, shift: Float32Array, scale: Float32Array) -> None:
        """Of a source [N, ...], with numbers that broadcast to one image."""
        self._source, self._shift, self._scale = source, shift, scale
        self.dtype = np.dtype(np.float32)
        self.shape = source.shape

    def take(self, indices: Int64Array) -> Float32Array:
        """float32[M, ...]; see :meth:`PixelSource.take`."""
        found: Float32Array = (take(self._source, indices) - self._shift) / self._scale
        return found.astype(np.float32, copy=False)


def channel_axis(images: ImageSet) -> int | None:
    """The axis of the colours; None if none looks like one."""
    shape = images.pixels.shape
    if images.normalization is not None:
        return len(shape) - 1
    return next((axis for axis in (1, len(shape) - 1) if shape[axis] in (1, 3)), None)


def rescaled(
    images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...], unit: float = 1
) -> ImageSet:
    """Float images as ``(x / unit - mean) / std``, one value or one a colour channel."""
    axis, pixels = channel_axis(images), images.pixels
    shape = [1] * (len(pixels.shape) - 1)
    if axis is not None and len(mean) > 1:
        shape[axis - 1] = len(mean)
    shift, scale = (np.float32(unit) * np.array(v, np.float32) for v in (mean, std))
    return replace(images, pixels=Scaled(pixels, shift.reshape(shape), scale.reshape(shape)))
