"""Channel numbers as people write them: ``0-3,5``."""

from collections.abc import Iterable
from itertools import groupby, pairwise

from onnxsemi._errors import PlanError

_ZEROS = 100  # in front of a number, at the most


def channel_ranges(channels: Iterable[int]) -> str:
    """Ascending channel numbers as ranges.

    >>> channel_ranges([0, 1, 2, 3, 5])
    '0-3,5'
    """
    runs = groupby(enumerate(channels), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for _, group in runs if (run := list(group))]
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ends)


def parse_ranges(text: str, count: int) -> list[int]:
    """Channel numbers from ranges, all below ``count``; none may stand twice.

    >>> parse_ranges("0-3, 5", count=6)
    [0, 1, 2, 3, 5]

    Raises:
        PlanError: If the text is no list of ranges, or names a channel that is not there, or twice.
    """
    return [channel for part in ranges_of(text, count) for channel in part]


def ranges_of(text: str, count: int) -> list[range]:
    """The same as ranges, in the order of the text: in no more time than the text is long.

    Raises:
        PlanError: Likewise.
    """
    parts = [_range(part.strip(), count) for part in text.split(",")]
    check_disjoint(parts)
    return parts


def check_disjoint(parts: Iterable[range]) -> None:
    """Refuse a channel that stands in two ranges.

    Raises:
        PlanError: With its number.
    """
    for one, other in pairwise(sorted(parts, key=lambda part: part.start)):
        if other.start < one.stop:
            raise PlanError(f"channel {other.start} stands twice")


def _range(part: str, count: int) -> range:
    first, dash, last = part.partition("-")
    digits = len(str(count)) + _ZEROS
    if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 2 * digits:
        raise PlanError(f"{part!r} is no channel range such as 0-3")
    begin, end = int(first), int(last or first)
    if end < begin:
        raise PlanError(f"{part!r} is no channel range such as 0-3")
    if end >= count:
        raise PlanError(f"channel {max(begin, count)} is none of its {count} channels")
    return range(begin, end + 1)
