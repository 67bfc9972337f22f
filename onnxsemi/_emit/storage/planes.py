"""Bit planes, unpacked by standard operators (opset 18): exactly b bits a weight.

    planes -> Split -> BitwiseAnd -> BitShift RIGHT -> Reshape
           -> BitShift LEFT -> BitwiseOr -> Reshape
           (-> BitShift LEFT, if the grids are doubled)
           (-> Cast -> Sub -> Cast, if codes are signed) -> Split -> Reshape for each semilayer

All codes of a bitwidth, of all layers, lie in one initializer and are unpacked together: the
operators are in the file once a bitwidth, not once a semilayer. Those of doubled grids lie in one
of their own.

Some runtimes compute shifts as float multiplications and divisions (measured: OpenVINO 2026.4 runs
89 >> 4 as round(89 / 16) where it does not fold it). So a field is masked *before* it is shifted
right, which makes the division exact, and a field shifted left fits its byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._arrays import UInt8Array
from onnxsemi._emit.bitplanes import field_widths, pack, padded_count, plane_bytes
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import centre
from onnxsemi._emit.storage.containers import OPSET as BYTE_OPSET
from onnxsemi._emit.storage.containers import Containers
from onnxsemi._plan.bitwidth import MAX_BITS
from onnxsemi._quantizer.affine import QuantizedChannels

OPSET = 18  # BitwiseAnd, BitwiseOr


@dataclass(frozen=True, eq=False)
class Waiting:
    """Codes that are to be stored, under a label, and the tensor that they will be."""

    label: str
    quantized: QuantizedChannels
    tensor: gs.Variable


class BitPlanes:
    """Codes in exactly their bits; 8-bit codes as they are."""

    folds_early: ClassVar[bool] = False

    def __init__(self, build: Builder, *, signed: bool) -> None:
        """Store into a graph."""
        self._build = build
        self._signed = signed
        self._bytes = Containers(build, signed=signed)
        self._waiting: dict[tuple[int, bool], list[Waiting]] = {}

    def codes(self, label: str, quantized: QuantizedChannels) -> gs.Tensor:
        """Codes [C, ...]; what gives them is added when all are known."""
        if quantized.bits == MAX_BITS:
            return self._bytes.codes(label, quantized)
        tensor = self._build.variable(np.int8 if self._signed else np.uint8)
        kind = (quantized.bits, quantized.doubled)
        self._waiting.setdefault(kind, []).append(Waiting(label, quantized, tensor))
        return tensor

    def zero_points(self, label: str, values: NDArray[Any], bits: int) -> gs.Tensor:
        """One byte each, in the shape given."""
        return self._bytes.zero_points(label, values, bits)

    def finish(self) -> None:
        """Store and unpack the codes of every bitwidth."""
        for _, waiting in sorted(self._waiting.items()):
            self._unpack(waiting)

    @staticmethod
    def opset(quantized: QuantizedChannels) -> int:
        """8 bits need no unpacking, 0 bits not even codes."""
        return BYTE_OPSET if quantized.bits in (0, MAX_BITS) else OPSET

    def _flat(self, kind: QuantizedChannels, codes: UInt8Array) -> gs.Tensor:
        """uint8[n], padded: one initializer and what unpacks it."""
        return _flat_codes(self._build, kind, codes)

    def _unpack(self, waiting: list[Waiting]) -> None:
        build, kind = self._build, waiting[0].quantized
        every = np.concatenate([item.quantized.codes.ravel() for item in waiting])
        flat = self._flat(kind, every)
        if self._signed:
            wide = build.cast(flat, np.int32)
            zero = build.shared(np.array([centre(kind)], np.int32))
            flat = build.cast(build.node("Sub", wide, zero, dtype=np.int32), np.int8)
        counts = [item.quantized.codes.size for item in waiting]
        padding = padded_count(every.size) - every.size
        pieces: list[gs.Tensor] = [flat]
        if len(counts) > 1 or padding:
            sizes = build.integers(*counts, *[padding] * bool(padding))
            outputs = len(counts) + bool(padding)
            pieces = [*build.nodes("Split", flat, sizes, dtype=flat.dtype, outputs=outputs, axis=0)]
        for item, piece in zip(waiting, pieces, strict=False):
            shape = build.integers(-1, *item.quantized.codes.shape[1:])
            build.append("Reshape", [piece, shape], [item.tensor])


def stored_planes(
    build: Builder, kind: QuantizedChannels, codes: UInt8Array
) -> Sequence[gs.Tensor]:
    """uint8[m] for each field: parts of one initializer, ``_<bits>`` or ``d_<bits>``."""
    return _planes(build, f"{'d' * kind.doubled}_{kind.bits}", codes, kind.bits)


def unpacked(build: Builder, label: str, fields: UInt8Array, bits: int) -> gs.Tensor:
    """uint8[n] fields of 1 to 8 bits, from one initializer."""
    if bits == MAX_BITS:
        return build.stored(label, fields)
    joined = _joined(build, _planes(build, label, fields, bits), bits)
    if padded_count(fields.size) == fields.size:
        return joined
    ends = (build.integers(0), build.integers(fields.size))
    return build.node("Slice", joined, *ends, dtype=np.uint8)


def _planes(build: Builder, label: str, codes: UInt8Array, bits: int) -> Sequence[gs.Tensor]:
    packed, fields = build.stored(label, pack(codes, bits)), len(field_widths(bits))
    if fields == 1:
        return [packed]
    sizes = build.integers(*plane_bytes(codes.size, bits))
    return build.nodes("Split", packed, sizes, dtype=np.uint8, outputs=fields, axis=0)


def _flat_codes(build: Builder, kind: QuantizedChannels, codes: UInt8Array) -> gs.Tensor:
    """uint8[n], padded: what is stored, unpacked."""
    joined = _joined(build, stored_planes(build, kind, codes), kind.bits)
    if kind.doubled:
        one = build.shared(np.array([1], np.uint8))
        joined = build.node("BitShift", joined, one, dtype=np.uint8, direction="LEFT")
    return joined


def _joined(build: Builder, planes: Sequence[gs.Tensor], bits: int) -> gs.Tensor:
    """uint8[n], padded, of their planes."""
    widths = field_widths(bits)
    joined, below = _fields(build, planes[0], widths[0]), widths[0]
    for plane, width in zip(planes[1:], widths[1:], strict=True):
        distance = build.shared(np.array([below], np.uint8))
        fields = _fields(build, plane, width)
        raised = build.node("BitShift", fields, distance, dtype=np.uint8, direction="LEFT")
        joined = build.node("BitwiseOr", joined, raised, dtype=np.uint8)
        below += width
    return joined


def _fields(build: Builder, plane: gs.Tensor, width: int) -> gs.Tensor:
    """uint8[m] bytes -> uint8[n] fields."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    masks = ((2**width - 1) << shifts).astype(np.uint8)
    masked = build.node("BitwiseAnd", plane, build.shared(masks), dtype=np.uint8)
    fields = build.node(
        "BitShift", masked, build.shared(shifts), dtype=np.uint8, direction="RIGHT"
    )  # [k, m]
    return build.node("Reshape", fields, build.integers(-1), dtype=np.uint8)
