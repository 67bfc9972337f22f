"""Which blocks of symbols share a code: blocks of like frequencies are a *class*.

From each block on its own, the two classes are joined whose joint entropy exceeds theirs the least,
until one is left; what each step would take in bits, tables among them, decides where it stops.
"""

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array

Classes = tuple[tuple[int, ...], ...]
"""Indices of blocks, class by class, each ascending; classes in the order of their first block."""


def joined_classes(counts: Int64Array, most: int) -> list[Classes]:
    """Divisions of blocks into ``most`` classes and fewer, down to one.

    Args:
        counts: int64[blocks, symbols].
        most: Classes to begin with, if there are so many blocks.

    Returns:
        One division for each number of classes, rising.
    """
    members: list[tuple[int, ...] | None] = [(block,) for block in range(len(counts))]
    sums = counts.astype(np.float64)
    bits = _bits(sums)
    excess = np.full((len(sums), len(sums)), np.inf)
    for row in range(len(sums) - 1):
        excess[row, row + 1 :] = _bits(sums[row] + sums[row + 1 :]) - bits[row] - bits[row + 1 :]
    found = []
    for left in range(len(sums), 0, -1):
        if left <= most:
            found.append(tuple(sorted(blocks for blocks in members if blocks is not None)))
        if left == 1:
            break
        one, other = divmod(int(np.argmin(excess)), len(sums))
        members[one] = tuple(sorted((*(members[one] or ()), *(members[other] or ()))))
        members[other] = None
        sums[one] += sums[other]
        bits[one] = _bits(sums[one])
        excess[other, :] = excess[:, other] = np.inf
        for row in range(len(sums)):
            if row != one and members[row] is not None:
                place = (min(row, one), max(row, one))
                excess[place] = _bits(sums[row] + sums[one]) - bits[row] - bits[one]
    return found[::-1]


def _bits(counts: Float64Array) -> Float64Array:
    """float64[...]: entropy of symbols that come so often, float64[..., symbols], in bits."""
    total = counts.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(counts > 0, counts * np.log2(total / counts), 0)
    bits: Float64Array = each.sum(axis=-1)
    return bits
