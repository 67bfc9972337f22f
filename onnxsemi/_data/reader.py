"""Images from an ``onnxruntime.quantization.CalibrationDataReader``, in the model's layout.

A reader gives its batches once, so those that are too many for the memory go to a temporary file.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from onnxsemi._data.images import ImageSet, check_kind
from onnxsemi._data.rowfile import PixelSpill
from onnxsemi._data.source import Pixels, chunks, fits_memory
from onnxsemi._errors import DataError


@runtime_checkable
class BatchReader(Protocol):
    """What is used of ONNX Runtime's CalibrationDataReader."""

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next feed, input name -> batch, or None at the end."""


def read_all(reader: BatchReader, input_name: str) -> ImageSet:
    """Collect every batch that the reader gives.

    Raises:
        DataError: If it gives none, or a feed lacks the model's input.
    """
    name = type(reader).__name__
    batches = Batches(name)
    while (feed := reader.get_next()) is not None:
        batches.add(of_feed(feed, input_name, name))
    return ImageSet(name, batches.pixels())


def of_feed(feed: Mapping[str, Any], input_name: str, name: str) -> NDArray[Any]:
    """What a feed has for the model's input: dtype[M, ...].

    Raises:
        DataError: If it has nothing.
    """
    if input_name not in feed:
        raise DataError(f"{name}: a feed has {sorted(feed)}, but not the input {input_name!r}")
    return np.atleast_1d(feed[input_name])


class Batches:
    """Batches in memory while they are few, then in a temporary file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[Pixels] = []  # in memory; the first may be a file of another type
        self._spill: PixelSpill | None = None
        self._shape: tuple[int, ...] = (0,)
        self._dtype: np.dtype[Any] | None = None

    def add(self, batch: NDArray[Any]) -> None:
        """Append dtype[M, ...]; of several types the one that holds them all is kept.

        Raises:
            DataError: If its images are shaped unlike those before, or there is no room.
        """
        if self._dtype is not None and batch.shape[1:] != self._shape[1:]:
            raise DataError(f"{self._name}: batches differ in shape beyond the batch axis")
        known = batch.dtype if self._dtype is None else self._dtype
        dtype = np.result_type(batch.dtype, known)
        if self._spill is not None and dtype != self._dtype:
            self._parts, self._spill = [self.pixels()], None
        self._parts.append(batch)
        self._shape, self._dtype = (self._shape[0] + len(batch), *batch.shape[1:]), dtype
        if not fits_memory(self._shape, dtype):
            check_kind(self._shape, dtype, self._name)
            self._put_away(dtype)

    def pixels(self) -> Pixels:
        """All images.

        Raises:
            DataError: If there is none.
        """
        if self._dtype is None:
            raise DataError(f"{self._name}: no images (was the reader used before? then rewind it)")
        if self._spill is not None:
            return self._spill.rows(self._shape, self._dtype)
        return np.concatenate([part for part in self._parts if isinstance(part, np.ndarray)])

    def _put_away(self, dtype: np.dtype[Any]) -> None:
        self._spill = self._spill or PixelSpill(self._name)
        for part in self._parts:
            for _, images in chunks(part):
                self._spill.write(np.ascontiguousarray(images, dtype))
        self._parts = []
