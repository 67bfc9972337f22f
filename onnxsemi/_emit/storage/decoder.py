"""Reading coded symbols with standard operators (opset 18), all shapes static.

    prefixes -> groups -> widths -> CumSum -> suffixes -> names of words
    names -> lengths -> CumSum -> Add(places): where
    names -> symbols: what
    ConstantOfShape(the commonest symbol) -> ScatterElements(where, what)

``->`` with a table is a look-up: a Gather, or a GatherElements where words are many. A suffix is
looked up by the bit that it begins at, in the bytes that begin at every bit. Tables of words are
made of those of their stems first. A word with fewer rare symbols than others has one of its own in
the tables again, so a place comes twice with the same symbol only. (``Compress`` and ``NonZero``
would be shorter, but ONNX Runtime does not fold them, as the size of what they give is unknown.)

What is made on the way costs as much as what is computed: ONNX Runtime holds every tensor until all
is folded, and 700 MB of them take as long to write as 11 M words to look up.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._arrays import UInt8Array
from onnxsemi._coding.code import Code
from onnxsemi._coding.groups import BYTE
from onnxsemi._coding.shared import Streams, Tables
from onnxsemi._emit.builder import Builder

MANY = 2**19
"""Words from which a GatherElements looks up: ONNX Runtime takes 0.8 ns, and 7.5 for a Gather.

