"""Bits and sign of Δloss of every channel: the picture of semilayers.

One strip a layer: above, each channel in the colour of its bits; below, a notch that hangs where
Δloss <= 0 and stands where Δloss > 0. Equal neighbours are drawn as one rectangle, so that a strip
is small whatever the number of its channels; the script looks a channel up in the data attributes.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from onnxsemi._arrays import Int64Array
from onnxsemi._plan.bitwidth import shown
from onnxsemi._report.page.channels import LayerChannels, bits_in, bits_name, layers_of
from onnxsemi._report.page.markup import Markup, join, number, tag
from onnxsemi._report.page.plot import bits_class, folded, legend, table
from onnxsemi._report.record import RunRecord

_WIDEST = 630.0
_PITCHES = (2.0, 10.0)
_BAR, _MIDDLE, _FLOOR = 18, 25, 31


def strips(kept: RunRecord) -> Markup:
    """A strip a layer, in two orders; and the counts as a table."""
    layers = list(layers_of(kept))
    most = max(len(layer.bits) for layer in layers)
    pitch = min(max(_WIDEST / most, _PITCHES[0]), _PITCHES[1])
    measured = any(layer.signs.any() for layer in layers)
    signs = [("neg", "Δloss ≤ 0"), ("pos", "Δloss > 0")] if measured else []
    keys = [(bits_class(bits), bits_name(bits)) for bits in bits_in(kept)]
    rows = [_row(layer, pitch) for layer in layers]
    said = "Bits and sign of Δloss of every channel, a strip a layer"
    box = tag("div", *rows, class_="scroll strips", role="region", aria_label=said)
    signed = (
        "Below, channels whose Δloss is at most 0 hang from the line and the others stand on it: "
        "the two semilayers of a layer. Δloss is that of the channel at its own bits (at the "
        "widest bitwidth measured where it is float32)."
        if measured
        else "Δloss was not measured: layers were not split."
    )
    caption = f"Each strip is a layer, each column a channel, coloured by its bits. {signed}"
    return join(
        legend([*keys, *signs]),
        _choice(),
        tag("figure", box, tag("figcaption", caption)),
        folded("Channels of each layer as a table", _table(layers, bits_in(kept))),
        _coded(kept),
    )


def runs(values: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Equal neighbours: value, start, length.

    >>> list(runs([4, 4, 8]))
    [(4, 0, 2), (8, 2, 1)]
    """
    start = 0
    for value, members in groupby(values):
        length = len(list(members))
        yield value, start, length
        start += length


def _choice() -> Markup:
    """Which order is shown; the style sheet does it."""
    choices = (("by-sign", "by semilayer", True), ("by-place", "by channel number", False))
    parts = [
        tag("label", tag_input(name, checked=checked), text) for name, text, checked in choices
    ]
    return tag("fieldset", tag("legend", "Channels in order"), *parts, class_="choice")


def tag_input(name: str, *, checked: bool) -> Markup:
    """A radio button of the order of channels."""
    said = " checked" if checked else ""
    return Markup(f'<input type="radio" name="order" value="{name}" id="{name}"{said}>')


def _row(layer: LayerChannels, pitch: float) -> Markup:
    mean = f"{len(layer.bits)} channels, {layer.mean_bits:.2f} bits"
    return tag(
        "div",
        tag("div", tag("b", layer.name), tag("span", mean), class_="name"),
        _strip(layer, layer.grouped, pitch, "by-sign"),
        _strip(layer, np.arange(len(layer.bits)), pitch, "by-place"),
        class_="strip",
        data_layer=layer.name,
        data_pitch=pitch,
        data_bits=_listed(map(shown, layer.bits.tolist())),
        data_loss=_listed(f"{value:.1e}" for value in layer.delta_loss.tolist()),
    )


def _strip(layer: LayerChannels, order: Int64Array, pitch: float, class_: str) -> Markup:
    width = pitch * len(order)
    bars: dict[int, str] = {}
    for bits, start, length in runs(layer.bits[order].tolist()):
        bars[bits] = bars.get(bits, "") + _box(start * pitch, length * pitch, 0, _BAR)
    notches = {-1: "", 0: "", 1: ""}
    for sign, start, length in runs(layer.signs[order].tolist()):
        top, height = (_MIDDLE, _FLOOR - _MIDDLE) if sign < 0 else (_BAR + 2, _MIDDLE - _BAR - 2)
        notches[sign] += _box(start * pitch, length * pitch, top, height)
    drawn = [tag("path", d=path, class_=bits_class(bits)) for bits, path in sorted(bars.items())]
    signs = [
        tag("path", d=notches[s], class_=c) for s, c in ((-1, "neg"), (1, "pos")) if notches[s]
    ]
    middle = tag("path", d=f"M0 {_MIDDLE}H{number(width)}", class_="middle")
    return tag(
        "svg",
        *drawn,
        *signs,
        middle if signs else None,
        tag("rect", class_="cursor", width=pitch, height=float(_FLOOR), hidden=True),
        class_=f"cells {class_}",
        width=width,
        height=_FLOOR,
        preserveAspectRatio="none",
        viewBox=f"0 0 {number(width)} {_FLOOR}",
        tabindex=0,
        role="img",
        aria_label=f"{layer.name}: {_said(layer)}; arrow keys go from channel to channel",
        data_order=_listed(order.tolist()),
    )


def _listed(values: Iterable[object]) -> str:
    return " ".join(map(str, values))


def _box(x: float, width: float, y: int, height: int) -> str:
    return f"M{number(x)} {y}h{number(width)}v{height}h{number(-width)}z"


def _said(layer: LayerChannels) -> str:
    values, counts = np.unique(layer.bits, return_counts=True)
    return ", ".join(
        f"{count} at {bits_name(bits)}" for bits, count in zip(values.tolist(), counts, strict=True)
    )


def _table(layers: Sequence[LayerChannels], ladder: Sequence[int]) -> Markup:
    rows = [
        (
            layer.name,
            len(layer.bits),
            f"{layer.mean_bits:.2f}",
            *(int((layer.bits == bits).sum()) or "" for bits in ladder),
            int((layer.signs < 0).sum()) if layer.signs.any() else "not measured",
        )
        for layer in layers
    ]
    headings = ("layer", "channels", "mean bits", *map(bits_name, ladder), "Δloss ≤ 0")
    return table(headings, rows, caption="Channels of each layer at each bitwidth")


def _coded(kept: RunRecord) -> Markup | None:
    """Levels and coded bits of the layers that are entropy-coded; None without any."""
    coded = kept.document.plan.coded
    if not isinstance(coded, dict):
        return None
    rows = [(name, layer.levels, f"{layer.bits:.2f}") for name, layer in coded.items()]
    headings = ("layer", "levels", "bits a weight")
    caption = "Levels of each layer, and bits that a weight takes by the frequencies of its codes"
    return folded("Levels and coded bits as a table", table(headings, rows, caption=caption))
