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
    pixels, labels = arrays["x"], arrays.get("y")
    if pixels.dtype != np.uint8:
        if mean or std:
            raise DataError(f"{path}: mean and std are for uint8 images; 'x' is {pixels.dtype}")
        return ImageSet(str(path), pixels, labels)
    normalization = Normalization(
        mean=mean or _colours(arrays, "mean", 0.0), std=std or _colours(arrays, "std", 1.0)
    )
    return ImageSet(str(path), pixels, labels, normalization)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise DataError(
                    f"{path}: one array; save several with numpy.savez(path, x=..., y=...)"
                )
            return {key: archive[key] for key in ("x", "y", "mean", "std") if key in archive} or {
                key: np.empty(0) for key in archive
            }
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error):
        raise DataError(
            f"{path}: not a readable .npz archive of plain arrays; "
            "save one with numpy.savez(path, x=images, y=labels)"
        ) from None


def _colours(arrays: dict[str, NDArray[Any]], key: str, default: float) -> tuple[float, ...]:
    values = np.atleast_1d(arrays.get(key, np.asarray(default)))
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise DataError(f"--{key}: {values.tolist()} is no list of numbers")
    return tuple(float(value) for value in values.ravel())
