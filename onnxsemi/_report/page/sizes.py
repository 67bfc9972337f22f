"""What the file takes, and how many weights have how many bits."""

from onnxsemi._report.page.channels import bits_name, layers_of
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.plot import WIDTH, bits_class, figure, mark, svg, table
from onnxsemi._report.record import RunRecord

_BAR, _STEP, _NAME = 20.0, 30.0, 128.0
_LONGEST = 370.0


def sizes(kept: RunRecord) -> Markup:
    """Bars of bytes, a bar of weights by bits, and the five sizes."""
    found = kept.document.sizes
    bars = [
        ("float file", found.bytes_before),
        ("compressed file", found.bytes_after),
        ("its values alone", found.payload_bytes),
        ("after gzip", found.gzip_bytes),
    ]
    drawn = [_bar(place, *bar, most=found.bytes_before) for place, bar in enumerate(bars)]
    height = _STEP * len(bars)
    caption = "Bytes. Values are codes, scales and what stays float32; the rest is structure."
    rows = [
        ("target weights (the paper's ratio)", f"{found.targets:.2%}"),
        ("whole model", f"{found.model:.2%}"),
        ("file", f"{found.file:.2%}"),
        ("file after gzip", f"{1 - found.gzip_bytes / found.bytes_before:.2%}"),
        ("overhead beyond the values", f"{found.overhead:+.2%}"),
    ]
    return join(
        figure(svg(join(*drawn), WIDTH, height, "Bytes of the files"), caption),
        figure(*_weights(kept)),
        table(("size", "smaller by"), rows, caption="How much smaller, counted in five ways"),
    )


def _bar(place: int, name: str, amount: int, *, most: int) -> Markup:
    top = _STEP * place + 4
    width = max(1.5, _LONGEST * amount / max(most, 1))
    return join(
        tag("text", name, x=_NAME - 10, y=top + 15, class_="tick end"),
        tag(
            "rect", x=_NAME, y=top, width=width, height=_BAR, class_="bar" if place else "bar pale"
        ),
        tag("text", f"{amount:,}", x=_NAME + width + 8, y=top + 15, class_="note"),
    )


def _weights(kept: RunRecord) -> tuple[Markup, str]:
    amounts: dict[int, int] = {}
    for layer in layers_of(kept):
        for bits in layer.bits.tolist():
            amounts[bits] = amounts.get(bits, 0) + layer.parameters
    total, left, parts = sum(amounts.values()), 0.0, []
    for bits, amount in sorted(amounts.items()):
        width = WIDTH * amount / total
        share = f"{amount / total:.1%}"
        name = bits_name(bits)
        parts.append(
            join(
                mark(
                    "rect",
                    f"{name}\n{amount:,} weights, {share}",
                    bits_class(bits),
                    x=left,
                    y=20.0,
                    width=width,
                    height=30.0,
                ),
                tag("text", name, x=left + 2, y=14.0, class_="tick") if width > 52 else None,
                tag("text", share, x=left + 2, y=66.0, class_="note") if width > 44 else None,
            )
        )
        left += width
    drawing = svg(
        tag("g", *parts, class_="marks"), WIDTH, 74.0, "Share of weights at each bitwidth"
    )
    return drawing, f"{total:,} target weights by their bits."
