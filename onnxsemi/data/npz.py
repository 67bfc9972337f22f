"""Images from a ``.npz`` file.

Keys: ``x`` uint8[N, H, W, C], or float32[N, ...] already in the model's layout; ``y`` int[N]
(optional); ``mean`` and ``std`` (optional, for uint8), one value or one a colour channel.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi.arrays import Int64Array
from onnxsemi.data.images import ImageSet, Normalization
from onnxsemi.errors import DataError


def read_npz(path: Path, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> ImageSet:
    """Read images; ``mean`` and ``std`` given here replace those in the file.

    Raises:
        DataError: If the file is no such archive, or an array in it cannot be used.
    """
    arrays = _read_arrays(path)
    if "x" not in arrays:
        raise DataError(f"{path}: no array 'x' with the images; it holds {sorted(arrays)}")
    pixels = image_array(arrays["x"], str(path))
    labels = label_array(arrays["y"], len(pixels), str(path)) if "y" in arrays else None
    if pixels.dtype != np.uint8:
        if mean or std:
            raise DataError(f"{path}: mean and std are for uint8 images; 'x' is {pixels.dtype}")
        return ImageSet(str(path), pixels, labels)
    normalization = Normalization(
        mean=mean or _colours(arrays, "mean", 0.0), std=std or _colours(arrays, "std", 1.0)
    )
    return ImageSet(str(path), pixels, labels, normalization)


def image_array(images: NDArray[Any], name: str) -> NDArray[Any]:
    """uint8[N, H, W, C] as it is, any float as float32; all of it finite.

    Raises:
        DataError: With the first bad index.
    """
    if len(images.shape) < 2 or images.size == 0:
        raise DataError(f"{name}: no images: 'x' has shape {list(images.shape)}")
    if images.dtype == np.uint8:
        if images.ndim != 4:
            raise DataError(
                f"{name}: uint8 images need shape [N, H, W, C], 'x' has {list(images.shape)}"
            )
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{name}: 'x' is {images.dtype}; it must be uint8 or float32")
    bad = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(axis=1))
    if bad.size:
        raise DataError(f"{name}: image {bad[0]} holds NaN or infinity")
    return images.astype(np.float32)


def label_array(labels: NDArray[Any], count: int, name: str) -> Int64Array:
    """Labels as int64[N].

    Raises:
        DataError: If there is not one whole number an image.
    """
    if labels.shape != (count,):
        raise DataError(f"{name}: {count} images, but 'y' has shape {list(labels.shape)}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: 'y' is {labels.dtype}; it must be whole numbers")
    return labels.astype(np.int64)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in ("x", "y", "mean", "std") if key in archive} or {
                key: np.empty(0) for key in archive
            }
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz archive of arrays ({error})") from None


def _colours(arrays: dict[str, NDArray[Any]], key: str, default: float) -> tuple[float, ...]:
    values = np.atleast_1d(arrays.get(key, np.asarray(default)))
    return tuple(float(value) for value in values.ravel())
