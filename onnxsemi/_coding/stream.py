"""Symbols -> two streams of bits, and back."""

from array import array
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Int64Array, UInt8Array
from onnxsemi._coding.code import Code


@dataclass(frozen=True, eq=False)
class Coded:
    """Symbols as they are written.

    Attributes:
        names: int64[words]: the words.
        prefixes: uint8[words]: the group of each, P bits each.
        suffix_bits: uint8[...]: places in the groups, bit by bit, the lowest first.
        count: Symbols; what the last word has beyond them is nothing.
    """

    names: Int64Array
    prefixes: UInt8Array
    suffix_bits: UInt8Array
    count: int


def encode(symbols: Int64Array, code: Code) -> Coded:
    """Write symbols.

    Args:
        symbols: Integers of the code's alphabet, any shape.
        code: The code.

    Raises:
        ValueError: If a symbol is not in the alphabet.
    """
    flat = symbols.ravel()
    index = np.searchsorted(code.alphabet, flat)
    if (code.alphabet[np.minimum(index, len(code.alphabet) - 1)] != flat).any():
        raise ValueError("a symbol is not in the alphabet")
    leaves = _leaves(index, code)
    names, prefixes = code.names[leaves], code.prefixes[leaves]
    within = names - code.first[prefixes]
    places = np.arange(int(code.widths.max()))
    bits = (within[:, None] >> places & 1).astype(np.uint8)
    suffixes = bits[places < code.widths[prefixes][:, None]]
    return Coded(names, prefixes.astype(np.uint8), suffixes, flat.size)


def decode(coded: Coded, code: Code) -> Int64Array:
    """int64[count]: the symbols, read from the two streams as the operators of a file do."""
    widths = code.widths[coded.prefixes]
    begin = np.cumsum(widths) - widths
    places = np.arange(int(code.widths.max()))
    bits = np.concatenate([coded.suffix_bits, np.zeros(len(places), np.uint8)]).astype(np.int64)
    read = bits[begin[:, None] + places]
    within = np.where(places < widths[:, None], read << places, 0).sum(axis=1)
    names = code.first[coded.prefixes] + within
    inside = np.arange(code.words.shape[1]) < code.lengths[names][:, None]
    symbols: Int64Array = code.words[names][inside]
    return symbols[: coded.count]


def _leaves(index: Int64Array, code: Code) -> Int64Array:
    """int64[words]: the leaves that symbols lead to; the last word is filled up."""
    symbols, tree, even = len(code.alphabet), code.tree.children, code.tree.even_length
    if even:  # leaves are numbered in the order of their words
        words = np.pad(index, (0, -len(index) % even)).reshape(-1, even)
        return words @ symbols ** np.arange(even - 1, -1, -1)
    steps = np.where(tree < 0, tree, tree * symbols).ravel().tolist()
    found, node = [], 0
    for symbol in array("H", index.astype(np.uint16).tobytes()):
        node = steps[node + symbol]
        if node < 0:
            found.append(-1 - node)
            node = 0
    while node:
        node = steps[node]
        if node < 0:
            found.append(-1 - node)
            node = 0
    return np.array(found, np.int64)
