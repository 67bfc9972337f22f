"""Arguments and settings of the types that they are declared with; anything else is a TypeError."""

import os
from dataclasses import fields
from enum import StrEnum
from functools import cache
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

_Kinds = dict[str, tuple[type, ...]]
_SHOWN = {float: "a number", NoneType: "None", os.PathLike: "a path"}


def check_fields(settings: Any) -> None:
    """Refuse a field of another type than its dataclass declares; a list becomes a tuple.

    Enums are left to :func:`~onnxsemi._enum_choice.choice`, which says what there is.

    Raises:
        TypeError: With the field's name, what was expected, and what was found.
    """
    for name, kinds in _kinds(settings.__class__).items():
        value = getattr(settings, name)
        if isinstance(value, list) and tuple in kinds:
            value = tuple(value)
            object.__setattr__(settings, name, value)
        if not any(_is(value, kind) for kind in kinds):
            raise _wrong(name, value, kinds)


def check_argument(name: str, value: object, *kinds: type) -> None:
    """Refuse an argument that is of none of some types.

    >>> check_argument("output", b"small.onnx", str, os.PathLike)
    Traceback (most recent call last):
    TypeError: output must be a path, not bytes

    Raises:
        TypeError: Likewise.
    """
    if not any(_is(value, kind) for kind in kinds):
        raise _wrong(name, value, kinds)


def _wrong(name: str, value: object, kinds: tuple[type, ...]) -> TypeError:
    path = os.PathLike in kinds  # a path as text is one, too
    shown = [_SHOWN.get(kind, kind.__name__) for kind in kinds if not (path and kind is str)]
    return TypeError(f"{name} must be {' or '.join(shown)}, not {type(value).__name__}")


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is int:
        return isinstance(value, Integral)
    if kind is float:
        return isinstance(value, Real)
    return isinstance(value, str if issubclass(kind, StrEnum) else kind)


@cache
def _kinds(of: Any) -> _Kinds:
    """Name of each field -> the types that it may have."""
    hints = get_type_hints(of)
    return {item.name: _types(hints[item.name]) for item in fields(of)}


def _types(hint: Any) -> tuple[type, ...]:
    origin = get_origin(hint)
    if origin is None:
        return (hint,)
    if origin in (tuple, os.PathLike):
        return (origin,)
    return tuple(kind for part in get_args(hint) for kind in _types(part))
