"""``check`` as a table."""

from rich.console import Group, RenderableType
from rich.table import Table

from onnxsemi._report.leftover import float_lines
from onnxsemi._report.line import line
from onnxsemi._results import wording
from onnxsemi._results.check import CheckResult
from onnxsemi._sensitivity.forecast import duration


def check_table(result: CheckResult) -> RenderableType:
    """What there is, what stays float32, and what to expect."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for name, value in _rows(result):
        table.add_row(line(name, "bold"), line(value))
    notes = (wording.sentence(note) for note in result.notes)
    left = float_lines(result.left_float, result.file_bytes)
    return Group(table, *map(line, (*notes, *left)))


def _rows(result: CheckResult) -> list[tuple[str, str]]:
    shape = ", ".join("N" if size is None else str(size) for size in result.input_shape)
    images = f"{result.search_images:,} for calibration, {result.report_images:,} for the test"
    share = f"{result.target_bytes / result.file_bytes:.1%}"
    before = result.file_bytes
    sizes = ", ".join(
        f"{size:,} at {bits} bits (-{1 - size / before:.1%})" for bits, size in result.sizes.items()
    )
    low, high = (duration(seconds) for seconds in result.forecast.seconds)
    need, may = (f"{n / 2**20:,.0f} MB" for n in _memory(result))
    return [
        ("input", f"{result.input_name} [{shape}], {result.classes:,} {result.head.scored}"),
        ("images", images),
        ("float model", _accuracy(result)),
        (
            "quantized",
            f"{result.targets} layers, {result.target_bytes:,} bytes, {share} of the file",
        ),
        ("file, bytes", f"{before:,} now; with one bitwidth for all {sizes}"),
        ("asked", _asked(result)),
        ("time", f"{low} to {high}: {result.forecast.text}"),
        ("memory", f"at least about {need}, at most {may}"),
        *_cluster(result),
    ]


def _cluster(result: CheckResult) -> list[tuple[str, str]]:
    found = result.cluster
    if found is None:
        return []
    many = f"{found.workers} worker{'s' if found.workers > 1 else ''}"
    took = f"about {duration(found.seconds)} with {many}, {found.efficiency:.0%} of their time used"
    alone = f"{duration(found.serial)} of it alone, {found.moved / 2**30:,.1f} GB over the network"
    return [("cluster", f"{took}; {alone}")]


def _memory(result: CheckResult) -> tuple[int, int]:
    return result.forecast.least_memory, result.forecast.memory


def _accuracy(result: CheckResult) -> str:
    if result.metric is not None:
        return (
            f"mean of {result.metric} {result.mean:.4f} on {result.looked_at:,} calibration images"
        )
    if result.correct is None:
        return "no labels: its own answers take their place"
    share = wording.share_interval(result.correct, result.looked_at)
    return f"{result.head.measured} {share} on {result.looked_at:,} calibration images"


def _asked(result: CheckResult) -> str:
    if result.images_needed is None:
        return "no drop at all of the change that is seen"
    said = f"the change may reach {result.asked:g} points down"
    if result.shown <= result.asked:
        return f"{said}; these images can show {result.shown:.2g}"
    return (
        f"{said}: it takes about {result.images_needed:,} calibration images to show that; these "
        f"can show {result.shown:.2f}, so that agreement and KL are asked too"
    )
