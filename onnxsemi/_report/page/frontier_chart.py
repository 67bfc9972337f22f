"""Size against KL of every point that runs have kept: what else could be written, at which price.

KL is the measured one where a point was measured, else the predicted one. Where a run knows of
neither, the change of accuracy on the calibration images takes its place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._report.page.markup import Markup, join, number, tag
from onnxsemi._report.page.plot import BOTTOM, LEFT, RIGHT, TOP, Axis, legend, mark, plot
from onnxsemi._report.page.run import Run
from onnxsemi._report.page.scale import Scale, logarithmic, spread
from onnxsemi._report.page.tiles import megabytes
from onnxsemi._report.page.words import points
from onnxsemi._run.frontier import KeptFrontier, KeptPoint

_MEGABYTES = 100_000
"""Bytes from which files are drawn in megabytes."""

_SHAPE = "M0 -5.2L5.2 0L0 5.2L-5.2 0z"
"""A diamond: the second run's points, so that colour is not all that tells the two apart."""


@dataclass(frozen=True, eq=False)
class Series:
    """A run in a chart.

    Attributes:
        run: The run.
        name: In the legend and in tips; empty where there is one run.
        class_: Of its marks.
        diamond: Whether its marks are diamonds; circles else.
    """

    run: Run
    name: str
    class_: str
    diamond: bool = False


@dataclass(frozen=True, eq=False)
class Spot:
    """A point in a chart.

    Attributes:
        series: Its run.
        point: The point.
        value: Its KL in nats, or its change in percentage points.
    """

    series: Series
    point: KeptPoint
    value: float


def chart(series: Sequence[Series]) -> tuple[Markup, Markup]:
    """The legend and the drawing."""
    spots, kl_increase = list(_spots(series, _kl)), True
    if not any(spot.value for spot in spots):
        spots, kl_increase = list(_spots(series, _change)), False
    x, unit = _sizes([spot.point.file_bytes for spot in spots])
    y = _values(np.array([spot.value for spot in spots]), kl_increase=kl_increase)
    places = [(x.scale.at(spot.point.file_bytes / unit), y.scale.at(spot.value)) for spot in spots]
    marks = [_mark(spot, at) for spot, at in zip(spots, places, strict=True)]
    rings = [
        _ring(at, spot.series) for spot, at in zip(spots, places, strict=True) if spot.point.chosen
    ]
    what = f"Size against {'KL' if kl_increase else 'change'} of {len(spots)} points"
    drawn = tag("g", join(*marks, *rings), class_="marks many")
    return legend(_keys(series)), plot(x, y, drawn, label=what)


def _spots(
    series: Sequence[Series], value_of: Callable[[KeptFrontier, KeptPoint], float | None]
) -> Iterator[Spot]:
    """Points of which a value is known."""
    for one in series:
        for point in one.run.frontier.points:
            value = value_of(one.run.frontier, point)
            if value is not None:
                yield Spot(one, point, value)


def _kl(kept: KeptFrontier, point: KeptPoint) -> float | None:
    del kept  # what it is asked of a change
    return point.predicted if point.kl is None else point.kl


def _change(kept: KeptFrontier, point: KeptPoint) -> float | None:
    change = kept.change(point)
    return None if change is None else 100 * change


def _sizes(sizes: Sequence[int]) -> tuple[Axis, float]:
    """The horizontal axis, in megabytes or kilobytes, and the bytes of one."""
    unit, name = (1e6, "MB") if max(sizes, default=0) >= _MEGABYTES else (1e3, "kB")
    ends = spread([size / unit for size in sizes] or [0.0], 1e-3)
    return Axis(Scale(*ends, LEFT, RIGHT), f"size of the file, {name}"), unit


def _values(values: Float64Array, *, kl_increase: bool) -> Axis:
    """The vertical axis."""
    if kl_increase:
        title = "KL on the calibration images, nats a sample"
        return Axis(logarithmic(values, BOTTOM, TOP), title)
    ends = spread([*values.tolist(), 0.0], 0.4)
    return Axis(Scale(*ends, BOTTOM, TOP), "change on the calibration images, points")


def _keys(series: Sequence[Series]) -> list[tuple[str, str]]:
    named = [(f"{one.class_} {'diamond' if one.diamond else 'round'}", one.name) for one in series]
    keys = named if len(series) > 1 else [(f"{series[0].class_} round", "measured")]
    return [*keys, ("hollow", "not measured, only predicted"), ("ring", "written to the file")]


def _mark(spot: Spot, at: tuple[float, float]) -> Markup:
    one, point = spot.series, spot.point
    look = one.class_ + ("" if point.measured else " hollow")
    text = "\n".join(_tip(one, point))
    if not one.diamond:
        return mark("circle", text, look, cx=at[0], cy=at[1], r=4.0)
    move = f"translate({number(at[0])} {number(at[1])})"
    return mark("path", text, look, d=_SHAPE, transform=move)


def _tip(one: Series, point: KeptPoint) -> list[str]:
    kept, change = one.run.frontier, one.run.frontier.change(point)
    return [
        *([one.name] if one.name else []),
        f"{megabytes(point.file_bytes)}{'' if point.chosen else ' (estimated)'}, "
        f"{point.plan.mean_bits:.2f} bits a weight",
        *([] if point.kl is None else [f"KL measured {point.kl:.2g} nats"]),
        *([] if point.predicted is None else [f"KL predicted {point.predicted:.2g} nats"]),
        *(
            []
            if change is None
            else [f"{points(change)} points on {kept.images:,} calibration images"]
        ),
        *(["written to the file"] if point.chosen else []),
        *([f"rejected: {point.rejected}"] if point.rejected else []),
    ]


def _ring(at: tuple[float, float], one: Series) -> Markup:
    """Around the written point, with its name: the second run's below, clear of the first's."""
    side = "end" if at[0] > (LEFT + RIGHT) / 2 else ""
    text = f"written: {one.name}" if one.name else "written to the file"
    x, y = at[0] + (-13 if side else 13), at[1] + (20 if one.diamond else -10)
    return join(
        tag("circle", cx=at[0], cy=at[1], r=9.5, class_="ring"),
        tag("text", text, x=x, y=y, class_=f"note strong {side}"),
    )
