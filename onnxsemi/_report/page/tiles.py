"""The figures to decide by: float to now, the verdict, megabytes, speed."""

from dataclasses import dataclass

from onnxsemi._report.document import RunResult
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.words import words_of
from onnxsemi._report.parts import VerdictPart
from onnxsemi._report.speed import Speed, ratio

_MEGABYTES = 10_000
"""Bytes from which sizes are said in megabytes."""

_SIGNS = {"holds": "✓", "unproven": "?", "fails": "✕"}
"""Outcome of a verdict -> its sign: colour alone would not reach everybody."""


@dataclass(frozen=True)
class Tile:
    """A figure.

    Attributes:
        name: What it is.
        value: The figure.
        note: What belongs to it.
        kind: Class of its colour; empty for none.
    """

    name: str
    value: str
    note: str
    kind: str = ""


def tiles_of(document: RunResult) -> tuple[Tile, ...]:
    """The figures of a result."""
    return (
        Tile(*words_of(document).figure),
        _verdict(document.verdict),
        _size(document),
        _speed(Speed.read(document.speed)),
    )


def tiles(document: RunResult) -> Markup:
    """The same, side by side."""
    found = [
        tag(
            "div",
            tag("dt", tile.name),
            tag("dd", tag("b", *_lines(tile.value)), tag("span", tile.note)),
            class_=tile.kind or None,
        )
        for tile in tiles_of(document)
    ]
    return tag("dl", *found, class_="tiles")


def megabytes(count: int) -> str:
    """Bytes in megabytes, three digits; in kilobytes where that would be zeros.

    >>> megabytes(1095944), megabytes(83491), megabytes(186_000_000), megabytes(4_200)
    ('1.10 MB', '0.0835 MB', '186 MB', '4.20 kB')
    """
    unit, name = (1e6, "MB") if count >= _MEGABYTES else (1e3, "kB")
    return f"{count / unit:#.3g}".rstrip(".") + f" {name}"


def _lines(value: str) -> list[Markup]:
    """A value that may be broken at its arrow, and nowhere else."""
    before, arrow, after = value.partition(" → ")
    if not arrow:
        return [tag("span", value)]
    return [tag("span", before), join(" "), tag("span", f"→ {after}")]


def _verdict(verdict: VerdictPart) -> Tile:
    outcome = verdict.outcome
    note = f"the change {verdict.reason}"
    if verdict.looks > 1:
        note += f"; look {verdict.looks} at these images"
    return Tile("Verdict", f"{_SIGNS.get(outcome, '')} {outcome}".strip(), note, outcome)


def _size(document: RunResult) -> Tile:
    sizes = document.sizes
    before, after = sizes.bytes_before, sizes.bytes_after
    note = (
        f"{sizes.file:.2%} smaller ({before:,} → {after:,} bytes); "
        f"{document.plan.mean_bits:.2f} bits a target weight instead of 32"
    )
    return Tile("File", f"{megabytes(before)} → {megabytes(after)}", note)


def _speed(speed: Speed | None) -> Tile:
    if speed is None:
        return Tile("Speed", "not measured", "compress --bench measures it", "unknown")
    note = (
        f"an image takes {ratio(speed.loaded)} of the float model's {speed.milliseconds} by "
        f"load_session, {ratio(speed.plain)} in a default session; "
        f"{speed.threads} thread{'s' * (speed.threads > 1)}"
    )
    return Tile("Speed by load_session", speed.faster, note)
