"""What the figures share: the frame of a plot, its axes, marks that can be pointed at, tables."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._plan.bitwidth import BITS_TAKEN
from onnxsemi._report.page.markup import Markup, join, number, tag
from onnxsemi._report.page.scale import Kind, Scale, short

WIDTH, HEIGHT = 600.0, 380.0
"""Units of a drawing; the style sheet gives letters more of them on a narrow screen."""
LEFT, RIGHT, TOP, BOTTOM = 68.0, 588.0, 30.0, 330.0


_SHORT = 20
"""Characters up to which the name of a row is not broken."""

_LONG = 24
"""Characters beyond which a cell is no number, whatever it begins with."""


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        scale: Values to pixels.
        title: What it shows, with its unit.
        unit: Put behind each label.
    """

    scale: Scale
    title: str
    unit: str = ""

    def ticks(self, gap: float) -> list[tuple[float, str]]:
        """Pixels and labels, at least ``gap`` pixels from each other."""
        values = self.scale.ticks(gap)
        texts = list(map(short, values))
        if self.scale.kind is Kind.LINEAR and not any("⁻" in text for text in texts):
            decimals = max(len(text.partition(".")[2]) for text in texts)
            texts = [f"{value:.{decimals}f}".replace("-", "−") for value in values]
        places = self.scale.all(np.array(values)).tolist()
        return [(at, text + self.unit) for at, text in zip(places, texts, strict=True)]


def plot(x: Axis, y: Axis, marks: Markup, *, label: str, height: float = HEIGHT) -> Markup:
    """A plot with its axes.

    Args:
        x: Horizontal axis.
        y: Vertical axis, its start below.
        marks: What is drawn.
        label: What the figure shows, for those who do not see it.
        height: Of the whole figure.
    """
    floor = max(y.scale.start, y.scale.end)
    lines = [
        *(_vertical(*tick, (TOP, floor)) for tick in x.ticks(72)),
        *(_horizontal(*tick) for tick in y.ticks(28)),
        tag("text", x.title, class_="axis", x=(LEFT + RIGHT) / 2, y=height - 6),
        tag("text", y.title, class_="axis first", x=4, y=14),
    ]
    return svg(join(*lines, marks), WIDTH, height, label)


def svg(content: Markup, width: float, height: float, label: str) -> Markup:
    """A drawing as wide as its box."""
    box = f"0 0 {number(width)} {number(height)}"
    return tag("svg", content, viewBox=box, role="group", aria_label=label, class_="drawing")


def _vertical(place: float, text: str, ends: tuple[float, float]) -> Markup:
    return join(
        tag("path", d=f"M{number(place)} {number(ends[0])}V{number(ends[1])}", class_="grid"),
        tag("text", text, x=place, y=ends[1] + 17, class_="tick middle"),
    )


def _horizontal(place: float, text: str) -> Markup:
    return join(
        tag("path", d=f"M{number(LEFT)} {number(place)}H{number(RIGHT)}", class_="grid"),
        tag("text", text, x=LEFT - 8, y=place + 4, class_="tick end"),
    )


def mark(shape: str, tip: str, class_: str, **attributes: object) -> Markup:
    """Something that can be pointed at, tapped, and reached by keyboard."""
    said = tip.replace("\n", "; ")
    kind = f"mark {class_}"
    return tag(shape, class_=kind, role="img", aria_label=said, data_tip=tip, **attributes)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> Markup:
    """A table in a box that scrolls.

    The first column names the row. Columns of words stand at the left, of numbers at the right.
    """
    listed = [tuple(row) for row in rows]
    words = [all(map(_is_word, column)) for column in zip(*listed, strict=True)]
    kinds = ["words" if word else None for word in words] or [None] * len(headings)
    head = [tag("th", text, scope="col", class_=k) for text, k in zip(headings, kinds, strict=True)]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_="short" if len(str(row[0])) <= _SHORT else None),
            *(tag("td", cell, class_=k) for cell, k in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in listed
    ]
    parts = (tag("caption", caption), tag("thead", tag("tr", *head)), tag("tbody", *body))
    whole = tag("table", *parts)
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _is_word(cell: object) -> bool:
    if not isinstance(cell, str):
        return False
    return cell[:1].isalpha() or cell[:1] in {"/", ""} or len(cell) > _LONG


def folded(summary: str, content: Markup) -> Markup:
    """What is shown when it is asked for; printed if it was."""
    return tag("details", tag("summary", summary), content)


def figure(drawing: Markup, caption: object) -> Markup:
    """A drawing and what to see in it."""
    return tag("figure", drawing, tag("figcaption", caption))


def bits_class(bits: int) -> str:
    """Class of a width's colour, coded ones rounded up: ``b0`` to ``b8``, ``b32``."""
    return f"b{math.ceil(BITS_TAKEN[bits])}"


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Colours and what they mean: (class, text)."""
    items = [tag("li", tag("span", class_=f"key {kind}"), text) for kind, text in entries]
    return tag("ul", *items, class_="legend")
