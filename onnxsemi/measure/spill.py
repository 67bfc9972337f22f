"""Arrays that are kept for later: in memory as far as it goes, else in a file that is mapped."""

import tempfile

import numpy as np

from onnxsemi.arrays import Float32Array


class Spill:
    """Keeps arrays; what goes beyond the memory goes to an unnamed temporary file each."""

    def __init__(self, memory: int) -> None:
        """Keep up to ``memory`` bytes in memory."""
        self._left = memory

    def keep(self, array: Float32Array) -> Float32Array:
        """The same values, wherever they are kept."""
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array
        with tempfile.TemporaryFile(prefix="onnxsemi-") as file:
            kept = np.memmap(file, np.float32, "w+", shape=array.shape)
        kept[:] = array
        kept.flush()
        return kept
