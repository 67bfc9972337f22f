"""Images from an ``onnxruntime.quantization.CalibrationDataReader``, in the model's layout."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from onnxsemi.data.images import ImageSet
from onnxsemi.errors import DataError


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
    batches: list[NDArray[Any]] = []
    while (feed := reader.get_next()) is not None:
        if input_name not in feed:
            raise DataError(f"{name}: a feed has {sorted(feed)}, but not the input {input_name!r}")
        batches.append(np.atleast_1d(feed[input_name]))
    if not batches:
        raise DataError(f"{name}: no images (was the reader used before? then rewind it)")
    if len({batch.shape[1:] for batch in batches}) > 1:
        raise DataError(f"{name}: batches differ in shape beyond the batch axis")
    return ImageSet(name, np.concatenate(batches))
