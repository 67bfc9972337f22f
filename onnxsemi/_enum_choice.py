"""Reading a choice: an enum member, or its value as a string."""

from enum import StrEnum
from typing import TypeVar

from onnxsemi._errors import SettingsError

_Choice = TypeVar("_Choice", bound=StrEnum)


def choice(kind: type[_Choice], value: str) -> _Choice:
    """The member of ``kind`` that ``value`` is or names.

    Raises:
        SettingsError: If it is none; the message lists what there is.
    """
    try:
        return kind(value)
    except ValueError:
        listed = ", ".join(repr(member.value) for member in kind)
        raise SettingsError(f"{value!r} is none of {listed}") from None
