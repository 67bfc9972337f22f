"""Two runs on one page: what each came to, both frontiers in one chart, what differs."""

from collections.abc import Iterator

from msgspec.structs import asdict

from onnxsemi._report.document import RunResult
from onnxsemi._report.page.by_class_pair import classes_of_two
from onnxsemi._report.page.command import to_copy
from onnxsemi._report.page.frontier_chart import Series, chart
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.pair import RunPair
from onnxsemi._report.page.plot import figure, table
from onnxsemi._report.page.render import page
from onnxsemi._report.page.run import Run
from onnxsemi._report.page.tiles import megabytes, tiles
from onnxsemi._report.page.words import points, words_of
from onnxsemi._stats.paired import Paired

_KEYS = ("now round", "other-run diamond")
_BYTES = {"float file": "bytes_before", "file": "bytes_after", "after gzip": "gzip_bytes"}
_SHARES = {"file smaller by": "file", "target weights smaller by": "targets"}


def render_two(one: Run, other: Run) -> str:
    """The whole page. The same of the same results, byte for byte."""
    pair = RunPair(one, other)
    measure = words_of(pair.documents[0]).measure
    by_class = f"{measure[0].upper()}{measure[1:]} by class"
    return page(
        title=f"{one.file} and {other.file}: two compressions side by side",
        name=f"{one.file} and {other.file}",
        lead=" beside ".join(f"{name}, by {d.tool}" for name, d in _named(pair)),
        parts=(
            ("summary", "Results", "Both results", _results(pair)),
            ("frontier", "Frontiers", "Both frontiers", _frontiers(pair)),
            ("sizes", "Sizes", "Sizes", _sizes(pair)),
            ("classes", "By class", by_class, classes_of_two(pair)),
            ("settings", "What differs", "Inputs and settings that differ", _settings(pair)),
            ("about", "How they were made", "How they were made", _commands(pair)),
        ),
        measure=measure,
    )


def _named(pair: RunPair) -> Iterator[tuple[str, RunResult]]:
    """Both results by their names."""
    yield from zip(pair.names, pair.documents, strict=True)


def _results(pair: RunPair) -> Markup:
    cautions = [tag("li", text) for text in pair.cautions()]
    shown = [
        join(tag("h3", tag("span", class_=f"key {key}"), name, class_="run"), tiles(document))
        for key, (name, document) in zip(_KEYS, _named(pair), strict=True)
    ]
    return join(
        tag("ul", *cautions, class_="caution", role="note") if cautions else None,
        *shown,
        tag("p", _direct(pair), class_="claim") if pair.same_images else None,
    )


def _direct(pair: RunPair) -> str:
    """B against A, image by image."""
    first, second = pair.one.kept.evidence, pair.other.kept.evidence
    images, same = len(first.labels), int((first.after == second.after).sum())
    alike = f"A and B give the same answer on {same:,} of {images:,} test images."
    if not pair.labelled[0]:
        return alike
    paired = Paired.of(first.after == first.labels, second.after == second.labels)
    low, high = (points(end) for end in paired.interval)
    measure = words_of(pair.documents[0]).measure
    return (
        f"From A to B, on the same {images:,} test images, {measure} changes by "
        f"{points(paired.change)} points (95 % interval {low} to {high}): {paired.broken:,} right "
        f"answers of A are broken and {paired.fixed:,} fixed. {alike}"
    )


def _frontiers(pair: RunPair) -> Markup:
    series = [
        Series(pair.one, pair.names[0], "now"),
        Series(pair.other, pair.names[1], "other-run", diamond=True),
    ]
    keys, drawn = chart(series)
    caption = (
        "Every point that the two runs keep: further left is smaller, further down changes less. "
        "The report of each run has the command that writes a point."
    )
    return join(keys, figure(drawn, caption))


def _sizes(pair: RunPair) -> Markup:
    one, other = (asdict(document.sizes) for document in pair.documents)
    bits = (f"{document.plan.mean_bits:.2f}" for document in pair.documents)
    rows = [
        *((name, megabytes(one[key]), megabytes(other[key])) for name, key in _BYTES.items()),
        *((name, f"{one[key]:.2%}", f"{other[key]:.2%}") for name, key in _SHARES.items()),
        ("bits a target weight", *bits),
    ]
    return table(("", *pair.names), rows, caption="Sizes of both files")


def _settings(pair: RunPair) -> Markup:
    rows = list(pair.differences())
    if not rows:
        return tag("p", "None: the same model, images, settings and versions.")
    return table(("", *pair.names), rows, caption="What each run was made from, where it differs")


def _commands(pair: RunPair) -> Markup:
    made = [
        join(tag("h3", name), tag("p", to_copy(command) if command else "Made from Python."))
        for name, command in ((name, str(d.command)) for name, d in _named(pair))
    ]
    return join(*made)
