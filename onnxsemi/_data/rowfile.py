"""Images read from an array that lies in a file, and the temporary file that some are put in.

Read by plain reads, not by ``mmap``: mapped pages count as the process's memory. The file stays
open, so that a file that is replaced meanwhile is read as it was.
"""

import itertools
import math
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Int64Array
from onnxsemi._data.source import PixelSource
from onnxsemi._errors import DataError
from onnxsemi._reading import reading

Elsewhere = Callable[[Int64Array], PixelSource]
"""See :meth:`~onnxsemi._data.source.PixelSource.elsewhere`."""


class RowFile(PixelSource):
    """Rows of a C-ordered array in a file.

    Attributes:
        name: Where the images come from, for messages.
        offset: Position of the array's first byte.
    """

    def __init__(
        self,
        file: IO[bytes],
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Take over ``file``: it is closed when nothing reads it any more.

        Args:
            file: Open for reading, anything written to it flushed.
            offset: Position of the array's first byte.
            shape: Shape of the array, at least one axis.
            dtype: Its type, not ``object``.
            name: Where the images come from, for messages.
            elsewhere: Gives some of them for other processes; None if only this one has them.
        """
        self.name, self.offset, self.shape, self.dtype = name, offset, shape, dtype
        self._file, self._elsewhere = file, elsewhere
        self._row = math.prod(shape[1:]) * dtype.itemsize
        self._position = threading.Lock()
        weakref.finalize(self, file.close)

    def take(self, indices: Int64Array) -> NDArray[Any]:
        """dtype[M, ...]; images that follow each other are read in one go."""
        places = np.arange(self.shape[0])[indices]
        rows = np.empty((len(places), *self.shape[1:]), self.dtype)
        borders = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
        for start, stop in itertools.pairwise(borders):
            if start < stop:
                run = rows[start:stop].reshape(-1).view(np.uint8).data
                self._fill(run, self.offset + int(places[start]) * self._row)
        return rows

    def elsewhere(self, indices: Int64Array) -> PixelSource | None:
        """Some of the images for other processes."""
        return None if self._elsewhere is None else self._elsewhere(indices)

    def _fill(self, run: memoryview, offset: int) -> None:
        """Fill the buffer with the file's bytes from ``offset``."""
        done = 0
        while done < len(run):
            try:
                count = self._read(run[done:], offset + done)
            except OSError as error:
                raise DataError(f"{self.name}: cannot be read: {error.strerror or error}") from None
            if not count:
                raise DataError(f"{self.name}: was cut short while it was in use")
            done += count

    def _read(self, run: memoryview, offset: int) -> int:
        """Read what one call gives; threads must not move each other's position."""
        if sys.platform == "win32":
            with self._position:
                self._file.seek(offset)
                data = self._file.read(len(run))
            run[: len(data)] = data
            return len(data)
        else:  # noqa: RET505  mypy takes it for unreachable without the branch
            return os.preadv(self._file.fileno(), [run], offset)


class StoredRows(PixelSource):
    """Rows of an array in a file of the user's, which is opened whenever some are asked for."""

    def __init__(
        self,
        path: Path,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        indices: Int64Array,
    ) -> None:
        """Choose rows.

        Args:
            path: The file.
            offset: Position of the array's first byte.
            shape: Shape of the whole array.
            dtype: Its type.
            indices: int64[M], the rows that these images are.
        """
        self.path, self.offset, self.whole, self.dtype = path, offset, shape, dtype
        self.indices = np.arange(shape[0])[indices]
        self.shape = (len(self.indices), *shape[1:])

    def take(self, indices: Int64Array) -> NDArray[Any]:
        """dtype[M, ...]; see :meth:`PixelSource.take`."""
        name = str(self.path)
        failure = f"{name}: cannot be read"
        with reading(DataError, failure), self.path.open("rb", buffering=0) as file:
            rows = RowFile(file, self.offset, self.whole, self.dtype, name)
            return rows.take(self.indices[indices])


class PixelSpill:
    """A temporary file that takes images as they come and gives them back as rows.

    It has no name in its folder, so that it vanishes with the process, however that ends.
    """

    def __init__(self, name: str, size: int = 0) -> None:
        """Open the file.

        Args:
            name: Where the images come from, for messages.
            size: How many bytes are to come, as far as that is known.

        Raises:
            DataError: If there is no place for temporary files, or too little room.
        """
        self._name = name
        try:
            folder = tempfile.gettempdir()
            room = shutil.disk_usage(folder).free
            # Unbuffered: a full disk shows in a write, not when the file is closed
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  RowFile closes it
        except OSError as error:
            raise self._failure(error.strerror or error) from None
        self._close = weakref.finalize(self, self._file.close)
        if room < size:
            need, free = -(-size // 2**20), room // 2**20
            raise self._failure(f"it takes {need:,} MB, and {folder} has {free:,} MB free")

    def write(self, data: bytes | NDArray[Any]) -> None:
        """Append raw bytes, or the bytes of a C-ordered array.

        Raises:
            DataError: If there is no room.
        """
        flat = data if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data
        rest = memoryview(flat)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise self._failure(error.strerror or error) from None

    def rows(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], elsewhere: Elsewhere | None = None
    ) -> RowFile:
        """Everything written, as an array of this shape and type; nothing more can be written."""
        self._close.detach()
        return RowFile(self._file, 0, shape, dtype, self._name, elsewhere)

    def _failure(self, cause: object) -> DataError:
        return DataError(
            f"{self._name}: too large for the memory, and it cannot be put in a temporary file: "
            f"{cause}; set TMPDIR to a folder with room"
        )
