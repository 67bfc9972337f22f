"""Storage of codes as bit planes, and the standard operators that unpack them (opset 18).

    planes -> Split -> BitwiseAnd -> BitShift RIGHT -> Reshape
           -> BitShift LEFT -> BitwiseOr -> Reshape

Some runtimes compute shifts as float multiplications and divisions (measured: OpenVINO 2026.4 runs
89 >> 4 as round(89 / 16) where it does not fold it). So a field is masked *before* it is shifted
right, which makes the division exact, and a field shifted left fits its byte.
"""

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi.emit.bitplanes import field_widths, pack, padded_count, plane_bytes
from onnxsemi.emit.builder import Builder
from onnxsemi.quantizer.affine import QuantizedChannels

OPSET = 18  # BitwiseAnd, BitwiseOr
PLAIN_OPSET = 13  # DequantizeLinear with an axis, for 8-bit codes stored as they are


def unpacked_codes(build: Builder, label: str, quantized: QuantizedChannels) -> gs.Tensor:
    """Codes of one semilayer, uint8[C, ...]: one initializer of exactly b bits a weight.

    Args:
        build: Adds to the graph.
        label: Name of the initializer, after the graph's prefix.
        quantized: The semilayer's codes.
    """
    codes, bits = quantized.codes, quantized.bits
    if bits == 8:
        return build.stored(label, codes)
    packed = build.stored(label, pack(codes, bits))
    planes: list[gs.Tensor] = [packed]
    if len(field_widths(bits)) > 1:
        sizes = build.integers(*plane_bytes(codes.size, bits))
        parts = len(field_widths(bits))
        planes = [*build.nodes("Split", packed, sizes, dtype=np.uint8, outputs=parts, axis=0)]
    flat = _joined(build, planes, field_widths(bits))
    if padded_count(codes.size) != codes.size:
        flat = build.node("Reshape", flat, build.integers(-1), dtype=np.uint8)
        ends = (build.integers(0), build.integers(codes.size))
        flat = build.node("Slice", flat, *ends, dtype=np.uint8)
    return build.node("Reshape", flat, build.integers(*codes.shape), dtype=np.uint8)


def _joined(build: Builder, planes: list[gs.Tensor], widths: tuple[int, ...]) -> gs.Tensor:
    """The codes, lowest fields first: [k, m] for a single plane, else [n]."""
    joined, below = _fields(build, planes[0], widths[0]), widths[0]
    if len(planes) > 1:
        joined = build.node("Reshape", joined, build.integers(-1), dtype=np.uint8)
    for plane, width in zip(planes[1:], widths[1:], strict=True):
        fields = _fields(build, plane, width)
        flat = build.node("Reshape", fields, build.integers(-1), dtype=np.uint8)
        distance = build.shared(np.array(below, np.uint8))
        raised = build.node("BitShift", flat, distance, dtype=np.uint8, direction="LEFT")
        joined = build.node("BitwiseOr", joined, raised, dtype=np.uint8)
        below += width
    return joined


def _fields(build: Builder, plane: gs.Tensor, width: int) -> gs.Tensor:
    """uint8[m] bytes -> uint8[k, m] fields."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    masks = ((2**width - 1) << shifts).astype(np.uint8)
    masked = build.node("BitwiseAnd", plane, build.shared(masks), dtype=np.uint8)
    return build.node("BitShift", masked, build.shared(shifts), dtype=np.uint8, direction="RIGHT")
