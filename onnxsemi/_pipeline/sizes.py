"""How much smaller a written file is, from the file alone."""

import gzip
from pathlib import Path

import onnx

from onnxsemi._emit.stored_weights import read_stored, stated_sizes
from onnxsemi._results.results import Sizes


def sizes_of(path: Path) -> Sizes:
    """The five sizes of a file.

    Raises:
        ModelError: If onnxsemi did not write it, or it was changed since.
    """
    model = onnx.load_model(path)
    stated, held = stated_sizes(model), read_stored(model)
    return Sizes(
        targets=1 - stated.target_bits / (32 * stated.target_weights),
        model=1 - held.payload_bytes / stated.float_bytes,
        bytes_before=stated.source_bytes,
        bytes_after=path.stat().st_size,
        payload_bytes=held.payload_bytes,
        gzip_bytes=len(gzip.compress(path.read_bytes(), mtime=0)),
    )
