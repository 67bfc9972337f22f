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
        prefixes: uint8[words]: the group of each word, P bits each.
        suffixes: uint8[...]: places in the groups, the lowest bit of the first in the lowest bit.
        count: Symbols; what the last word has beyond them is nothing.
    """

    prefixes: UInt8Array
    suffixes: UInt8Array
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
    prefixes = code.prefixes[leaves]
    within = code.names[leaves] - code.first[prefixes]
    places = np.arange(int(code.widths[0]))
    bits = (within[:, None] >> places & 1).astype(np.uint8)
    suffixes = np.packbits(bits[places < code.widths[prefixes][:, None]], bitorder="little")
    return Coded(prefixes.astype(np.uint8), suffixes, flat.size)


def decode(coded: Coded, code: Code) -> Int64Array:
    """int64[count]: the symbols, read as the operators of a file read them."""
    widths = code.widths[coded.prefixes]
    bits = np.unpackbits(coded.suffixes, bitorder="little").astype(np.int64)
    begin = np.cumsum(widths) - widths
    places = np.arange(int(code.widths[0]))
    read = np.concatenate([bits, np.zeros(len(places), np.int64)])[begin[:, None] + places]
    within = np.where(places < widths[:, None], read << places, 0).sum(axis=1)
    names = code.first[coded.prefixes] + within
    lengths = code.lengths[names]
    inside = np.arange(code.words.shape[1]) < lengths[:, None]
    symbols: Int64Array = code.words[names][inside]
    return symbols[: coded.count]


def _leaves(index: Int64Array, code: Code) -> Int64Array:
    """int64[words]: the leaves that symbols lead to; the last word is filled up."""
    symbols, tree = len(code.alphabet), code.tree.children
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