Below it no more than 20 ms are saved, and ``onnx.reference`` has it for tables of 64 rows only.
"""
_SHIFTS = np.arange(8)


def decoded(
    build: Builder, prefixes: gs.Tensor, streams: Streams, codes: Sequence[Code], dtype: type
) -> gs.Tensor:
    """The symbols of each code, with what its last word has beyond the blocks: [symbols].

    Args:
        build: Adds to the graph.
        prefixes: uint8[words].
        streams: The rest of what is stored.
        codes: A code for each class.
        dtype: uint8 or int8: what symbols are bytes of.
    """
    words = _Words(build, many=sum(streams.words) >= MANY)
    widths = np.concatenate([code.widths for code in codes]).astype(np.uint8)
    names = _names(words, _groups(build, prefixes, streams.words, codes), streams, widths)
    if codes[0].form.even_length:
        symbols = np.concatenate([code.words for code in codes]).astype(np.uint8)
        every = words.rows(build.stored("v", symbols.view(dtype)), names)
        return build.node("Reshape", every, build.integers(-1), dtype=dtype)
    tables = Tables.of(codes)
    common: NDArray[np.generic] = np.array([code.commonest for code in codes], np.uint8)
    start = _filled(build, streams.symbols, common.view(dtype))
    where, what = _rare(words, names, tables, dtype)
    return build.node("ScatterElements", start, where, what, dtype=dtype)


class _Words:
    """Looks up what each word has in a table."""

    def __init__(self, build: Builder, *, many: bool) -> None:
        """For words that are many, or few."""
        self.build, self._many = build, many

    def each(self, table: gs.Tensor, index: gs.Tensor) -> gs.Variable:
        """[words], from a table [n]."""
        operator = "GatherElements" if self._many else "Gather"
        return self.build.node(operator, table, index, dtype=table.dtype)

    def rows(self, table: gs.Tensor, index: gs.Tensor) -> gs.Variable:
        """[words, k], or [words] of a single column, from a table [n, k] that is stored."""
        if not self._many:
            return self.each(table, index)
        (names, length), build = table.shape, self.build
        if length == 1:
            return self.each(self._flat(table), index)
        turned = build.node("Transpose", table, dtype=table.dtype)
        flat = self._joined(
            [self.each(column, index) for column in self._rows_of(turned, length, names)]
        )
        found = build.node("Reshape", flat, build.integers(length, -1), dtype=table.dtype)
        return build.node("Transpose", found, dtype=table.dtype)

    def columns(
        self, table: gs.Tensor, index: gs.Tensor, shape: tuple[int, int], begin: gs.Tensor | None
    ) -> gs.Tensor:
        """[rows * words], from a table [rows, n] of that shape; each with what its word has."""
        build = self.build
        if self._many:
            found = [self.each(row, index) for row in self._rows_of(table, *shape)]
            return self._joined([self._added(row, begin) for row in found])
        return self._flat(self._added(build.gather(table, index, 1), begin))

    def _added(self, tensor: gs.Variable, begin: gs.Tensor | None) -> gs.Variable:
        if begin is None:
            return tensor
        return self.build.node("Add", begin, tensor, dtype=tensor.dtype)

    def _rows_of(self, table: gs.Tensor, rows: int, count: int) -> Sequence[gs.Tensor]:
        """[n] for each row of [rows, n]."""
        sizes, flat = self.build.integers(*[count] * rows), self._flat(table)
        return self.build.nodes("Split", flat, sizes, dtype=table.dtype, outputs=rows)

    def _joined(self, parts: Sequence[gs.Tensor]) -> gs.Tensor:
        return self.build.node("Concat", *parts, dtype=parts[0].dtype, axis=0)

    def _flat(self, tensor: gs.Tensor) -> gs.Variable:
        return self.build.node("Reshape", tensor, self.build.integers(-1), dtype=tensor.dtype)


def _groups(
    build: Builder, prefixes: gs.Tensor, words: Sequence[int], codes: Sequence[Code]
) -> gs.Tensor:
    """int32[words]: counted through all codes, each of which has all that prefixes can name."""
    each = len(codes[0].widths)
    if len(codes) == 1:
        return build.cast(prefixes, np.int32)
    before = np.arange(0, each * len(codes), each)
    if each * len(codes) <= 2**8:  # in bytes
        first = _filled(build, words, before.astype(np.uint8))
        return build.cast(build.node("BitwiseOr", prefixes, first, dtype=np.uint8), np.int32)
    first = _filled(build, words, before.astype(np.int32))
    return build.node("Add", build.cast(prefixes, np.int32), first, dtype=np.int32)


def _names(
    words: _Words, groups: gs.Tensor, streams: Streams, group_widths: UInt8Array
) -> gs.Tensor:
    """int32[words]: the first name of the group, and the suffix behind it."""
    if not group_widths.any():
        return groups
    build = words.build
    widths = build.cast(build.stored("w", group_widths), np.int32)
    known = np.arange(group_widths.max() + 1)
    sizes = build.gather(build.shared((2**known).astype(np.int32)), widths)
    begin = _sums_before(build, words.each(widths, groups))
    every = _bytes_at_bits(build, streams.suffixes)
    low = np.minimum(known, BYTE)
    suffix = _bits(words, every, begin, words.each(_masks(build, low, widths), groups))
    if known[-1] > BYTE:
        begin = build.node("Add", begin, build.shared(np.array([BYTE], np.int32)), dtype=np.int32)
        mask = words.each(_masks(build, known - low, widths), groups)
        high, unit = _bits(words, every, begin, mask), np.array([2**BYTE], np.int32)
        high = build.node("Mul", high, build.shared(unit), dtype=np.int32)
        suffix = build.node("Add", suffix, high, dtype=np.int32)
    first = words.each(_sums_before(build, sizes), groups)
    return build.node("Add", suffix, first, dtype=np.int32)


def _masks(build: Builder, bits: NDArray[np.int_], widths: gs.Tensor) -> gs.Variable:
    """uint8[groups]: as many bits as belong to each width."""
    return build.gather(build.shared((2**bits - 1).astype(np.uint8)), widths)


def _bits(words: _Words, every: gs.Tensor, begin: gs.Tensor, masks: gs.Tensor) -> gs.Variable:
    """int32[words]: those of the masks that begin there."""
    byte = words.build.node("BitwiseAnd", words.each(every, begin), masks, dtype=np.uint8)
    return words.build.cast(byte, np.int32)


def _bytes_at_bits(build: Builder, suffixes: UInt8Array) -> gs.Tensor:
    """uint8[8 * bytes]: the eight bits that begin at each bit; zeros behind the last one."""
    padded = np.concatenate([suffixes, np.zeros(3, np.uint8)])
    stored, count = build.stored("s", padded), build.integers(len(padded))
    low = build.node("Slice", stored, build.integers(0), build.integers(-1), dtype=np.uint8)
    high = build.node("Slice", stored, build.integers(1), count, dtype=np.uint8)
    low = _shifted(build, low, 2**8 - 2**_SHIFTS, _SHIFTS, "RIGHT")
    high = _shifted(build, high, 2**_SHIFTS - 1, -_SHIFTS % 8, "LEFT")
    both = build.node("BitwiseOr", low, high, dtype=np.uint8)  # [8, bytes]
    turned = build.node("Transpose", both, dtype=np.uint8)
    return build.node("Reshape", turned, build.integers(-1), dtype=np.uint8)


def _shifted(
    build: Builder, tensor: gs.Tensor, masks: NDArray[np.int_], by: NDArray[np.int_], way: str
) -> gs.Tensor:
    """uint8[n] -> uint8[8, n], masked first: see :mod:`planes`."""
    masks, by = (build.shared(values.astype(np.uint8)[:, None]) for values in (masks, by))
    masked = build.node("BitwiseAnd", tensor, masks, dtype=np.uint8)
    return build.node("BitShift", masked, by, dtype=np.uint8, direction=way)


def _rare(
    words: _Words, names: gs.Tensor, tables: Tables, dtype: type
) -> tuple[gs.Tensor, gs.Tensor]:
    """int32[n] places, and [n] symbols there: those of stems, and the last of each word."""
    build = words.build
    stems = build.cast(build.stored("t", tables.stems), np.int32)
    length = build.gather(build.cast(build.stored("l", tables.lengths), np.int32), stems)
    one = build.shared(np.array([1], np.int32))
    begin = _sums_before(build, words.each(build.node("Add", length, one, dtype=np.int32), names))
    last: NDArray[np.generic] = tables.last.view(dtype)
    if not tables.places.shape[1]:
        where = build.node("Add", begin, words.each(length, names), dtype=np.int32)
        return where, words.each(build.stored("e", last), names)
    shape = (tables.places.shape[1] + 1, len(last))
    stored: NDArray[np.generic] = tables.symbols.T.view(dtype)
    places = build.cast(build.stored("p", tables.places.T), np.int32)
    length = build.node("Unsqueeze", length, build.integers(0), dtype=np.int32)
    places = build.node("Concat", build.gather(places, stems, 1), length, dtype=np.int32, axis=0)
    symbols = build.gather(build.stored("v", stored), stems, 1)  # [rare, names]
    symbols = build.node("Concat", symbols, build.stored("e", last[None]), dtype=dtype, axis=0)
    return words.columns(places, names, shape, begin), words.columns(symbols, names, shape, None)


def _sums_before(build: Builder, tensor: gs.Tensor) -> gs.Tensor:
    """int32[n]: at each place the sum of what stands before it."""
    axis = build.shared(np.array(0, np.int64))
    return build.node("CumSum", tensor, axis, dtype=np.int32, exclusive=1)


def _filled(build: Builder, counts: Sequence[int], values: NDArray[np.generic]) -> gs.Tensor:
    """Each value so many times."""
    if (values == values[0]).all():
        counts, values = [sum(counts)], values[:1]
    parts = [build.filled(n, value) for n, value in zip(counts, values, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return build.node("Concat", *parts, dtype=values.dtype, axis=0)
