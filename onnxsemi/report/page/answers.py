"""The report images whose answer changed."""

import numpy as np

from onnxsemi.arrays import UInt8Array
from onnxsemi.report.page.markup import Markup, join, tag
from onnxsemi.report.page.picture import data_uri
from onnxsemi.report.page.plot import folded, table
from onnxsemi.report.page.words import has_labels
from onnxsemi.run.kept import Kept


def answers(kept: Kept) -> Markup:
    """How many, and some of them as pictures."""
    evidence = kept.evidence
    changed = np.flatnonzero(evidence.before != evidence.after)
    if not len(changed):
        return tag("p", f"No answer changed on {len(evidence.labels):,} report images.")
    labelled = has_labels(kept.document)
    kinds = [_kind(kept, index) for index in changed.tolist()]
    counts = ", ".join(f"{kinds.count(kind):,} {text}" for kind, text in _KINDS if kind in kinds)
    parts = f" ({counts})" if labelled else ""
    said = f"{len(changed):,} of {len(evidence.labels):,} answers changed{parts}."
    pictures = len(evidence.thumbnails)
    if pictures == 0:
        shown = "The images are no pictures that could be shown."
    elif pictures < len(changed):
        shown = (
            f"Shown are {pictures} of them, lost ones first."
            if labelled
            else (f"Shown are the first {pictures} of them.")
        )
    else:
        shown = "All of them are shown."
    found = zip(evidence.shown.tolist(), evidence.thumbnails, strict=True)
    cards = [_card(kept, index, pixels, labelled=labelled) for index, pixels in found]
    return join(
        tag("p", f"{said} {shown} Numbers are classes."),
        tag("ul", *cards, class_="cards") if cards else None,
        folded("All changed answers as a table", _table(kept, changed.tolist(), labelled=labelled)),
    )


_KINDS = (("lost", "lost"), ("won", "won"), ("other", "still wrong"))


def _kind(kept: Kept, index: int) -> str:
    label = kept.evidence.labels[index]
    if kept.evidence.before[index] == label:
        return "lost"
    return "won" if kept.evidence.after[index] == label else "other"


def _card(kept: Kept, index: int, pixels: UInt8Array, *, labelled: bool) -> Markup:
    evidence = kept.evidence
    before, after, kind = evidence.before[index], evidence.after[index], _kind(kept, index)
    label = f"label {evidence.labels[index]}" if labelled else f"image {index}"
    said = f"image {index}, {label}: float model says {before}, compressed model {after}"
    width, height = pixels.shape[1], pixels.shape[0]
    source = data_uri(pixels)
    picture = Markup(f'<img src="{source}" width="{width}" height="{height}" alt="{said}">')
    word = dict(_KINDS)[kind] if labelled else "changed"
    return tag(
        "li",
        picture,
        tag("b", word, class_=f"kind {kind}" if labelled else "kind other"),
        tag("span", label),
        tag("span", f"{before} → {after}"),
    )


def _table(kept: Kept, changed: list[int], *, labelled: bool) -> Markup:
    evidence = kept.evidence
    rows = [
        (
            index,
            *([evidence.labels[index]] if labelled else []),
            evidence.before[index],
            evidence.after[index],
            *([dict(_KINDS)[_kind(kept, index)]] if labelled else []),
        )
        for index in changed
    ]
    known = (
        ("image", "label", "float model", "compressed", "")
        if labelled
        else ("image", "float model", "compressed")
    )
    return table(known, rows, caption="Changed answers on the report images, by class number")
