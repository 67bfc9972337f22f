"""The points of a run, as a table of 80 columns."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Group, RenderableType

from onnxsemi._emit.profile import Profile
from onnxsemi._report.line import line
from onnxsemi._report.tables import plain_table
from onnxsemi._results import wording
from onnxsemi._run.frontier import KeptFrontier, KeptPoint


def pareto_table(kept: KeptFrontier, run: Path, *, every: bool) -> RenderableType:
    """Sizes against accuracy, least compressed first.

    Args:
        kept: What the run has kept.
        run: Its folder.
        every: Whether to show points that another one beats, and every predicted one; else one of
            these a percent of compression.
    """
    seen = (
        ("change, 95 % interval", "broken/fixed") if kept.has_labels else ("same, 95 % interval",)
    )
    table = plain_table("smaller", "bits", "file bytes", *seen, "KL", "from")
    shown = list(kept.points) if every else list(worth_showing(kept))
    for point in shown:
        table.add_row(*_row(kept, point))
    what = "Same answers as the float model"
    if kept.has_labels:
        what = f"Change of {kept.head.measured} ({wording.share(kept.correct, kept.images)} float)"
    if kept.metric is not None:
        what = f"Change of the mean of {kept.metric} ({kept.correct / kept.images:.4f} float)"
    lines = [
        f"{what} on {kept.images:,} calibration images, which the search has seen. * chosen; ~ "
        "estimated; KL: as predicted, in nats.",
        *_nothing_line(kept),
        *_integers_line(kept),
        *_coded_line(kept),
        *_hidden_line(len(kept.points) - len(shown)),
        f"To write one: onnxsemi apply {run} --at 85% -o FILE (or --at -0.1, points of "
        f"{kept.metric or ('accuracy' if kept.has_labels else 'agreement')})",
    ]
    return Group(table, *map(line, lines))


def worth_showing(kept: KeptFrontier) -> Iterable[KeptPoint]:
    """Measured points that no other one beats, and the first predicted one of each percent."""
    percents = set()
    for point in kept.points:
        percent = int(100 * point.plan.compression)
        if point.measured:
            if point.chosen or not kept.dominated(point):
                yield point
        elif percent not in percents:
            percents.add(percent)
            yield point


def _row(kept: KeptFrontier, point: KeptPoint) -> tuple[str, ...]:
    return (
        f"{'*' if point.chosen else ''}{point.plan.compression:.2%}",
        f"{point.plan.mean_bits:.2f}",
        f"{'' if point.chosen else '~'}{point.file_bytes:,}",
        *_measured(kept, point),
        "" if point.predicted is None else f"{point.predicted:.2g}",
        point.phase.removeprefix("accuracy-"),
    )


def _measured(kept: KeptFrontier, point: KeptPoint) -> tuple[str, ...]:
    """Cells of what the search measured."""
    changed, paired = kept.change(point), point.paired
    if not kept.has_labels:
        return ("" if paired is None else wording.same(paired),)
    if paired is None:
        return "" if changed is None else f"{100 * changed:+.2f}", ""
    return wording.change(paired), f"{paired.broken}/{paired.fixed}"


def _nothing_line(kept: KeptFrontier) -> list[str]:
    if kept.chosen is not None:
        return []
    size = f"{kept.first.plan.compression:.2%}"
    return [f"Nothing held what was asked, so that none is chosen; the best measured is {size}."]


def _integers_line(kept: KeptFrontier) -> list[str]:
    if kept.as_written is None:
        return []
    written = kept.as_written
    seen = f"the change is {wording.change(written)}"
    if not kept.has_labels:
        seen = f"{wording.same(written)} are the same"
    return [f"Measured with float32 activations; with the 8-bit ones of the chosen file {seen}."]


def _coded_line(kept: KeptFrontier) -> list[str]:
    if not Profile(kept.profile).codes_entropy:
        return []
    return ["What entropy-coded weights take is known once they are written: ~ is by their bits."]


def _hidden_line(count: int) -> list[str]:
    return [f"{count} more with --all."] if count else []
