"""Arrays that are kept for later: in memory as far as it goes, else in a temporary file.

What is in the file is read anew each time: mapped pages would count as memory of the process.
"""

import tempfile
import threading
import weakref
from dataclasses import dataclass
from io import FileIO

import numpy as np

from onnxsemi._arrays import Float32Array
from onnxsemi._runtime.batch_sizes import SPILLED_BYTES

OF_USE = 4 * SPILLED_BYTES
"""Bytes that are free: more change nothing."""


@dataclass(frozen=True, eq=False)
class SpilledArray:
    """An array that is kept.

    Attributes:
        shape: Its shape.
        array: float32, itself if it is in memory.
        spill: Where it is otherwise.
        offset: Where in the file it begins, bytes.
    """

    shape: tuple[int, ...]
    array: Float32Array | None
    spill: "ArraySpill"
    offset: int = 0

    def load(self) -> Float32Array:
        """Its values, float32 of its shape."""
        return self.array if self.array is not None else self.spill.read(self.offset, self.shape)


class ArraySpill:
    """Keeps arrays; what goes beyond the memory goes to one unnamed temporary file."""

    def __init__(self, free: int) -> None:
        """Keep in memory up to a quarter of ``free`` bytes, and no more than there is a use for."""
        self._left = min(free // 4, SPILLED_BYTES)
        self._file: FileIO | None = None
        self._lock = threading.Lock()

    def keep(self, array: Float32Array) -> SpilledArray:
        """Keep a float32 array."""
        with self._lock:
            fits = array.nbytes <= self._left
            self._left -= array.nbytes if fits else 0
        if fits:
            return SpilledArray(array.shape, array, self)
        try:
            return SpilledArray(array.shape, None, self, self._written(array))
        except OSError:  # no room for it there: without it the run would end here
            return SpilledArray(array.shape, array, self)

    def _written(self, array: Float32Array) -> int:
        """Where in the file the array is put."""
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="onnxsemi-", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            offset = self._file.seek(0, 2)
            rest = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            while rest:
                rest = rest[self._file.write(rest) :]
        return offset

    def read(self, offset: int, shape: tuple[int, ...]) -> Float32Array:
        """Read back what was written at an offset."""
        assert self._file is not None
        values = np.empty(shape, np.float32)
        rest = memoryview(values.reshape(-1).view(np.uint8).data)
        with self._lock:
            self._file.seek(offset)
            while rest:
                rest = rest[self._file.readinto(rest) :]
        return values
