"""How the result was made, and how to make it again."""

from collections.abc import Iterator

from onnxsemi._report.document import RunResult
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.plot import folded, table
from onnxsemi._report.record import RunRecord

_VERSIONS = ("onnxsemi", "onnx", "onnxruntime", "numpy", "scipy", "processor")


def about(kept: RunRecord) -> Markup:
    """Command line, inputs with fingerprints, settings, versions, cost, notes."""
    document, made = kept.document, kept.document.made_from
    files = (
        ("model", document.model, made["model"]),
        ("calibration images", document.search_data, made["calibration data"]),
        ("test images", document.test_data, made["test data"]),
    )
    settings = [(name, as_text(value)) for name, value in made.items() if name.startswith("--")]
    versions = [(name, made[name]) for name in _VERSIONS if name in made]
    return join(
        *_command(document.command),
        table(
            ("input", "name", "SHA-256 of its content"),
            [(what, name, tag("code", digest)) for what, name, digest in files],
            caption="Inputs",
        ),
        table(("", "value"), list(_cost(document)), caption="Cost"),
        *_notes(document),
        folded("Settings", table(("setting", "value"), settings, caption="Settings")),
        folded("Versions", table(("what", "version or kind"), versions, caption="Versions")),
    )


def trust(kept: RunRecord) -> Markup | None:
    """How far the fast way agreed with the exact way on the sample; None if all was exact."""
    sensitivity = kept.document.sensitivity
    found = sensitivity.agreement
    if not found:
        return None
    rows = [
        (
            row.bits,
            f"{row.same_sign:.0%}",
            f"{row.delta_loss_rank:.2f}",
            f"{row.kl_rank:.2f}",
        )
        for row in found
    ]
    said = (
        f"Δloss and KL come from backward passes over {sensitivity.samples:,} of the search "
        f"images; {found[0].channels} channels were measured exactly too, at each bitwidth."
    )
    headings = ("bits", "same sign of Δloss", "rank of Δloss (Spearman)", "rank of KL (Spearman)")
    return join(tag("p", said), table(headings, rows, caption="Fast against exact"))


def _command(command: str) -> tuple[Markup, ...]:
    if not command:
        return (tag("p", "Made from Python, with the settings below."),)
    said = (
        "To make it again (one click selects the line; same inputs, settings, versions and kind of "
    )
    return (
        tag("p", said + "processor give the same bytes):"),
        tag("pre", tag("code", command), tabindex=0, class_="command"),
    )


def _cost(document: RunResult) -> Iterator[tuple[str, str]]:
    cost = document.cost
    minutes, seconds = divmod(round(cost.seconds), 60)
    yield "trials", f"{cost.trials:,}"
    yield "forward passes over the calibration images", f"{cost.passes:,.0f}"
    yield "thousands of image-forwards", f"{cost.image_forwards / 1000:,.1f}"
    yield "wall time", f"{minutes} min {seconds} s"
    yield "profile of the file", document.profile


def _notes(document: RunResult) -> Iterator[Markup]:
    notes = [f"{note}." for note in (*document.warnings, *document.notes)]
    if document.kernels is not None:
        kernels = document.kernels
        count = len(kernels.integer) + len(kernels.floating)
        notes.append(f"{len(kernels.integer)} of {count} target nodes run on integer kernels.")
        notes += [f"{node} runs in float32: {why}." for node, why in kernels.floating.items()]
    types = document.types
    if types is not None:
        count = len(types.layers) + len(types.others)
        notes.append(
            f"ONNX's own types of 2 and 4 bits hold {len(types.layers)} of {count} layers."
        )
    if notes:
        yield tag("ul", *(tag("li", note) for note in notes), class_="notes")
    if document.skipped:
        rows = [(skip.name, skip.reason) for skip in document.skipped]
        said = "Layers that are no targets"
        yield folded(said, table(("layer", "reason"), rows, caption=said))


def as_text(value: object) -> str:
    """A setting, as it is read."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
