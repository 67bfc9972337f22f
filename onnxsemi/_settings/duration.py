"""Durations as users write them."""

import re

from onnxsemi._errors import SettingsError

_SECONDS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(name: str, text: str) -> float:
    """Seconds from hours, minutes and seconds.

    >>> [parse_duration("time_budget", text) for text in ("1h30m", "90s", "10m")]
    [5400.0, 90.0, 600.0]

    Raises:
        SettingsError: With the setting's name, if the text has another form.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    if not text or not parts:
        raise SettingsError(f"`{name}`: {text!r} is no duration such as 10m, 90s or 1h30m")
    amounts = zip(parts.groups(), _SECONDS.values(), strict=True)
    return sum(float(amount) * unit for amount, unit in amounts if amount)
