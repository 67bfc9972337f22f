"""The test images whose answer changed."""

from collections.abc import Sequence

import numpy as np

from onnxsemi._arrays import UInt8Array
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.picture import data_uri
from onnxsemi._report.page.plot import folded, table
from onnxsemi._report.page.run import Run

AT_ONCE = 16
"""Pictures that are shown at once; the others are folded."""

_KINDS = {"broken": "broken", "fixed": "fixed", "other": "still wrong"}


def answers(run: Run) -> Markup:
    """How many, and some of them as pictures."""
    evidence = run.kept.evidence
    changed = np.flatnonzero(evidence.before != evidence.after)
    if not len(changed):
        return tag("p", f"No answer changed on {len(evidence.labels):,} test images.")
    labelled = run.kept.document.has_labels
    kinds = [_kind(run, index) for index in changed.tolist()]
    counts = ", ".join(f"{kinds.count(k):,} {text}" for k, text in _KINDS.items() if k in kinds)
    parts = f" ({counts})" if labelled else ""
    said = f"{len(changed):,} of {len(evidence.labels):,} answers changed{parts}."
    numbers = "" if run.class_names else f" Numbers are {run.kept.document.head.scored}."
    found = zip(evidence.shown.tolist(), evidence.thumbnails, strict=True)
    cards = [_card(run, index, pixels, labelled=labelled) for index, pixels in found]
    return join(
        tag("p", f"{said} {_shown(len(cards), len(changed), labelled=labelled)}{numbers}"),
        *_pictures(cards),
        folded("All changed answers as a table", _table(run, changed.tolist(), labelled=labelled)),
    )


def _shown(pictures: int, changed: int, *, labelled: bool) -> str:
    if pictures == 0:
        return "The images are no pictures that could be shown."
    if pictures == changed:
        return "All of them are shown."
    first = (
        f"{pictures} of them, broken ones first" if labelled else f"the first {pictures} of them"
    )
    return f"Shown are {first}."


def _pictures(cards: Sequence[Markup]) -> list[Markup]:
    """A sheet of cards, and a folded one of those that are left."""
    sheets = [tag("ul", *part, class_="cards") for part in (cards[:AT_ONCE], cards[AT_ONCE:])]
    if len(cards) <= AT_ONCE:
        return sheets[: len(cards[:1])]
    return [sheets[0], folded(f"{len(cards) - AT_ONCE} more pictures", sheets[1])]


def _kind(run: Run, index: int) -> str:
    evidence = run.kept.evidence
    label = evidence.labels[index]
    if evidence.before[index] == label:
        return "broken"
    return "fixed" if evidence.after[index] == label else "other"


def _card(run: Run, index: int, pixels: UInt8Array, *, labelled: bool) -> Markup:
    evidence = run.kept.evidence
    before, after = (run.answer_name(a[index]) for a in (evidence.before, evidence.after))
    label = f"label {run.answer_name(evidence.labels[index])}" if labelled else f"image {index}"
    kind = _kind(run, index) if labelled else "other"
    said = f"image {index}, {label}: float model says {before}, compressed model {after}"
    height, width = pixels.shape[:2]
    picture = tag("img", src=data_uri(pixels), width=width, height=height, alt=said)
    return tag(
        "li",
        Markup(picture.removesuffix("</img>")),
        tag("b", _KINDS[kind] if labelled else "changed", class_=f"kind {kind}"),
        tag("span", label),
        tag("span", f"{before} → {after}"),
    )


def _table(run: Run, changed: Sequence[int], *, labelled: bool) -> Markup:
    evidence = run.kept.evidence
    rows = [
        (
            index,
            *([run.answer_name(evidence.labels[index])] if labelled else []),
            run.answer_name(evidence.before[index]),
            run.answer_name(evidence.after[index]),
            *([_KINDS[_kind(run, index)]] if labelled else []),
        )
        for index in changed
    ]
    known = (
        ("image", "label", "float model", "compressed", "")
        if labelled
        else ("image", "float model", "compressed")
    )
    return table(known, rows, caption="Changed answers on the test images, by class")
