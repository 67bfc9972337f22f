"""What an emitted file says of its own content: whoever has it can tell whether it is whole.

``onnxsemi.weights_sha256`` is the digest of the rounded weights, which the plan and the run have,
too. ``onnxsemi.sha256`` is that of the graph and of all that onnxsemi says of the file: with one
flipped bit in either it is another. What others add to the metadata is not counted.
"""

import hashlib

import onnx

from onnxsemi._emit.stored_weights import CONTENT, WEIGHTS, emitted_properties
from onnxsemi._model.loader import fingerprint

CHANGED = "the file was changed since onnxsemi wrote it, or is damaged: see 'verify'"


def seal(model: onnx.ModelProto, weights_sha256: str) -> None:
    """Put both digests into the metadata, last.

    Args:
        model: Finished; it must not be changed any more.
        weights_sha256: :attr:`RoundedPlan.sha256`.
    """
    for entry in [entry for entry in model.metadata_props if entry.key in (WEIGHTS, CONTENT)]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key=WEIGHTS, value=weights_sha256)
    model.metadata_props.add(key=CONTENT, value=content_digest(model))


def content_digest(model: onnx.ModelProto) -> str:
    """SHA-256 of the graph and of what onnxsemi says of it."""
    digest = hashlib.sha256(fingerprint(model).encode())
    for key, value in sorted(emitted_properties(model).items()):
        if key != CONTENT:
            digest.update(f"{key!r}: {value!r}\n".encode())
    return digest.hexdigest()


def is_whole(model: onnx.ModelProto) -> bool | None:
    """Whether a file is what was written; None if it does not say what that was."""
    stated = emitted_properties(model).get(CONTENT)
    return None if stated is None else stated == content_digest(model)


def changed(model: onnx.ModelProto) -> tuple[str, ...]:
    """What is to be said of a file that is not what was written."""
    return (CHANGED,) if is_whole(model) is False else ()
