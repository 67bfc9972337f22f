"""Blocks of symbols in few codes, decoded together: one pair of streams, one set of tables.

Codes of a file have prefixes of the same number of bits. Groups are numbered through, and so are
names: those of a code follow those of the code before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Int64Array, UInt8Array
from onnxsemi._coding.classes import Classes, joined_classes
from onnxsemi._coding.code import Code, Form, best_codes
from onnxsemi._coding.stream import encode

_MOST_CLASSES = 4
_BITS_OF_WORK = 1.2e-9
"""A byte of work counts so many bits for each symbol of a file: it matters where there are many."""


@dataclass(frozen=True, eq=False)
class Division:
    """Blocks in codes.

    Attributes:
        classes: Blocks of each code.
        codes: A code for each class, all with prefixes of the same number of bits.
        bits: Of blocks and tables, as expected.
    """

    classes: Classes
    codes: tuple[Code, ...]
    bits: float

    @property
    def form(self) -> Form:
        """Of all codes."""
        return self.codes[0].form

    def wider_than(self, counts: Int64Array, bits: Int64Array) -> set[int]:
        """Blocks that take more in their code than so many bits a symbol.

        Args:
            counts: int64[blocks, symbols].
            bits: int64[blocks].
        """
        found = set()
        for members, code in zip(self.classes, self.codes, strict=True):
            for block in members:
                share = counts[block][code.alphabet] / counts[block].sum()
                if code.bits_a_symbol(share) >= bits[block]:
                    found.add(block)
        return found


def best_division(counts: Int64Array, *, fixed_bits: Sequence[int], class_bits: int) -> Division:
    """The division of blocks into classes with the fewest bits.

    Args:
        counts: int64[blocks, symbols]: how often each symbol 0, 1, ... comes in a block; in each
            two at least.
        fixed_bits: What prefixes of 1 bit, 2 bits, ... add once.
        class_bits: What each class adds.
    """
    work = _BITS_OF_WORK * float(counts.sum())
    known: dict[tuple[int, ...], Mapping[Form, tuple[float, Code]]] = {}
    best: Division | None = None
    for classes in joined_classes(counts, _MOST_CLASSES):
        for blocks in classes:
            if blocks not in known:
                together = counts[list(blocks)].sum(axis=0)
                alphabet = np.flatnonzero(together)
                known[blocks] = best_codes(alphabet, together[alphabet], work)
        for form in known[classes[0]]:
            if any(form not in known[blocks] for blocks in classes):
                continue
            sized = [known[blocks][form] for blocks in classes]
            fixed = fixed_bits[form.prefix_bits - 1] + class_bits * len(classes)
            bits = fixed + sum(size for size, _ in sized)
            if best is None or bits < best.bits:
                best = Division(classes, tuple(code for _, code in sized), bits)
    if best is None:
        raise ValueError("no form of a code serves for all blocks")
    return best


@dataclass(frozen=True, eq=False)
class Tables:
    """What operators decode words with: a *stem*, which many words have, and a last symbol.

    Attributes:
        stems: uint8 or uint16[names]: the stem of each word.
        last: uint8[names]: its last symbol.
        lengths: uint8[stems]: symbols of a stem; a word has one more.
        places: uint8[stems, rare]: where a stem has other symbols than its code's commonest.
        symbols: uint8[stems, rare]: which. Where a stem has fewer, one of its symbols again; the
            word's own if the stem has none, which is then no other word's.
    """

    stems: UInt8Array | NDArray[np.uint16]
    last: UInt8Array
    lengths: UInt8Array
    places: UInt8Array
    symbols: UInt8Array

    @classmethod
    def of(cls, codes: Sequence[Code]) -> "Tables":
        """Those of several codes, one after the other."""
        known: dict[tuple[int, ...], int] = {}
        rows: list[_Stem] = []
        stems, last = [], []
        for number, code in enumerate(codes):
            for word, length in zip(code.words.tolist(), code.lengths.tolist(), strict=True):
                used = word[: max(length, 1)]
                key = (number, *(used[:-1] or (-1, *used)))  # -1: a word of its own
                if key not in known:
                    known[key] = len(rows)
                    rows.append(_Stem.of(used, code.commonest))
                stems.append(known[key])
                last.append(used[-1])
        rare = max(len(stem.places) for stem in rows)
        return cls(
            np.array(stems, np.min_scalar_type(len(rows) - 1)),
            np.array(last, np.uint8),
            np.array([stem.length for stem in rows], np.uint8),
            np.array([stem.filled(stem.places, 0, rare) for stem in rows], np.uint8),
            np.array([stem.filled(stem.symbols, stem.first, rare) for stem in rows], np.uint8),
        )


@dataclass(frozen=True)
class _Stem:
    """Symbols of a word but the last; ``first`` is the word's first."""

    length: int
    first: int
    places: tuple[int, ...]
    symbols: tuple[int, ...]

    @classmethod
    def of(cls, word: Sequence[int], commonest: int) -> "_Stem":
        rare = [(place, symbol) for place, symbol in enumerate(word[:-1]) if symbol != commonest]
        places, symbols = tuple(zip(*rare, strict=True)) or ((), ())
        return cls(len(word) - 1, word[0], places, symbols)

    @staticmethod
    def filled(values: tuple[int, ...], otherwise: int, count: int) -> list[int]:
        """So many of them: the first again where there are fewer."""
        first = values[0] if values else otherwise
        return [*values, *[first] * (count - len(values))]


@dataclass(frozen=True, eq=False)
class Streams:
    """All blocks as they are written.

    Attributes:
        prefixes: uint8[words]: groups, counted anew in each code.
        suffixes: uint8[...]: places in the groups.
        words: Number of words of each code.
        symbols: Their symbols: those of the blocks, and what the last word has beyond them.
    """

    prefixes: UInt8Array
    suffixes: UInt8Array
    words: tuple[int, ...]
    symbols: tuple[int, ...]


def encode_blocks(blocks: Sequence[Int64Array], division: Division) -> Streams:
    """Write blocks, class by class.

    Args:
        blocks: Symbols of each, any shape.
        division: Their codes.
    """
    coded = [
        encode(np.concatenate([blocks[block].ravel() for block in members]), code)
        for members, code in zip(division.classes, division.codes, strict=True)
    ]
    return Streams(
        np.concatenate([part.prefixes for part in coded]),
        np.packbits(np.concatenate([part.suffix_bits for part in coded]), bitorder="little"),
        tuple(len(part.prefixes) for part in coded),
        tuple(
            int(code.lengths[part.names].sum())
            for part, code in zip(coded, division.codes, strict=True)
        ),
    )
