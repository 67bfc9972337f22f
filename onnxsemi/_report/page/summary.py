"""What whoever decides wants to know first."""

from collections.abc import Iterator

from onnxsemi._report.page.command import to_copy
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.tiles import tiles
from onnxsemi._report.page.words import words_of
from onnxsemi._report.parts import VerdictPart
from onnxsemi._report.record import RunRecord


def summary(kept: RunRecord) -> Markup:
    """The figures, the sentence that can be defended, and what to do where it does not hold."""
    document = kept.document
    said = (document.verdict.summary, *document.report.summary)
    return join(
        tiles(document),
        tag("p", words_of(document).sentence, class_="claim"),
        *_next(document.verdict),
        tag("ul", *(tag("li", sentence) for sentence in said), class_="notes"),
    )


def _next(verdict: VerdictPart) -> Iterator[Markup]:
    if verdict.images_needed:
        needed = f"It would take about {verdict.images_needed:,} test images to settle this."
        yield tag("p", needed)
    if verdict.next_command:
        yield tag("p", "A safer size of the same run:")
        yield tag("p", to_copy(verdict.next_command))
