"""Blocks of symbols in few codes, decoded together: one pair of streams, one set of tables.

Codes of a file have prefixes of the same number of bits. Groups are numbered through, and so are
names: those of a code follow those of the code before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Int64Array, UInt8Array
from onnxsemi._coding.classes import Classes, joined_classes
from onnxsemi._coding.code import Code, Form, best_codes
from onnxsemi._coding.stream import encode

_MOST_CLASSES = 4
_BITS_OF_WORK = 2e-10
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
    """What operators decode with; places and symbols of a name repeat where there are fewer.

    Attributes:
        lengths: uint8[names]: symbols of a word.
        places: uint8[names, rare]: where a word has other symbols than its code's commonest.
        symbols: uint8[names, rare]: which; at place 0 the word's own if it has no other.
    """

    lengths: UInt8Array
    places: UInt8Array
    symbols: UInt8Array

    @classmethod
    def of(cls, codes: Sequence[Code]) -> "Tables":
        """Those of several codes, one after the other."""
        rare = max(code.tree.rare for code in codes)
        found = [_rare_symbols(code, rare) for code in codes]
        return cls(
            np.concatenate([code.lengths for code in codes]).astype(np.uint8),
            np.concatenate([places for places, _ in found]),
            np.concatenate([symbols for _, symbols in found]),
        )


def _rare_symbols(code: Code, rare: int) -> tuple[UInt8Array, UInt8Array]:
    """uint8[names, rare]: places, and symbols there."""
    differs = code.words != code.commonest
    behind = np.argsort(~differs, axis=1, kind="stable")[:, :rare]  # those that differ come first
    if behind.shape[1] < rare:
        behind = np.pad(behind, ((0, 0), (0, rare - behind.shape[1])))
    count = np.maximum(differs.sum(axis=1), 1)
    last = np.minimum(np.arange(rare), count[:, None] - 1)
    places = np.take_along_axis(behind, last, axis=1)
    symbols = np.take_along_axis(code.words, places, axis=1)
    return places.astype(np.uint8), symbols.astype(np.uint8)


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
