"""What a team wants to know first."""

from onnxsemi.report.page.markup import Markup, join, tag
from onnxsemi.report.page.words import words_of
from onnxsemi.run.kept import Kept


def summary(kept: Kept) -> Markup:
    """Four figures and the sentence that can be defended."""
    sizes, words = kept.document["sizes"], words_of(kept.document)
    before, after = sizes["bytes_before"], sizes["bytes_after"]
    tiles = (
        ("File smaller by", f"{sizes['file']:.2%}", f"{before:,} → {after:,} bytes"),
        ("Bits a target weight", f"{kept.document['plan']['mean_bits']:.2f}", "instead of 32"),
        *words.figures,
    )
    found = [
        tag("div", tag("dt", name), tag("dd", tag("b", value), tag("span", note)))
        for name, value, note in tiles
    ]
    said = (kept.document["verdict"]["summary"], *kept.document["report"]["summary"])
    return join(
        tag("dl", *found, class_="tiles"),
        tag("p", words.sentence, class_="claim"),
        tag("ul", *(tag("li", sentence) for sentence in said), class_="notes"),
    )
