"""Groups of words: which words share the first bits of their names."""

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array, UInt8Array

MAX_WIDTH = 8  # bits of a place in a group: they are read from one byte at a time


def group_widths(probability: Float64Array, groups: int) -> Int64Array | None:
    """The cheapest division of words, likeliest first, into groups of 2^r neighbours.

        cost(i, g) = min_r cost(i - 2^r, g - 1) + r * probability of those 2^r words

    The last group may have room for more words than there are.

    Args:
        probability: float64[M], falling.
        groups: The most that there may be.

    Returns:
        int64[G], G <= groups: r of each group, in the order of the words; None if so few groups
        cannot hold the words.
    """
    words, most = len(probability), 2**MAX_WIDTH
    if groups * most < words:
        return None
    below = np.concatenate([[0], np.cumsum(probability), np.ones(most)])
    below[words:] = below[words]
    cost = np.full(len(below), np.inf)
    cost[0] = 0
    chosen = np.zeros((groups, len(below)), np.uint8)
    best: tuple[float, int, int] = (np.inf, 0, 0)
    for group in range(groups):
        cost, chosen[group] = _with_one_more(cost, below)
        end = words + int(np.argmin(cost[words:]))
        if cost[end] < best[0]:
            best = (float(cost[end]), group, end)
    _, group, end = best
    widths: list[int] = []
    for row in range(group, -1, -1):
        widths.append(int(chosen[row, end]))
        end -= 2 ** widths[-1]
    return np.array(widths[::-1])


def _with_one_more(cost: Float64Array, below: Float64Array) -> tuple[Float64Array, UInt8Array]:
    """Costs with another group, and its r; the smallest r of equally good ones."""
    best, chosen = np.full(len(cost), np.inf), np.zeros(len(cost), np.uint8)
    for width in range(MAX_WIDTH + 1):
        size = 2**width
        if size >= len(cost):
            break
        tried = cost[:-size] + width * (below[size:] - below[:-size])
        better = tried < best[size:]
        best[size:][better] = tried[better]
        chosen[size:][better] = width
    return best, chosen
