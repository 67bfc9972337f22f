"""The whole frontier: what else the run could have written, and the command for each point."""

from collections.abc import Iterable

from onnxsemi._report.page.command import apply_command, to_copy
from onnxsemi._report.page.frontier_chart import Series, chart
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.plot import figure, folded, table
from onnxsemi._report.page.run import Run
from onnxsemi._report.page.tiles import megabytes
from onnxsemi._report.page.words import points
from onnxsemi._report.pareto import worth_showing
from onnxsemi._results import wording
from onnxsemi._run.frontier import KeptFrontier, KeptPoint


def frontier(run: Run) -> Markup:
    """The chart, the points worth showing with their commands, and all of them folded."""
    kept = run.frontier
    keys, drawn = chart([Series(run, "", "now")])
    few = list(worth_showing(kept))
    return join(
        keys,
        figure(
            drawn,
            f"{len(kept.points):,} points that the run keeps; any of them is written without "
            "searching again. Sizes are estimated, but for the file that is there.",
        ),
        tag("p", _known(kept)),
        _table(run, few, caption=f"{len(few)} of {len(kept.points):,} points, largest file first"),
        folded(
            f"All {len(kept.points):,} points",
            _table(run, kept.points, caption="All points, largest file first"),
        ),
    )


def _known(kept: KeptFrontier) -> str:
    what = "accuracy" if kept.has_labels else "agreement"
    return (
        f"Change of {what} on the {kept.images:,} calibration images with its 95 % interval, "
        "where the search measured it: it has seen these, so that some of it is luck. A point that "
        "is written is judged anew, on the test images."
    )


def _table(run: Run, found: Iterable[KeptPoint], *, caption: str) -> Markup:
    kept = run.frontier
    seen = "change, broken / fixed" if kept.has_labels else "same answer"
    headings = ("smaller by", "bits", "file", "KL predicted", "measured", seen, "", "command")
    return table(headings, (_row(run, point) for point in found), caption=caption)


def _row(run: Run, point: KeptPoint) -> tuple[object, ...]:
    return (
        f"{point.plan.compression:.2%}",
        f"{point.plan.mean_bits:.2f}",
        f"{'' if point.chosen else '~'}{megabytes(point.file_bytes)}",
        *("" if kl is None else f"{kl:.2g}" for kl in (point.predicted, point.kl)),
        _seen(run.frontier, point),
        _state(point),
        to_copy(apply_command(run, point)),
    )


def _seen(kept: KeptFrontier, point: KeptPoint) -> str:
    """What the search measured; nothing where it did not."""
    paired, change = point.paired, kept.change(point)
    if not kept.has_labels:
        return "" if paired is None else wording.share_interval(int(paired.after), paired.total)
    if paired is None:
        return "" if change is None else points(change)
    low, high = (points(end) for end in paired.interval)
    return f"{points(change or 0.0)} ({low} to {high}), {paired.broken:,} / {paired.fixed:,}"


def _state(point: KeptPoint) -> Markup | str:
    if point.chosen:
        return tag("b", "written")
    if point.rejected:
        return "rejected"
    return "measured" if point.measured else ""
