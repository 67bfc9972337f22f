"""The page, put together."""

import base64
import hashlib
from collections.abc import Callable
from importlib.resources import files
from string import Template

from onnxsemi.report.page.about import about, trust
from onnxsemi.report.page.answers import answers
from onnxsemi.report.page.distance import distance
from onnxsemi.report.page.distribution import distribution
from onnxsemi.report.page.divergence import divergence, sensitive
from onnxsemi.report.page.markup import Markup, join, tag
from onnxsemi.report.page.sizes import sizes
from onnxsemi.report.page.strips import strips
from onnxsemi.report.page.summary import summary
from onnxsemi.report.page.trajectory import trajectory
from onnxsemi.report.page.words import words_of
from onnxsemi.run.kept import Kept

_SECTIONS: tuple[tuple[str, str, str, Callable[[Kept], Markup | None]], ...] = (
    ("summary", "Result", "Result", summary),
    ("search", "Search", "Every trial of the search", trajectory),
    ("channels", "Channels", "Bits of every channel", strips),
    ("sizes", "Sizes", "Sizes", sizes),
    ("answers", "Changed answers", "Report images whose answer changed", answers),
    ("sensitive", "Sensitive semilayers", "The most sensitive semilayers", sensitive),
    ("delta-loss", "Δloss", "Δloss at each bitwidth", distribution),
    ("distance", "Δloss and ‖Δw‖₁", "Δloss against the change of the weights", distance),
    ("divergence", "KL and Δloss", "KL against Δloss of semilayers", divergence),
    ("trust", "Trust", "How far the fast way can be trusted", trust),
    ("about", "How it was made", "How it was made", about),
)
"""Anchor, name, heading, and what shows it; a part that gives None is left out."""


def render(kept: Kept) -> str:
    """The whole page: HTML that needs nothing else. The same of the same result, byte for byte."""
    links, parts = [], []
    for anchor, name, title, part in _SECTIONS:
        content = part(kept)
        if content is not None:
            links.append(tag("a", name, href=f"#{anchor}"))
            parts.append(_section(anchor, title, content))
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    file = kept.document["output"].replace("\\", "/").rpartition("/")[2]
    return Template(_resource("template.html")).substitute(
        title=join(f"{file}: report of a compression"),
        policy=digest,
        style=_resource("page.css"),
        name=join(file),
        lead=join(f"from {kept.document['model']}, by {kept.document['tool']}"),
        links=join(*links),
        parts=join(*parts),
        measure=join(words_of(kept.document).measure),
        script=script,
    )


def _section(anchor: str, title: str, content: Markup) -> Markup:
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
