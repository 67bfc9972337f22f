"""Δloss of all channels at each bitwidth (the paper's figure 1)."""

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._report.page.channels import bits_name
from onnxsemi._report.page.markup import Markup, join, number, tag
from onnxsemi._report.page.plot import (
    LEFT,
    WIDTH,
    figure,
    folded,
    legend,
    svg,
    table,
)
from onnxsemi._report.page.scale import Scale, short, stretched
from onnxsemi._report.record import RunRecord

_ROW, _TOP, _BIN = 40.0, 8.0, 6.0
_RIGHT = 490.0
_TITLE = "Δloss of the channel, nats a sample"


def distribution(kept: RunRecord) -> Markup | None:
    """A row of bars a bitwidth; None if Δloss was not measured."""
    evidence = kept.evidence
    values = evidence.delta_loss[np.isfinite(evidence.delta_loss).all(axis=1)]
    if not len(values):
        return None
    scale = stretched(values.ravel(), LEFT, _RIGHT)
    bits = evidence.bits.tolist()
    rows = [
        _row(scale, values[:, place], bits_name(b), _TOP + _ROW * (place + 1))
        for place, b in enumerate(bits)
    ]
    floor = _TOP + _ROW * len(bits)
    content = join(_grid(scale, floor), *rows)
    said = "Δloss of all channels at each bitwidth, a row of bars a bitwidth"
    caption = (
        f"{len(values):,} channels, each quantized alone. Blue, left of 0: quantizing the channel "
        "does not raise the loss. Heights are scaled row by row; the scale of Δloss is "
        "stretched around 0. (Figure 1 of the paper.)"
    )
    return join(
        legend([("neg", "Δloss ≤ 0"), ("pos", "Δloss > 0")]),
        figure(svg(content, WIDTH, floor + 44, said), caption),
        folded("As a table", _table(values, bits)),
    )


def counts(scale: Scale, values: Float64Array) -> list[tuple[float, int, int]]:
    """Bins of equal width in pixels that meet at 0: (left edge, sign, channels)."""
    places = scale.all(values)
    zero = scale.at(0.0)
    right = values > 0
    number_of = np.where(right, (places - zero) // _BIN, -((zero - places) // _BIN) - 1)
    found, amounts = np.unique(number_of.astype(np.int64), return_counts=True)
    return [
        (zero + _BIN * place, 1 if place >= 0 else -1, amount)
        for place, amount in zip(found.tolist(), amounts.tolist(), strict=True)
    ]


def _row(scale: Scale, values: Float64Array, name: str, floor: float) -> Markup:
    found = counts(scale, values)
    tallest = max(amount for _, _, amount in found)
    paths = {-1: "", 1: ""}
    for left, sign, amount in found:
        height = max(1.0, (_ROW - 12) * amount / tallest)
        paths[sign] += (
            f"M{number(left + 0.5)} {number(floor)}v{number(-height)}"
            f"h{number(_BIN - 1)}v{number(height)}z"
        )
    share = f"{(values <= 0).mean():.1%} ≤ 0"
    return join(
        tag("path", d=f"M{number(LEFT)} {number(floor)}H{number(_RIGHT)}", class_="grid"),
        *(tag("path", d=paths[s], class_=c) for s, c in ((-1, "neg"), (1, "pos")) if paths[s]),
        tag("text", name, x=LEFT - 8, y=floor - 6, class_="tick end"),
        tag("text", share, x=_RIGHT + 12, y=floor - 6, class_="note"),
    )


def _grid(scale: Scale, floor: float) -> Markup:
    lines = [
        join(
            tag(
                "path",
                d=f"M{number(scale.at(value))} {number(_TOP)}V{number(floor)}",
                class_="grid" if value else "zero",
            ),
            tag("text", short(value), x=scale.at(value), y=floor + 18, class_="tick middle"),
        )
        for value in scale.ticks(60)
    ]
    title = tag("text", _TITLE, x=(LEFT + _RIGHT) / 2, y=floor + 38, class_="axis")
    return join(*lines, title)


def _table(values: Float64Array, bits: list[int]) -> Markup:
    rows = []
    for place, b in enumerate(bits):
        column = values[:, place]
        quartiles = np.quantile(column, [0.0, 0.25, 0.5, 0.75, 1.0])
        texts = (f"{value:+.2e}".replace("-", "−") for value in quartiles)
        rows.append((bits_name(b), f"{(column <= 0).mean():.1%}", *texts))
    headings = ("bits", "Δloss ≤ 0", "least", "lower quartile", "median", "upper quartile", "most")
    return table(headings, rows, caption="Δloss of all channels, nats a sample")
