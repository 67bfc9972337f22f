"""The lowest ONNX Runtime that loads a file, by the opset that it needs."""

from collections.abc import Iterable

from onnxsemi._emit.storage.native import RUNTIMES

# https://onnxruntime.ai/docs/reference/compatibility.html
_OF_OPSET = {
    **{13: "1.6", 14: "1.8", 15: "1.10", 16: "1.11", 17: "1.12", 18: "1.14", 19: "1.15"},
    **{20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22", 24: "1.23", 25: "1.24"},
}


def lowest_runtime(opset: int, native_bits: Iterable[int] = ()) -> str | None:
    """Version of ONNX Runtime; None if the model itself needs an opset that is not known here.

    >>> lowest_runtime(18)
    '1.14'
    >>> lowest_runtime(21, native_bits=[4])
    '1.19'

    Args:
        opset: Of the file.
        native_bits: Bitwidths that are stored in ONNX's own types.
    """
    if opset > max(_OF_OPSET):
        return None
    versions = [_OF_OPSET[max(opset, min(_OF_OPSET))], *(RUNTIMES[bits] for bits in native_bits)]
    return max(versions, key=lambda version: tuple(map(int, version.split("."))))
