"""What a bitwidth is: 1 to 8 bits a weight, 32 for a weight left as float32, 0 for none.

A channel at 0 bits has no weights: they are zero, and its output is the constant that its bias is.
"""

from collections.abc import Iterable

from onnxsemi._errors import SettingsError

MIN_BITS = 0
MAX_BITS = 8
FLOAT_BITS = 32
BITWIDTHS = (*range(MIN_BITS, MAX_BITS + 1), FLOAT_BITS)
DEFAULT_LADDER = (8, 6, 4)


def is_bitwidth(bits: int) -> bool:
    """Whether ``bits`` can be given to a channel: 0 to 8, or 32.

    >>> [bits for bits in range(40) if is_bitwidth(bits)]
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 32]
    """
    return bits in BITWIDTHS


def ladder(bitwidths: Iterable[int]) -> tuple[int, ...]:
    """The bitwidths in the order of the search: widest first, each once.

    >>> ladder([4, 8, 6, 8])
    (8, 6, 4)

    Raises:
        SettingsError: If there is none but 0, or one is outside 0 to 8.
    """
    steps = tuple(sorted(set(bitwidths), reverse=True))
    if not steps:
        raise SettingsError("`bits` is empty: give bitwidths from 1 to 8, such as 8,6,4")
    for bits in steps:
        if not MIN_BITS <= bits <= MAX_BITS:
            raise SettingsError(f"`bits`: {bits} is outside {MIN_BITS} to {MAX_BITS}")
    if steps == (0,):
        raise SettingsError("`bits`: 0 alone leaves no weights: give wider ones too, such as 8,4,0")
    return steps


def parse_ladder(text: str) -> tuple[int, ...]:
    """Read a ladder such as ``8,6,4``.

    >>> parse_ladder("8, 6, 4")
    (8, 6, 4)

    Raises:
        SettingsError: If a part is no whole number, or :func:`ladder` refuses it.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    for part in parts:
        if not part.removeprefix("-").isdecimal():
            raise SettingsError(f"`bits`: {part!r} is no whole number; write it like 8,6,4")
    return ladder(int(part) for part in parts)
