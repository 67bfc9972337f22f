"""Layers that are worked on together, so that what is held at once has a bound.

How layers fall into groups depends on their sizes alone, not on the memory that is free: ONNX
Runtime fuses other nodes where other tensors are looked at, and so no result depends on the memory.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from onnxsemi._runtime.batch_sizes import GROUP_BYTES

_Item = TypeVar("_Item")


def in_groups(
    items: Sequence[_Item], size: Callable[[_Item], int], limit: int = GROUP_BYTES
) -> list[list[_Item]]:
    """Neighbours in groups, as few as the limit allows; what is larger is a group by itself.

    >>> in_groups([3, 4, 2, 9, 1, 1], lambda n: n, limit=7)
    [[3, 4], [2], [9], [1, 1]]
    """
    groups: list[list[_Item]] = []
    held = 0
    for item in items:
        if not groups or held + size(item) > limit:
            groups.append([])
            held = 0
        groups[-1].append(item)
        held += size(item)
    return groups
