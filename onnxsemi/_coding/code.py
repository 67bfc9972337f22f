"""A code: its words and their groups; the best one for given frequencies."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float64Array, Int64Array
from onnxsemi._coding.groups import group_widths
from onnxsemi._coding.words import WordTree, word_trees

PREFIX_BITS = range(1, 9)
_SIZES = [2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024]  # words
_FEWEST, _MOST = 1, 16  # words a group, on average


@dataclass(frozen=True, eq=False)
class Code:
    """Words with names of ``prefix_bits`` bits and more.

    The names of a group begin at a multiple of its size: groups lie in order of falling size.

    Attributes:
        alphabet: int64[A], ascending: what the symbols stand for; A >= 2.
        tree: Divides symbols into words.
        prefix_bits: P.
        widths: int64[G], G <= 2^P, falling: bits behind the prefix of each group.
        names: int64[leaves]: leaf -> name, below ``2^widths`` summed up.
    """

    alphabet: Int64Array
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
        """int64[names, longest]: the symbols, as in the alphabet; zeros behind a word."""
        found = np.zeros((len(self.lengths), int(self.lengths.max())), np.int64)
        for name, word in zip(self.names, self.tree.symbols(), strict=True):
            found[name, : len(word)] = self.alphabet[word]
        return found

    @cached_property
    def table_bytes(self) -> int:
        """Bytes of what a file must hold of it: widths, lengths, and the words in shorter form."""
        rows = self.words.size
        sparse = 2 * len(self.lengths) * int((self.words != 0).sum(axis=1).max())
        return len(self.widths) + len(self.lengths) + min(rows, sparse)

    def bits_a_symbol(self, frequency: Float64Array) -> float:
        """Of symbols with such frequencies, in the long run."""
        probability = self.tree.leaf_probabilities(frequency)
        bits = self.prefix_bits + self.widths[self.prefixes]
        return float(probability @ bits) / float(probability @ self.tree.length)


def best_code(alphabet: Int64Array, counts: Int64Array) -> Code:
    """The code with the fewest bits for symbols and table together.

    Args:
        alphabet: int64[A], ascending, A >= 2.
        counts: int64[A], > 0: how often each comes.
    """
    total = int(counts.sum())
    frequency = counts / total
    least = total * entropy(counts)
    best: tuple[float, Code] | None = None
    for tree in word_trees(frequency, sorted({*_SIZES, len(alphabet)})):
        if best is not None and least + 8 * 3 * len(tree.length) > best[0]:
            break
        for code in _codes(alphabet, tree):
            size = total * code.bits_a_symbol(frequency) + 8 * code.table_bytes
            if best is None or size < best[0]:
                best = (size, code)
    if best is None:
        raise ValueError(f"no code for {len(alphabet)} symbols")
    return best[1]


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
    share = counts / counts.sum()
    return ceil(symbols.size * code.bits_a_symbol(share)) + 8 * code.table_bytes


def _codes(alphabet: Int64Array, tree: WordTree) -> Iterator[Code]:
    """Codes of the same words, few groups first."""
    words = len(tree.length)
    order = np.argsort(-tree.probability, kind="stable")
    for prefix_bits in PREFIX_BITS:
        if _FEWEST * 2**prefix_bits <= words <= _MOST * 2**prefix_bits:
            widths = group_widths(tree.probability[order], 2**prefix_bits)
            if widths is not None:
                yield _named(alphabet, tree, prefix_bits, widths, order)


def _named(
    alphabet: Int64Array, tree: WordTree, prefix_bits: int, widths: Int64Array, order: Int64Array
) -> Code:
    """The code whose groups take the leaves in an order; those with wide names lie first."""
    falling = np.argsort(-widths, kind="stable")
    first = np.empty_like(widths)
    first[falling] = np.concatenate([[0], np.cumsum(2 ** widths[falling])[:-1]])
    group = np.repeat(np.arange(len(widths)), 2**widths)[: len(order)]
    within = np.concatenate([np.arange(2**width) for width in widths])[: len(order)]
    names = np.empty(len(order), np.int64)
    names[order] = first[group] + within
    return Code(alphabet, tree, prefix_bits, widths[falling], names)
