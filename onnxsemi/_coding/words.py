"""Dividing a sequence into words: the tree whose leaves they are."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from math import log

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array

MAX_LENGTH = 255  # symbols of a word: places in it take a byte


@dataclass(frozen=True, eq=False)
class WordTree:
    """Words of symbols 0 .. A - 1 as leaves of a tree, each inner node with A children.

    Attributes:
        children: int64[nodes, A]: an inner node, or ``-1 - leaf``; node 0 is the root.
        probability: float64[leaves], of the leaves under the frequencies it was made for.
        length: int64[leaves]: symbols of the word.
        rare: The most symbols of a word that are not the commonest one; 1 if there is none.
    """

    children: Int64Array
    probability: Float64Array
    length: Int64Array
    rare: int

    @property
    def stems(self) -> int:
        """What words are but for their last symbols: inner nodes, and each word of one symbol."""
        ends = self.children < 0
        return int(ends[1:].any(axis=1).sum() + ends[0].sum())

    @property
    def even_length(self) -> int:
        """Symbols of every word; 0 if words differ in length."""
        first = int(self.length[0])
        return first if (self.length == first).all() else 0

    def symbols(self) -> list[list[int]]:
        """The words themselves, leaf by leaf."""
        found: list[list[int]] = [[] for _ in self.length]
        paths: list[list[int]] = [[] for _ in self.children]
        for node, children in enumerate(self.children.tolist()):  # parents come first
            for symbol, child in enumerate(children):
                path = [*paths[node], symbol]
                if child < 0:
                    found[-1 - child] = path
                else:
                    paths[child] = path
        return found

    def leaf_probabilities(self, frequency: Float64Array) -> Float64Array:
        """float64[leaves] under other frequencies, float64[A]."""
        reached, leaves = np.ones(len(self.children)), np.zeros(len(self.length))
        for node, children in enumerate(self.children):
            inner = children >= 0
            reached[children[inner]] = reached[node] * frequency[inner]
            leaves[-1 - children[~inner]] = reached[node] * frequency[~inner]
        return leaves


def word_trees(frequency: Float64Array, sizes: list[int]) -> list[WordTree]:
    """The largest tree of at most so many words, for each size that any tree fits.

    Args:
        frequency: float64[A], > 0, sums to 1; A >= 2.
        sizes: Ascending.

    Source: Tunstall, 1967: divide the likeliest leaf; the first of equally likely ones.
    """
    growth, trees = _Growth(frequency), []
    for size in sizes:
        before = growth.leaves
        while growth.leaves + len(frequency) - 1 <= size and growth.divide():
            pass
        if growth.leaves > max(before, 1):
            trees.append(growth.tree())
    return trees


def even_trees(frequency: Float64Array, most: int) -> Iterator[WordTree]:
    """Trees whose words are all of one length, from one symbol on, of at most so many words.

    Args:
        frequency: float64[A], > 0, sums to 1; A >= 2.
        most: Words.
    """
    symbols, probability = len(frequency), np.ones(1)
    while len(probability) * symbols <= most:
        probability = (probability[:, None] * frequency).ravel()
        length = round(log(len(probability), symbols))
        nodes = (len(probability) - 1) // (symbols - 1)
        below = np.arange(1, nodes * symbols + 1).reshape(nodes, symbols)  # numbered level by level
        children = np.where(below < nodes, below, nodes - 1 - below)
        yield WordTree(children, probability, np.full(len(probability), length), length)


_Leaf = tuple[float, int, int, int]
"""-probability, number, length, symbols that are not the commonest."""


class _Growth:
    """A tree while it grows: its leaves in a heap, likeliest first."""

    def __init__(self, frequency: Float64Array) -> None:
        """Begin with the root as the only leaf."""
        self._frequency = frequency.tolist()
        self._commonest = int(np.argmax(frequency))
        self._heap: list[_Leaf] = [(-1.0, 0, 0, 0)]
        self._full: list[_Leaf] = []  # as long as a word may be
        self._places = [(-1, 0)]  # of each leaf ever: parent and symbol
        self._inner: list[int] = []  # leaves that were divided, in order

    @property
    def leaves(self) -> int:
        """Their number."""
        return len(self._heap) + len(self._full)

    def divide(self) -> bool:
        """Make the likeliest leaf an inner node; False if there is none left to divide."""
        if not self._heap:
            return False
        negative, number, length, rare = heapq.heappop(self._heap)
        node = len(self._inner)
        self._inner.append(number)
        kept = self._full if length + 1 == MAX_LENGTH else self._heap
        for symbol, share in enumerate(self._frequency):
            rarer = rare + (symbol != self._commonest)
            leaf = (negative * share, len(self._places), length + 1, rarer)
            self._places.append((node, symbol))
            if kept is self._full:
                kept.append(leaf)
            else:
                heapq.heappush(kept, leaf)
        return True

    def tree(self) -> WordTree:
        """As it is now; leaves in the order in which they came."""
        leaves = sorted([*self._heap, *self._full], key=lambda leaf: leaf[1])
        children = np.zeros((len(self._inner), len(self._frequency)), np.int64)
        for node, number in enumerate(self._inner[1:], 1):
            children[self._places[number]] = node
        for index, (_, number, _, _) in enumerate(leaves):
            children[self._places[number]] = -1 - index
        negative, _, length, rare = zip(*leaves, strict=True)
        return WordTree(children, -np.array(negative), np.array(length), max(1, *rare))
