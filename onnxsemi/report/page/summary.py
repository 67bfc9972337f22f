"""What a team wants to know first."""

from onnxsemi.report.page.markup import Markup, join, tag
from onnxsemi.report.page.words import points, words_of
from onnxsemi.run.kept import Kept


def summary(kept: Kept) -> Markup:
    """Four figures and the sentence that can be defended."""
    document = kept.document
    sizes, paired, words = document["sizes"], document["report"], words_of(document)
    low, high = (points(end) for end in paired["interval_95"])
    before, after = sizes["bytes_before"], sizes["bytes_after"]
    bits = document["plan"]["mean_bits"]
    return join(
        tag(
            "dl",
            _tile("File smaller by", f"{sizes['file']:.2%}", f"{before:,} → {after:,} bytes"),
            _tile("Bits a target weight", f"{bits:.2f}", "instead of 32"),
            _tile(
                f"Change of {words.short}",
                f"{points(paired['change'])} points",
                f"95 % interval {low} to {high}",
            ),
            _tile(*_answers(kept)),
            class_="tiles",
        ),
        tag("p", words.sentence, class_="claim"),
    )


def _answers(kept: Kept) -> tuple[str, str, str]:
    paired = kept.document["report"]
    count = f"of {paired['images']:,} report images"
    if kept.document["answers_compared_with"] == "labels":
        return "Answers lost / won", f"{paired['lost']:,} / {paired['won']:,}", count
    return "Answers changed", f"{paired['lost']:,}", count


def _tile(name: str, value: str, note: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", tag("b", value), tag("span", note)))
