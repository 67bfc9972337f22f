"""Images from a ``.npz`` file.

Keys: ``x`` uint8[N, H, W, C], or float32[N, ...] already in the model's layout; ``y`` int[N]
(optional); ``mean`` and ``std`` (optional, for uint8), one value or one a colour channel. Any other
key is refused, and so are mean and std beside floats: what a file says is never ignored.

Images too large for the memory are read from the archive itself where they lie in it as they are,
from a temporary file where they are compressed. Either way all of them are read once at the start:
that is what finds a damaged archive.
"""

import math
import os
import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.rowfile import PixelSpill, RowFile, StoredRows
from onnxsemi._data.source import Pixels, fits_memory
from onnxsemi._errors import DataError
from onnxsemi._lfs import pointer_remedy
from onnxsemi._reading import reading, regular_file

_KNOWN = ("x", "y", "mean", "std")
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and extra field
_PIECE = 2**20

_DENSEST = 100
"""Times as large as its compressed bytes that a large array is, at the most."""
_MOST_BYTES = 2**28
"""Of labels; of what is small enough to be compressed as it likes."""
_REMEDY = "save one with numpy.savez(path, x=images, y=labels)"


def read_npz(path: Path, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> ImageSet:
    """Read images; ``mean`` and ``std`` given here replace those in the file.

    Raises:
        DataError: If the file is no such archive, or an array in it cannot be used.
    """
    pixels, arrays = _read_arrays(path)
    if pixels is None:
        raise DataError(f"{path}: no array 'x' with the images; it holds {sorted(arrays)}")
    labels = arrays.get("y")
    if pixels.dtype != np.uint8:
        said = [name for name in ("mean", "std") if name in arrays]
        if mean or std or said:
            where = f"{path}: holds {' and '.join(said)}" if said else str(path)
            raise DataError(
                f"{where}: mean and std are for uint8 images, and 'x' is {pixels.dtype}, which is "
                "taken as it is: save the images as uint8, or normalized and without mean and std"
            )
        return ImageSet(str(path), pixels, labels)
    normalization = Normalization(
        mean=mean or _colours(arrays, "mean", 0.0), std=std or _colours(arrays, "std", 1.0)
    )
    return ImageSet(str(path), pixels, labels, normalization)


def _read_arrays(path: Path) -> tuple[Pixels | None, dict[str, NDArray[Any]]]:
    """The images, and the other arrays by their keys; without images just the keys."""
    regular_file(path, DataError)
    failure = pointer_remedy(path) or f"{path}: not a readable .npz archive of plain arrays"
    with reading(DataError, failure, _REMEDY), path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise DataError(f"{path}: one array; save several with numpy.savez(path, x=..., y=...)")
        with loaded as archive:
            if "x" not in archive:
                return None, {key: np.empty(0) for key in archive}
            _refuse_unknown(path, archive.files)
            pixels: Pixels = _large(file, archive.zip, str(path)) or _whole(archive.zip, "x")
            return pixels, {key: _whole(archive.zip, key) for key in _KNOWN[1:] if key in archive}


def _whole(archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """An array that is held as a whole, as large as it says.

    Raises:
        ValueError: If it is not.
    """
    member = archive.getinfo(f"{key}.npy" if f"{key}.npy" in archive.namelist() else key)
    with archive.open(member) as file:
        shape, _, dtype = _plain_header(file)
        size = math.prod(shape) * dtype.itemsize
        if size > _MOST_BYTES and key != "x":
            raise ValueError(f"{key!r} has {size:,} bytes, at most {_MOST_BYTES:,} are read")
        _check_density(member)
        if member.file_size != file.tell() + size:
            raise ValueError(f"{key!r} has other bytes than its shape {list(shape)} says")
        file.seek(0)
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array


def _check_density(member: zipfile.ZipInfo) -> None:
    """Refuse what is made to fill the memory or the disk."""
    if member.file_size > max(_MOST_BYTES, _DENSEST * member.compress_size):
        raise ValueError(f"it is more than {_DENSEST} times as large as its compressed bytes")


def _refuse_unknown(path: Path, keys: list[str]) -> None:
    """A key that nothing reads is a typing mistake: 'Y', 'labels', 'sdt'."""
    unknown = sorted(set(keys) - set(_KNOWN))
    if unknown:
        raise DataError(
            f"{path}: holds {', '.join(map(repr, unknown))}, which nothing reads: the keys are "
            "x (images), y (labels), mean and std; rename it, or leave it out"
        )


def _large(file: BinaryIO, archive: zipfile.ZipFile, name: str) -> RowFile | None:
    """The images as rows of a file; None if they are few, or not stored row by row."""
    if "x.npy" not in archive.namelist():
        return None
    info = archive.getinfo("x.npy")
    with archive.open(info) as member:
        shape, by_columns, dtype = _plain_header(member)
        header = shape, dtype
        if by_columns or not shape or fits_memory(*header):
            return None
        _check_density(info)
        start, size = member.tell(), math.prod(header[0]) * header[1].itemsize
        if info.file_size < start + size:
            raise ValueError("fewer bytes than the shape says")
        if info.compress_type != zipfile.ZIP_STORED:
            return _unpacked(member, name, size).rows(*header)
        for _ in _pieces(member):
            pass  # zipfile compares the checksum at the end
    file.seek(info.header_offset)
    start += info.header_offset + _LOCAL_HEADER.size
    start += sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
    # The same open file, so that what was checked is what will be read
    again = partial(StoredRows, Path(name).absolute(), start, *header)
    return RowFile(os.fdopen(os.dup(file.fileno()), "rb", buffering=0), start, *header, name, again)


def _plain_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape of an array of plain values, whether it stands by columns, and its type."""
    version = npy.read_magic(member)
    if version == (1, 0):
        header = npy.read_array_header_1_0(member)
    elif version == (2, 0):
        header = npy.read_array_header_2_0(member)
    else:
        raise ValueError(f"version {version} of its header is for named fields")
    if header[2].hasobject:
        raise ValueError("it holds Python objects")
    return header


def _unpacked(member: IO[bytes], name: str, size: int) -> PixelSpill:
    """The rest of a compressed member, ``size`` bytes, in a temporary file."""
    spill = PixelSpill(name, size)
    for piece in _pieces(member):
        spill.write(piece)
    return spill


def _pieces(member: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: member.read(_PIECE), b"")


def _colours(arrays: dict[str, NDArray[Any]], key: str, default: float) -> tuple[float, ...]:
    values = np.atleast_1d(arrays.get(key, np.asarray(default)))
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise DataError(f"`{key}`: {values.tolist()} is no list of numbers")
    return tuple(float(value) for value in values.ravel())
