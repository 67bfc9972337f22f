"""Reading coded symbols with standard operators (opset 18), all shapes static.

    prefixes -> groups -> widths -> CumSum -> suffixes -> names of words
    names -> lengths -> CumSum -> Add(places): where
    names -> symbols: what
    ConstantOfShape(the commonest symbol) -> ScatterElements(where, what)

``->`` with a table is a Gather. A suffix is looked up by the bit that it begins at, in the bytes
that begin at every bit. Tables of words are made of those of their stems first. A word with fewer
rare symbols than others has one of its own in the tables again, so a place comes twice with the
same symbol only. (``Compress`` and ``NonZero`` would be shorter, but ONNX Runtime does not fold
them, as the size of what they give is unknown.)
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from onnxsemi._arrays import UInt8Array
from onnxsemi._coding.code import Code
from onnxsemi._coding.shared import Streams, Tables
from onnxsemi._emit.builder import Builder

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
    widths = np.concatenate([code.widths for code in codes]).astype(np.uint8)
    names = _names(build, _groups(build, prefixes, streams.words, codes), streams, widths)
    if codes[0].form.even_length:
        words = np.concatenate([code.words for code in codes]).astype(np.uint8)
        every = build.gather(build.stored("v", words.view(dtype)), names)
        return build.node("Reshape", every, build.integers(-1), dtype=dtype)
    tables = Tables.of(codes)
    common: NDArray[np.generic] = np.array([code.commonest for code in codes], np.uint8)
    start = _filled(build, streams.symbols, common.view(dtype))
    where, what = _rare(build, names, tables, dtype)
    return build.node("ScatterElements", start, where, what, dtype=dtype)


def _groups(
    build: Builder, prefixes: gs.Tensor, words: Sequence[int], codes: Sequence[Code]
) -> gs.Tensor:
    """int32[words]: counted through all codes."""
    groups = build.cast(prefixes, np.int32)
    if len(codes) == 1:
        return groups
    before = np.cumsum([0, *(len(code.widths) for code in codes[:-1])]).astype(np.int32)
    return build.node("Add", groups, _filled(build, words, before), dtype=np.int32)


def _names(
    build: Builder, groups: gs.Tensor, streams: Streams, group_widths: UInt8Array
) -> gs.Tensor:
    """int32[words]: the first name of the group, and the suffix behind it."""
    if not group_widths.any():
        return groups
    widths = build.cast(build.stored("w", group_widths), np.int32)
    masks = build.shared((2 ** np.arange(9) - 1).astype(np.uint8))
    masks = build.gather(masks, widths)
    sizes = build.node(
        "Add", build.cast(masks, np.int32), build.shared(np.array([1], np.int32)), dtype=np.int32
    )
    begin = _sums_before(build, build.gather(widths, groups))
    byte = build.gather(_bytes_at_bits(build, streams.suffixes), begin)
    suffix = build.node("BitwiseAnd", byte, build.gather(masks, groups), dtype=np.uint8)
    first = build.gather(_sums_before(build, sizes), groups)
    return build.node("Add", build.cast(suffix, np.int32), first, dtype=np.int32)


def _bytes_at_bits(build: Builder, suffixes: UInt8Array) -> gs.Tensor:
    """uint8[8 * bytes]: the eight bits that begin at each bit; zeros behind the last one."""
    padded = np.concatenate([suffixes, np.zeros(2, np.uint8)])
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
    build: Builder, names: gs.Tensor, tables: Tables, dtype: type
) -> tuple[gs.Tensor, gs.Tensor]:
    """int32[n] places, and [n] symbols there: those of stems, and the last of each word."""
    stems = build.cast(build.stored("t", tables.stems), np.int32)
    length = build.gather(build.cast(build.stored("l", tables.lengths), np.int32), stems)
    one = build.shared(np.array([1], np.int32))
    begin = _sums_before(build, build.gather(build.node("Add", length, one, dtype=np.int32), names))
    last: NDArray[np.generic] = tables.last.view(dtype)
    if not tables.places.shape[1]:
        where = build.node("Add", begin, build.gather(length, names), dtype=np.int32)
        return where, build.gather(build.stored("e", last), names)
    flat = build.integers(-1)
    stored: NDArray[np.generic] = tables.symbols.T.view(dtype)
    places = build.cast(build.stored("p", tables.places.T), np.int32)
    length = build.node("Unsqueeze", length, build.integers(0), dtype=np.int32)
    places = build.node("Concat", build.gather(places, stems, 1), length, dtype=np.int32, axis=0)
    symbols = build.gather(build.stored("v", stored), stems, 1)  # [rare, names]
    symbols = build.node("Concat", symbols, build.stored("e", last[None]), dtype=dtype, axis=0)
    where = build.node("Add", begin, build.gather(places, names, 1), dtype=np.int32)
    return (
        build.node("Reshape", where, flat, dtype=np.int32),
        build.node("Reshape", build.gather(symbols, names, 1), flat, dtype=dtype),
    )


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
