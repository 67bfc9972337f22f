"""Codes of all layers, entropy-coded where that is smaller than bit planes.

What is coded is one code a byte (see :mod:`containers`), semilayer by semilayer; semilayers of like
frequencies share a code, and one decoder reads them all:

    prefixes (bit planes) ... -> Split -> Reshape for each semilayer

Which bitwidths those have does not follow from the graph: the sizes of the Split have a name that
ends with a digit for each.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._coding.code import entropy
from onnxsemi._coding.shared import Division, best_division, encode_blocks
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import byte_codes, centre
from onnxsemi._emit.storage.decoded_layers import cast_early, replaced, reshaped, unmatched
from onnxsemi._emit.storage.decoder import decoded
from onnxsemi._emit.storage.planes import OPSET, BitPlanes, Waiting, unpacked
from onnxsemi._quantizer.affine import QuantizedChannels

_INT8 = np.iinfo(np.int8)
_EARLY = 2**20
"""Symbols up to which all become float32 at once: a node fewer a layer, for memory at load."""
_NODES = (70, 70, 250, 70, 250, 250, 320, 0)
"""Bytes of what unpacks prefixes of 1 bit, 2 bits, ...; more or less."""
_DECODER, _CLASS = 900, 80
"""Bytes of all other nodes, and of what a class adds."""
_INCOMPRESSIBLE = 0.97
"""What the entropy of symbols is at least of their bits, for a code to be of no use."""


class Coded:
    """Codes in fewer bits than they have, where their frequencies allow it."""

    folds_early: ClassVar[bool] = False

    def __init__(self, build: Builder, *, signed: bool) -> None:
        """Store into a graph."""
        self._build = build
        self._signed = signed
        self._planes = BitPlanes(build, signed=signed)
        self._waiting: list[Waiting] = []

    def codes(self, label: str, quantized: QuantizedChannels) -> gs.Tensor:
        """Codes [C, ...]; what gives them is added when all are known."""
        tensor = self._build.variable(np.int8 if self._signed else np.uint8)
        self._waiting.append(Waiting(label, quantized, tensor))
        return tensor

    def zero_points(self, label: str, values: NDArray[Any], bits: int) -> gs.Tensor:
        """One byte each, in the shape given; a single one if all are equal and may be broadcast."""
        if values.ndim > 1 and (values == values.flat[0]).all():
            return self._build.shared(values.ravel()[:1].reshape([1] * values.ndim))
        return self._planes.zero_points(label, values, bits)

    def finish(self) -> None:
        """Store the codes of every layer."""
        symbols = [self._symbols(item) for item in self._waiting]
        chosen, division = _divided(self._waiting, symbols)
        for item in (item for index, item in enumerate(self._waiting) if index not in chosen):
            stored = self._planes.codes(item.label, item.quantized)
            if isinstance(stored, gs.Constant):
                unmatched(self._build, item)
            replaced(item.tensor, stored)
        if division is not None:
            items = [self._waiting[index] for index in chosen]
            self._code(items, [symbols[index] for index in chosen], division)
        self._planes.finish()

    @staticmethod
    def opset(quantized: QuantizedChannels) -> int:
        """The same for all that are stored."""
        return OPSET if quantized.bits else BitPlanes.opset(quantized)

    def _symbols(self, item: Waiting) -> NDArray[np.int64]:
        codes = byte_codes(item.quantized, signed=self._signed)
        return codes.view(np.uint8).astype(np.int64)

    def _code(
        self, items: Sequence[Waiting], symbols: Sequence[NDArray[np.int64]], division: Division
    ) -> None:
        build, streams = self._build, encode_blocks(symbols, division)
        width, dtype = division.form.prefix_bits, np.int8 if self._signed else np.uint8
        prefixes = unpacked(build, f"g_{width}", streams.prefixes, width)
        every = decoded(build, prefixes, streams, division.codes, dtype)
        if len(items) == len(self._waiting) and sum(streams.symbols) <= _EARLY:
            every = cast_early(build, every, [item.tensor for item in items])
        order, counts = _pieces(division, streams.symbols, [found.size for found in symbols])
        bits = ("0" if block is None else str(items[block].quantized.bits) for block in order)
        sizes = build.stored(f"n_{''.join(bits)}", np.array(counts))
        pieces = [build.variable(every.dtype) for _ in order]
        build.append("Split", [every, sizes], pieces, axis=0)
        placed = [(items[b], p) for b, p in zip(order, pieces, strict=True) if b is not None]
        reshaped(build, placed)


def _pieces(
    division: Division, symbols: Sequence[int], sizes: Sequence[int]
) -> tuple[list[int | None], list[int]]:
    """Blocks as they are decoded, None for what no block has, and the symbols of each."""
    order: list[int | None] = []
    counts: list[int] = []
    for members, total in zip(division.classes, symbols, strict=True):
        order += members
        counts += [sizes[block] for block in members]
        beyond = total - sum(sizes[block] for block in members)
        if beyond:  # of the last word
            order.append(None)
            counts.append(beyond)
    return order, counts


def can_be_signed(channels: Iterable[QuantizedChannels]) -> bool:
    """Whether codes of each bitwidth have one zero point, and are int8 without it.

    Nothing is to be subtracted then from what was decoded.
    """
    centres: dict[tuple[int, bool], int] = {}
    for found in channels:
        zero = centres.setdefault((found.bits, found.doubled), centre(found))
        low, high = int(found.units.min()) - zero, int(found.units.max()) - zero
        if (found.zero_point != zero).any() or low < _INT8.min or high > _INT8.max:
            return False
    return True


def _divided(
    items: Sequence[Waiting], symbols: Sequence[NDArray[np.int64]]
) -> tuple[list[int], Division | None]:
    """What is coded, and how; nothing if bit planes are smaller."""
    counts = [np.bincount(found.ravel(), minlength=256) for found in symbols]
    bits = np.array([item.quantized.bits for item in items], np.int64)
    chosen = [
        index
        for index, found in enumerate(counts)
        if 0 < entropy(found) < _INCOMPRESSIBLE * bits[index]
    ]
    while chosen:
        each = np.array([counts[index] for index in chosen])
        fixed = [8 * (_DECODER + nodes) for nodes in _NODES]
        division = best_division(each, fixed_bits=fixed, class_bits=8 * _CLASS)
        wide = division.wider_than(each, bits[chosen])
        if not wide:
            smaller = division.bits < sum(bits[index] * counts[index].sum() for index in chosen)
            return (chosen, division) if smaller else ([], None)
        chosen = [index for place, index in enumerate(chosen) if place not in wide]
    return [], None
