"""A code: its words and their groups; the best one for given frequencies."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float64Array, Int64Array
from onnxsemi._coding.groups import BYTE, MAX_WIDTH, group_widths
from onnxsemi._coding.words import WordTree, even_trees, word_trees

PREFIX_BITS = (1, 2, 3, 4, 5, 6, 8)
_UNPACKING = {1: 3, 2: 3, 3: 8, 4: 3, 5: 8, 6: 8, 8: 0}
"""Bytes that are made of a prefix of so many bits."""
_SIZES = [2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024]  # words
_MOST_FOR_WORK = 0.05  # of the entropy: what work counts at most
_EVEN = 2**14  # words of one length, as tables of those take no more than their symbols
_FREE_WORK = 32  # which loads within three times the time of float32 weights, or nearly so
_HOPELESS = 1.1  # times the best size so far: a code that takes more is not looked at
_SECOND_BYTE = 200  # of nodes
_FEWEST, _MOST = 1, 32  # words a group, on average


class Form(NamedTuple):
    """What all codes of a file have in common.

    Attributes:
        prefix_bits: P.
        even_length: Symbols of every word; 0 if words differ in length.
    """

    prefix_bits: int
    even_length: int


@dataclass(frozen=True, eq=False)
class Code:
    """Words with names of ``prefix_bits`` bits and more.

    Words are named 0, 1, ... from the likeliest to the least likely one, and so are groups.

    Attributes:
        alphabet: int64[A], ascending: what the symbols stand for; A >= 2.
        commonest: The likeliest of them, which tables need not hold.
        tree: Divides symbols into words.
        prefix_bits: P.
        widths: int64[G], G <= 2^P: bits behind the prefix of each group.
        names: int64[leaves]: leaf -> name.
    """

    alphabet: Int64Array
    commonest: int
    tree: WordTree
    prefix_bits: int
    widths: Int64Array
    names: Int64Array

    @cached_property
    def first(self) -> Int64Array:
        """int64[G]: the first name of each group."""
        return np.concatenate([[0], np.cumsum(2**self.widths)[:-1]])

    @cached_property
    def prefixes(self) -> Int64Array:
        """int64[leaves]: the group of each word."""
        found: Int64Array = np.searchsorted(self.first, self.names, side="right") - 1
        return found

    @cached_property
    def lengths(self) -> Int64Array:
        """int64[names]: symbols of the word with each name; 0 for a name that no word has."""
        found = np.zeros(int((2**self.widths).sum()), np.int64)
        found[self.names] = self.tree.length
        return found

    @cached_property
    def words(self) -> Int64Array:
        """int64[names, longest]: the symbols, as in the alphabet; the commonest behind a word."""
        found = np.full((len(self.lengths), int(self.lengths.max())), self.commonest)
        for name, word in zip(self.names.tolist(), self.tree.symbols(), strict=True):
            found[name, : len(word)] = self.alphabet[word]
        return found

    @property
    def form(self) -> Form:
        """What it shares with all codes of a file."""
        return Form(self.prefix_bits, self.tree.even_length)

    @property
    def table_bytes(self) -> int:
        """Bytes of what a file must hold of it: widths, words, and their stems; more nodes."""
        names = int((2**self.widths).sum())
        if self.tree.even_length:
            beyond = _SECOND_BYTE if self.widths.max() > BYTE else 0
            return len(self.widths) + names * self.tree.even_length + beyond
        return len(self.widths) + 2 * names + self.tree.stems * (2 * self.tree.rare - 1)

    @property
    def work(self) -> float:
        """What operators take to decode a symbol: in bytes, as making them takes the longest.

        By what :mod:`onnxsemi._emit.storage.decoder` makes of a word, and what it looks up and
        scatters, as much as ONNX Runtime 1.32 makes meanwhile (a byte in 0.5 ns).
        """
        length = float(self.tree.probability @ self.tree.length)
        suffix = float(self.tree.probability @ self.widths[self.prefixes])
        word = 34 + 7 * suffix + _UNPACKING[self.prefix_bits]
        word += 20 if self.widths.max() > BYTE else 0
        if self.tree.even_length:
            return word / length + (3 if length == 1 else 6)
        return (word + 50 + 40 * self.tree.rare) / length + 3

    def bits_a_symbol(self, frequency: Float64Array | None = None) -> float:
        """Of symbols with such frequencies, in the long run.

        Args:
            frequency: float64[A], sums to 1; those that the code was made for unless given.
        """
        probability = self.tree.probability
        if frequency is not None:
            probability = self.tree.leaf_probabilities(frequency)
        bits = self.prefix_bits + self.widths[self.prefixes]
        return float(probability @ bits) / float(probability @ self.tree.length)


def best_codes(
    alphabet: Int64Array, counts: Int64Array, bits_of_work: float = 0.0
) -> Mapping[Form, tuple[float, Code]]:
    """The codes with the fewest bits for symbols and table together, one of each form.

    Args:
        alphabet: int64[A], ascending, A >= 2.
        counts: int64[A], > 0: how often each comes.
        bits_of_work: What a byte of work a symbol counts, in bits, beyond what is free.

    Returns:
        Form -> bits of all, work among them, and the best such code.
    """
    if len(alphabet) < 2:
        raise ValueError(f"no code for {len(alphabet)} symbols")
    total = int(counts.sum())
    frequency = counts / total
    least, commonest = total * entropy(counts), int(alphabet[np.argmax(counts)])
    best: dict[Form, tuple[float, Code]] = {}
    trees = word_trees(frequency, sorted({*_SIZES, len(alphabet)}))
    for tree in (*trees, *even_trees(frequency, _EVEN)):
        at_least = least + 8 * len(tree.length) * max(1, tree.even_length)
        if best and at_least > _HOPELESS * min(size for size, _ in best.values()):
            continue
        open_bits = [
            bits
            for bits in PREFIX_BITS
            if at_least < best.get(Form(bits, tree.even_length), (np.inf,))[0]
        ]
        for code in _codes(alphabet, commonest, tree, open_bits):
            work = max(0.0, code.work - _FREE_WORK) * bits_of_work
            work = min(total * work, _MOST_FOR_WORK * least)
            size = total * code.bits_a_symbol() + 8 * code.table_bytes + work
            if size < best.get(code.form, (np.inf,))[0]:
                best[code.form] = (size, code)
    return best


def best_code(alphabet: Int64Array, counts: Int64Array) -> Code:
    """The best of all, few bits of a prefix before many.

    Args:
        alphabet: int64[A], ascending, A >= 2.
        counts: int64[A], > 0: how often each comes.
    """
    codes = best_codes(alphabet, counts)
    return min(codes.values(), key=lambda sized: sized[0])[1]


def entropy(counts: Int64Array) -> float:
    """Bits a symbol that no code goes below, whatever its words; of order zero."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share @ np.log2(share)))


def coded_bits(symbols: NDArray[np.integer[Any]]) -> int:
    """Bits of symbols under the best code that they alone can have, its table among them.

    Args:
        symbols: Integers, any shape.

    Returns:
        To the rounding of the last byte; 0 if all symbols are the same.
    """
    alphabet, counts = np.unique(symbols, return_counts=True)
    if len(alphabet) < 2:
        return 0
    code = best_code(alphabet.astype(np.int64), counts)
    return ceil(symbols.size * code.bits_a_symbol()) + 8 * code.table_bytes


def _codes(
    alphabet: Int64Array, commonest: int, tree: WordTree, prefix_bits: Iterable[int]
) -> Iterator[Code]:
    """Codes of the same words, few groups first."""
    words = len(tree.length)
    order = np.argsort(-tree.probability, kind="stable")
    for bits in prefix_bits:
        even = bool(tree.even_length)
        if _FEWEST * 2**bits <= words <= (2**MAX_WIDTH if even else _MOST) * 2**bits:
            for widest in (BYTE, MAX_WIDTH) if even else (BYTE,):
                widths = group_widths(tree.probability[order], 2**bits, widest)
                if widths is not None:
                    yield Code(alphabet, commonest, tree, bits, widths, np.argsort(order))
