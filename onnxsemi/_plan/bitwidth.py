"""What a width is: how the weights of a channel are stored. One small whole number.

*Bitwidths* are 1 to 8 bits a weight, 32 for a weight left as float32, 0 for none: a channel at 0
bits has no weights, and its output is the constant that its bias is.

*Coded widths* are about as many bits as a weight takes once it is entropy-coded
(:mod:`onnxsemi._quantizer.coded`): 0.1 to 7. As whole numbers they lie above 64, in the order of
their bits; people read and write them with a decimal point, as ``2.5`` or ``3.0``.
"""

from collections.abc import Iterable

import numpy as np

from onnxsemi._arrays import read_only
from onnxsemi._errors import SettingsError

MIN_BITS = 0
MAX_BITS = 8
FLOAT_BITS = 32
DEFAULT_LADDER = (8, 6, 4)
EVERY_BITWIDTH = tuple(range(MAX_BITS, 0, -1))

_BELOW_ONE = (0.1, 0.15, 0.2, 0.25, 0.5, 0.75)
CODED_BITS = (*_BELOW_ONE, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0)
_BELOW_CODED = 64
_CODED = {bits: width for width, bits in enumerate(CODED_BITS, _BELOW_CODED + 1)}
EVERY_CODED = tuple(sorted(_CODED.values(), reverse=True))
BITWIDTHS = (*range(MIN_BITS, MAX_BITS + 1), *_CODED.values(), FLOAT_BITS)

_TAKEN = np.full(_BELOW_CODED + 1 + len(CODED_BITS), np.nan)
_TAKEN[: MAX_BITS + 1] = np.arange(MAX_BITS + 1)
_TAKEN[list(_CODED.values())] = CODED_BITS
_TAKEN[FLOAT_BITS] = FLOAT_BITS
BITS_TAKEN = read_only(_TAKEN)
"""float64[83]: bits that a weight takes at each width; NaN of what is none."""


def is_bitwidth(bits: int) -> bool:
    """Whether ``bits`` can be given to a channel: 0 to 8, a coded width, or 32.

    >>> [bits for bits in range(40) if is_bitwidth(bits) and not is_coded(bits)]
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 32]
    """
    return bits in BITWIDTHS


def is_coded(width: int) -> bool:
    """Whether a width is that of entropy-coded weights."""
    return width > _BELOW_CODED


def stores(one: int, other: int) -> bool:
    """Whether one width is that of channels as a file has them and the other that of their plan.

    Files have entropy-coded weights in as many bits as their codes fit in.
    """
    coded, stored = max(one, other), min(one, other)
    return one == other or (is_coded(coded) and stored <= MAX_BITS)


def shown(width: int) -> int | float:
    """Bits of a width as people read them: a float of a coded one.

    >>> shown(3), shown(EVERY_CODED[-1])
    (3, 0.1)
    """
    return float(BITS_TAKEN[width]) if is_coded(width) else width


def width_of(bits: float) -> int:
    """The width that :func:`shown` says: a coded one of a float.

    >>> shown(width_of(2.5)), width_of(8)
    (2.5, 8)
    """
    return _CODED[bits] if isinstance(bits, float) else bits


def ladder(bitwidths: Iterable[int], *, coded: bool = False) -> tuple[int, ...]:
    """The bitwidths in the order of the search: widest first, each once.

    >>> ladder([4, 8, 6, 8])
    (8, 6, 4)

    Args:
        bitwidths: Those to use.
        coded: Whether coded widths may be among them.

    Raises:
        SettingsError: If there is none but 0, or one is outside 0 to 8.
    """
    steps = tuple(sorted(set(bitwidths), reverse=True))
    if not steps:
        raise SettingsError("`bits` is empty: give bitwidths from 1 to 8, such as 8,6,4")
    for bits in steps:
        if not MIN_BITS <= bits <= MAX_BITS and not (coded and is_coded(bits)):
            raise SettingsError(f"`bits`: {bits} is outside {MIN_BITS} to {MAX_BITS}")
    if steps == (0,):
        raise SettingsError("`bits`: 0 alone leaves no weights: give wider ones too, such as 8,4,0")
    return steps


def coded_ladder(bits: tuple[int, ...]) -> tuple[int, ...]:
    """The same of coded widths: all of them for all bitwidths, else those of as many bits.

    >>> [shown(width) for width in coded_ladder((4, 2, 0))]
    [4.0, 2.0, 0]

    Raises:
        SettingsError: If there is none of so many bits.
    """
    if bits == EVERY_BITWIDTH:
        return EVERY_CODED
    for each in bits:
        if each and not is_coded(each) and each not in _CODED:
            raise SettingsError(f"`bits`: {each} is outside 0 to {CODED_BITS[-1]:g} (`rounding`)")
    return tuple(_CODED.get(each, each) for each in bits)


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
