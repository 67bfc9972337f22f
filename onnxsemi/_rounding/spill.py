"""Arrays that are kept for later: in memory as far as it goes, else in a temporary file.

What is in the file is read anew each time: mapped pages would count as memory of the process.
"""

import math
import tempfile
import threading
import weakref
from dataclasses import dataclass
from typing import IO

import numpy as np

from onnxsemi._arrays import Float32Array


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

    def __init__(self, memory: int) -> None:
        """Keep up to ``memory`` bytes in memory."""
        self._left = memory
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()

    def keep(self, array: Float32Array) -> SpilledArray:
        """Keep a float32 array."""
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return SpilledArray(array.shape, array, self)
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="onnxsemi-")  # noqa: SIM115  see finalize
            weakref.finalize(self, self._file.close)
        with self._lock:
            offset = self._file.seek(0, 2)
            self._file.write(array.tobytes())
        return SpilledArray(array.shape, None, self, offset)

    def read(self, offset: int, shape: tuple[int, ...]) -> Float32Array:
        """Read back what was written at an offset."""
        assert self._file is not None
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(4 * math.prod(shape))
        return np.frombuffer(data, np.float32).reshape(shape)
