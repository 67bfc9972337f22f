"""A line of a table for a terminal; it may have names from files of others in it."""

from rich.text import Text

from onnxsemi._visible import shown_line


def line(said: str, style: str = "") -> Text:
    """Text as :mod:`onnxsemi._visible` shows it, and no markup."""
    return Text(shown_line(said), style)
