"""Accuracy of each class before and after, worst change first."""

from collections.abc import Iterable, Sequence

from onnxsemi._report.page.classes import FEW, ClassAnswers, by_class
from onnxsemi._report.page.markup import Markup, join, number, tag
from onnxsemi._report.page.plot import folded, table
from onnxsemi._report.page.run import Run
from onnxsemi._report.page.words import points

MOST = 20
"""Classes up to which all are shown at once."""
_WORST, _BEST = 8, 4
_WIDTH, _HEIGHT, _EDGE = 132.0, 14.0, 3.0


def classes(run: Run) -> Markup | None:
    """What became of the classes, and a table of them; the rest of many is folded.

    None where labels are judged each by itself.
    """
    if run.per_label:
        return None
    found = by_class(run)
    reach = reach_of(found)
    shown = found if len(found) <= MOST else most_changed(found)
    rest = len(found) - len(shown)
    caption = "Classes, worst change first"
    if rest:
        caption = f"The {len(shown)} most changed of {len(found):,} classes, worst change first"
    return join(
        tag("p", *_said(found, labelled=run.kept.document.has_labels)),
        _table(shown, reach, caption=caption),
        folded(f"All {len(found):,} classes", _table(found, reach, caption="All classes"))
        if rest
        else None,
    )


def most_changed(found: Sequence[ClassAnswers]) -> list[ClassAnswers]:
    """Classes that changed most, those that lost first; of few images only where no others did."""
    ranked = [c for c in found if not c.few] or list(found)
    worst = ranked[:_WORST]
    best = [c for c in ranked[_WORST:][-_BEST:] if c.paired.change > 0]
    return [*worst, *best]


def interval_bar(item: ClassAnswers, reach: tuple[float, float]) -> Markup:
    """The interval as a line, the change as a dot, 0 as a stroke."""

    def at(value: float) -> float:
        share = (min(max(value, reach[0]), reach[1]) - reach[0]) / (reach[1] - reach[0])
        return _EDGE + share * (_WIDTH - 2 * _EDGE)

    (low, high), middle = item.interval, number(_HEIGHT / 2)
    said = f"change {points(item.paired.change)}, from {points(low)} to {points(high)} points"
    kind = "broken" if item.shown_broken else "fixed" if item.shown_fixed else "even"
    return tag(
        "svg",
        tag("path", d=f"M{number(at(0.0))} 0V{number(_HEIGHT)}", class_="zero"),
        tag("path", d=f"M{number(at(low))} {middle}H{number(at(high))}", class_="span"),
        tag("circle", cx=at(item.paired.change), cy=_HEIGHT / 2, r=3.5),
        class_=f"interval {kind}",
        width=_WIDTH,
        height=_HEIGHT,
        viewBox=f"0 0 {number(_WIDTH)} {number(_HEIGHT)}",
        role="img",
        aria_label=said,
    )


def reach_of(found: Iterable[ClassAnswers]) -> tuple[float, float]:
    """Ends of all bars: of the intervals of classes that have more than a few images."""
    listed = list(found)
    ends = [end for c in [c for c in listed if not c.few] or listed for end in c.interval]
    return min(*ends, 0.0), max(*ends, 1e-6)


def _said(found: Sequence[ClassAnswers], *, labelled: bool) -> Iterable[str]:
    few = sum(c.few for c in found)
    broken = sum(c.shown_broken for c in found)
    yield f"{len(found):,} class{'es' * (len(found) != 1)} with test images. "
    if labelled:
        fixed = sum(c.shown_fixed for c in found)
        yield (
            f"A loss is shown in {broken:,} of them, a gain in {fixed:,}: there the 95 % interval "
            "of the change does not reach 0. Each interval is of one class by itself, so that of "
            "many classes a few are beyond 0 by chance. "
        )
    else:
        yield "A class is what the float model answers; without labels no answer is right or wrong."
    if few:
        yield f" {few:,} of them have fewer than {FEW} images, which say little: they come last."


def _table(found: Sequence[ClassAnswers], reach: tuple[float, float], *, caption: str) -> Markup:
    if found and not found[0].labelled:
        headings: tuple[str, ...] = ("class", "images", "same answer", "95 % interval", "", "other")
        return table(headings, (_agreed(c, reach) for c in found), caption=caption)
    headings = (
        "class",
        "images",
        "float",
        "now",
        "change",
        "95 % interval",
        "",
        "broken / fixed",
        "",
    )
    return table(headings, (_changed(c, reach) for c in found), caption=caption)


def _changed(item: ClassAnswers, reach: tuple[float, float]) -> tuple[object, ...]:
    paired = item.paired
    low, high = (points(end) for end in item.interval)
    return (
        item.name,
        f"{paired.total:,}",
        f"{paired.before / paired.total:.1%}",
        f"{paired.after / paired.total:.1%}",
        points(paired.change),
        f"{low} to {high}",
        interval_bar(item, reach),
        f"{paired.broken:,} / {paired.fixed:,}",
        verdict_of(item),
    )


def _agreed(item: ClassAnswers, reach: tuple[float, float]) -> tuple[object, ...]:
    paired = item.paired
    low, high = (f"{1 + end:.1%}" for end in item.interval)
    return (
        item.name,
        f"{paired.total:,}",
        f"{paired.after / paired.total:.1%}",
        f"{low} to {high}",
        interval_bar(item, reach),
        f"{paired.broken:,}",
    )


def verdict_of(item: ClassAnswers) -> Markup | str:
    """A word for what its images show; none where they show nothing."""
    if item.few:
        return "few images"
    if item.shown_broken:
        return tag("b", "loss", class_="kind broken")
    return tag("b", "gain", class_="kind fixed") if item.shown_fixed else ""
