"""Einsum equations that are a product of the last axes of the first factor with a weight."""

import re
from dataclasses import dataclass
from string import ascii_letters

_FORM = re.compile(r"(?P<x>(?:\.\.\.)?[A-Za-z]*),(?P<w>[A-Za-z]+)->(?P<y>(?:\.\.\.)?[A-Za-z]*)")


@dataclass(frozen=True)
class Contraction:
    """``x[kept, summed] · w[summed, made] = y[kept, made]``.

    Attributes:
        kept: Number of leading axes of the first factor that stay.
        summed: Number of its last axes, which are summed over.
        made: Number of the last axes of the result, which the weight brings.
        order: Transposition of the weight's axes to summed, then made ones.
    """

    kept: int
    summed: int
    made: int
    order: tuple[int, ...]


def contraction(equation: str, rank: int) -> Contraction | None:
    """Read an equation (ONNX Einsum-12); None if it is another.

    Args:
        equation: Such as ``abc,cde->abde`` or ``...i,io->...o``.
        rank: Number of axes of the first factor.

    >>> contraction("abc,cde->abde", 3)
    Contraction(kept=2, summed=1, made=2, order=(0, 1, 2))
    >>> contraction("ab,cb->ac", 2)
    Contraction(kept=1, summed=1, made=1, order=(1, 0))
    >>> contraction("ab,bc->ca", 2)
    """
    found = _FORM.fullmatch(equation.replace(" ", ""))
    if found is None:
        return None
    x, w, y = found["x"], found["w"], found["y"]
    free = "".join(letter for letter in ascii_letters if letter not in x + w + y)
    rest = free[: max(0, rank - len(x.replace("...", "")))]
    x, y = (letters.replace("...", rest) for letters in (x, y))
    if len(x) != rank or len(set(x)) != rank or len(set(w)) != len(w):
        return None
    summed = "".join(letter for letter in x if letter in w)
    kept = x[: len(x) - len(summed)]
    made = y[len(kept) :]
    if not summed or not made or x != kept + summed or y != kept + made:
        return None
    if sorted(w) != sorted(summed + made):
        return None
    order = tuple(w.index(letter) for letter in summed + made)
    return Contraction(len(kept), len(summed), len(made), order)
