"""Groups of words: which words share the first bits of their names."""

import numpy as np

from onnxsemi._arrays import Float64Array, Int64Array

BYTE = 8  # bits of a place in a group that are read at once
MAX_WIDTH = 12


def group_widths(
    probability: Float64Array, groups: int, widest: int = MAX_WIDTH
) -> Int64Array | None:
    """The cheapest division of words, likeliest first, into groups of 2^r neighbours.

        cost(i, g) = min_r cost(i - 2^r, g - 1) + r * probability of those 2^r words

    The last group may have room for more words than there are.

    Args:
        probability: float64[M], falling.
        groups: The most that there may be.
        widest: The most that r may be.

    Returns:
        int64[G], G <= groups: r of each group, in the order of the words; None if so few groups
        cannot hold the words.
    """
    words, most = len(probability), 2**widest
    if groups * most < words:
        return None
    below = np.concatenate([[0], np.cumsum(probability), np.ones(most)])
    below[words:] = below[words]
    sizes = 2 ** np.arange(widest + 1)
    before = np.arange(len(below)) - sizes[:, None]  # where a group of each width begins
    added = np.arange(widest + 1)[:, None] * (below - below[np.maximum(before, 0)])
    before[before < 0] = len(below)  # which nothing reaches
    cost = np.full(len(below) + 1, np.inf)
    cost[0] = 0
    used = min(groups, words)  # one more is never worse
    chosen, columns = np.zeros((used, len(below)), np.uint8), np.arange(len(below))
    for group in range(used):
        tried = cost[before] + added
        chosen[group] = tried.argmin(axis=0)  # the smallest width of equally good ones
        cost[:-1] = tried[chosen[group], columns]
    end, widths = words + int(np.argmin(cost[words:-1])), np.zeros(used, np.int64)
    for group in range(used - 1, -1, -1):
        widths[group] = chosen[group, end]
        end -= 2 ** int(widths[group])
    return widths
