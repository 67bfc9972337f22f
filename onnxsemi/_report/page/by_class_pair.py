"""What two runs do to each class, side by side.

Classes are the same if they have the same names, or are of the same model.
"""

from collections.abc import Sequence

from onnxsemi._report.page.by_class import MOST, interval_bar, reach_of
from onnxsemi._report.page.classes import ClassAnswers, by_class
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.pair import MODEL, RunPair
from onnxsemi._report.page.plot import folded, table
from onnxsemi._report.page.words import points

_FIRST = 12
Row = tuple[ClassAnswers, ClassAnswers]


def classes_of_two(pair: RunPair) -> Markup | None:
    """A table, worst change of either first; None if the two have not the same classes."""
    if pair.one.per_label or pair.other.per_label:
        return None
    one, other = ({c.number: c for c in by_class(run)} for run in (pair.one, pair.other))
    names = pair.one.class_names
    known = names == pair.other.class_names and (names or pair.same(MODEL))
    if one.keys() != other.keys() or not known or pair.labelled[0] != pair.labelled[1]:
        return None
    rows = sorted(((one[number], other[number]) for number in one), key=_worst)
    shown = rows if len(rows) <= MOST else rows[:_FIRST]
    caption = "Classes, the worst change of either first"
    if len(shown) < len(rows):
        caption = f"{len(shown)} of {len(rows):,} classes, the worst change of either first"
    said = "A line is the 95 % interval of a change, its dot the change, the stroke no change."
    if not pair.same_images:
        said += " The images of the two runs are others: only the changes within a run count."
    return join(
        tag("p", said),
        _table(pair, shown, caption),
        folded(f"All {len(rows):,} classes", _table(pair, rows, "All classes"))
        if len(shown) < len(rows)
        else None,
    )


def _worst(row: Row) -> tuple[bool, float, int]:
    one, other = row
    return one.few or other.few, min(one.paired.change, other.paired.change), one.number


def _table(pair: RunPair, rows: Sequence[Row], caption: str) -> Markup:
    reach = reach_of([item for row in rows for item in row])
    each = ("images", "float", "now", "change", "95 % interval")
    headings = ("class", *(f"{letter} {name}" for letter in "AB" for name in each))
    cells = ((one.name, *_cells(one, reach), *_cells(other, reach)) for one, other in rows)
    return table(headings, cells, caption=f"{caption}; {pair.names[0]}, {pair.names[1]}")


def _cells(item: ClassAnswers, reach: tuple[float, float]) -> tuple[object, ...]:
    paired = item.paired
    return (
        f"{paired.total:,}",
        f"{paired.before / paired.total:.1%}",
        f"{paired.after / paired.total:.1%}",
        points(paired.change),
        interval_bar(item, reach),
    )
