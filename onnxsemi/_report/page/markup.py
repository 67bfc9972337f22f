"""Elements of HTML and SVG as text. What is no :class:`Markup` is escaped.

Text may hold names from files of others: it is shown as :mod:`onnxsemi._visible` does.
"""

from html import escape

from onnxsemi._visible import shown, visible

_READ = ("aria-label", "data-tip", "title")
"""Attributes that someone reads."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Of the element.
        children: Markup as it is, anything else as escaped text; None is left out.
        attributes: ``class_`` and ``data_tip`` become ``class`` and ``data-tip``. None and False
            are left out, True is an attribute without a value; a float has at most two decimals.

    >>> tag("p", "a < b", tag("b", 1), class_="x", hidden=False)
    '<p class="x">a &lt; b<b>1</b></p>'
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items())
    return Markup(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Markup as it is, anything else as escaped text; None is left out."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(shown(str(child)))
            for child in children
            if child is not None
        )
    )


def number(value: float) -> str:
    """A coordinate: at most two decimals.

    >>> number(3.0), number(2.346), number(-0.001)
    ('3', '2.35', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    look = shown if name in _READ else visible  # what is drawn may be long
    text = number(value) if isinstance(value, float) else look(str(value))
    if value is True:
        return f" {name}"
    return f' {name}="{escape(text)}"'
