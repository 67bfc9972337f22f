"""The page of a run, put together: what to decide by first, the evidence for it folded below."""

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from string import Template

from onnxsemi._report.page.about import about, trust
from onnxsemi._report.page.answers import answers
from onnxsemi._report.page.by_class import classes
from onnxsemi._report.page.distribution import distribution
from onnxsemi._report.page.frontier import frontier
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.run import Run
from onnxsemi._report.page.sensitive import sensitive
from onnxsemi._report.page.sizes import sizes
from onnxsemi._report.page.strips import strips
from onnxsemi._report.page.summary import summary
from onnxsemi._report.page.trajectory import trajectory
from onnxsemi._report.page.words import words_of
from onnxsemi._report.record import RunRecord

Part = tuple[str, str, str, Markup | None]
"""Anchor, name in the navigation, heading, content; a part whose content is None is left out."""

_EVIDENCE: tuple[tuple[str, str, Callable[[RunRecord], Markup | None]], ...] = (
    ("search", "Every trial of the search", trajectory),
    ("channels", "Bits of every channel", strips),
    ("sizes", "Sizes, counted in five ways", sizes),
    ("sensitive", "The most sensitive semilayers", sensitive),
    ("delta-loss", "Δloss at each bitwidth", distribution),
    ("trust", "How far the fast way can be trusted", trust),
)
"""Anchor, heading, and what shows it."""


def render(run: Run) -> str:
    """The whole page: HTML that needs nothing else. The same of the same result, byte for byte."""
    kept, measure = run.kept, words_of(run.kept.document).measure
    return page(
        title=f"{run.file}: report of a compression",
        name=run.file,
        lead=f"from {kept.document.model}, by {kept.document.tool}",
        parts=(
            ("summary", "Result", "Result", summary(kept)),
            ("classes", "By class", f"{measure[0].upper()}{measure[1:]} by class", classes(run)),
            ("frontier", "Other sizes", "Other sizes of the same run", frontier(run)),
            ("answers", "Changed answers", "Test images whose answer changed", answers(run)),
            ("evidence", "Evidence", "Evidence", _evidence(kept)),
            ("about", "How it was made", "How it was made", about(kept)),
        ),
        measure=measure,
    )


def page(*, title: str, name: str, lead: str, parts: tuple[Part, ...], measure: str) -> str:
    """A page of parts.

    Args:
        title: Of the window.
        name: The heading.
        lead: A line below it.
        parts: What it shows.
        measure: What claims are made about.
    """
    shown = [part for part in parts if part[3] is not None]
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_resource("template.html")).substitute(
        title=join(title),
        policy=digest,
        style=_resource("page.css"),
        name=join(name),
        lead=join(lead),
        links=join(*(tag("a", link, href=f"#{anchor}") for anchor, link, _, _ in shown)),
        parts=join(*(_section(anchor, head, body) for anchor, _, head, body in shown)),
        measure=join(measure),
        script=script,
    )


def _evidence(kept: RunRecord) -> Markup:
    """What the search went by, a fold each; what was not measured is left out."""
    found = [(anchor, title, part(kept)) for anchor, title, part in _EVIDENCE]
    return join(
        tag("p", "What the search went by, and how sure that is; for those who want to check it."),
        *(_fold(anchor, title, body) for anchor, title, body in found if body is not None),
    )


def _fold(anchor: str, title: str, content: Markup) -> Markup:
    """A part that opens when it is asked for, by hand or by a link to it; it is printed open."""
    heading = tag("summary", tag("h3", title, id=f"{anchor}-title"))
    inner = tag("div", content, id=anchor, role="group", aria_labelledby=f"{anchor}-title")
    return tag("details", heading, inner, class_="fold")


def _section(anchor: str, title: str, content: Markup | None) -> Markup:
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
