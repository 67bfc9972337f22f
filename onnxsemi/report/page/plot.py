"""What the figures share: the frame of a plot, its axes, marks that can be pointed at, tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi.arrays import Float64Array
from onnxsemi.report.page.markup import Markup, join, number, tag
from onnxsemi.report.page.scale import Scale, short

WIDTH, HEIGHT = 720.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 68.0, 700.0, 28.0, 350.0


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

    def label(self, value: float) -> str:
        """What a tick says."""
        return short(value) + self.unit


def plot(x: Axis, y: Axis, marks: Markup, *, label: str, height: float = HEIGHT) -> Markup:
    """A plot with its axes, in a box of its own that scrolls on a narrow screen.

    Args:
        x: Horizontal axis.
        y: Vertical axis, its start below.
        marks: What is drawn.
        label: What the figure shows, for those who do not see it.
        height: Of the whole figure.
    """
    floor = max(y.scale.start, y.scale.end)
    lines = [
        *(_vertical(x, value, (TOP, floor)) for value in x.scale.ticks()),
        *(_horizontal(y, value) for value in y.scale.ticks(28)),
        tag("text", x.title, class_="axis", x=(LEFT + RIGHT) / 2, y=height - 6),
        tag("text", y.title, class_="axis first", x=4, y=14),
    ]
    return svg(join(*lines, marks), WIDTH, height, label)


def svg(content: Markup, width: float, height: float, label: str) -> Markup:
    """A drawing that shrinks with its box down to where its letters can be read."""
    drawing = tag(
        "svg",
        content,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="group",
        aria_label=label,
    )
    return tag("div", drawing, class_="scroll", tabindex=0, role="region", aria_label=label)


def _vertical(axis: Axis, value: float, ends: tuple[float, float]) -> Markup:
    place = axis.scale.at(value)
    return join(
        tag("path", d=f"M{number(place)} {number(ends[0])}V{number(ends[1])}", class_="grid"),
        tag("text", axis.label(value), x=place, y=ends[1] + 17, class_="tick middle"),
    )


def _horizontal(axis: Axis, value: float) -> Markup:
    place = axis.scale.at(value)
    return join(
        tag("path", d=f"M{number(LEFT)} {number(place)}H{number(RIGHT)}", class_="grid"),
        tag("text", axis.label(value), x=LEFT - 8, y=place + 4, class_="tick end"),
    )


def mark(shape: str, tip: str, class_: str, **attributes: object) -> Markup:
    """Something that can be pointed at, tapped, and reached by keyboard."""
    said = tip.replace("\n", "; ")
    kind = f"mark {class_}"
    return tag(shape, class_=kind, role="img", aria_label=said, data_tip=tip, **attributes)


def dots(x: Float64Array, y: Float64Array, class_: str, most: int = 2500) -> Markup:
    """Many points as one path of round dots: each pixel once, and no more than ``most`` of them.

    A path without length and with round ends is a dot. Of more, points at equal distances in the
    order from left to right are taken: the same of the same points, whatever their order.
    """
    places = np.unique(np.rint(np.stack([x, y], axis=1)).astype(np.int64), axis=0)
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]
    return tag("path", class_=f"dots {class_}", d="".join(f"M{a} {b}h0" for a, b in places))


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> Markup:
    """A table in a box that scrolls; the first column names the row, numbers stand at the right."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", c) for c in row[1:])) for row in rows]
    whole = tag(
        "table", tag("caption", caption), tag("thead", head), tag("tbody", *body)
    )
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def folded(summary: str, content: Markup) -> Markup:
    """What is shown when it is asked for; printed always."""
    return tag("details", tag("summary", summary), content)


def figure(drawing: Markup, caption: object) -> Markup:
    """A drawing and what to see in it."""
    return tag("figure", drawing, tag("figcaption", caption))


def bits_class(bits: int) -> str:
    """Class of a bitwidth's colour: ``b1`` to ``b8``, ``b32``."""
    return f"b{bits}"


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Colours and what they mean: (class, text)."""
    items = [tag("li", tag("span", class_=f"key {kind}"), text) for kind, text in entries]
    return tag("ul", *items, class_="legend")
