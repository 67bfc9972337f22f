"""Channel numbers as people write them: ``0-3,5``."""

from collections.abc import Iterable
from itertools import groupby

from onnxsemi._errors import PlanError


def channel_ranges(channels: Iterable[int]) -> str:
    """Ascending channel numbers as ranges.

    >>> channel_ranges([0, 1, 2, 3, 5])
    '0-3,5'
    """
    runs = groupby(enumerate(channels), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for _, group in runs if (run := list(group))]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def parse_ranges(text: str, count: int) -> list[int]:
    """Channel numbers from ranges, all below ``count``.

    >>> parse_ranges("0-3, 5", count=6)
    [0, 1, 2, 3, 5]

    Raises:
        PlanError: If the text is no list of ranges, or names a channel that is not there.
    """
    channels: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise PlanError(f"{part!r} is no channel range such as 0-3")
        begin, end = int(first), int(last or first)
        if end < begin:
            raise PlanError(f"{part!r} is no channel range such as 0-3")
        if end >= count:
            raise PlanError(f"channel {max(begin, count)} is none of its {count} channels")
        channels.extend(range(begin, end + 1))
    return channels
