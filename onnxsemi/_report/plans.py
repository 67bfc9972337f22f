"""Where a plan came from, in words: what was given, which point it is, whether it was edited."""

from onnxsemi._results import wording
from onnxsemi._results.results import ApplyResult, CompressResult


def given_lines(result: CompressResult) -> list[str]:
    """Layers that were not searched because the user said so."""
    pinned = ", ".join(f"{layer} ({bits} bits)" for layer, bits in result.pinned.items())
    excluded = ", ".join(s.name for s in result.skipped if s.reason.startswith("excluded by"))
    return [
        *([f"Pinned, not searched: {pinned}."] if pinned else []),
        *([f"Excluded, left float32: {excluded}."] if excluded else []),
    ]


def plan_lines(result: ApplyResult) -> list[str]:
    """Which point of a run was written, whether the plan is the tool's, and the weights too."""
    edited = "The plan was edited: its bits are others than onnxsemi wrote; the file says so too."
    origin = [] if result.origin is None else [wording.sentence(wording.origin(result.origin))]
    anew = (
        "Its weights are rounded anew on whole steps, which ONNX's own types need: others than the "
        "plan gives in the other profiles."
    )
    return [
        *([edited] if result.edited else []),
        *_point_lines(result),
        *origin,
        *([anew] if result.anew else []),
    ]


def _point_lines(result: ApplyResult) -> list[str]:
    point, kept = result.point, result.kept
    if point is None or kept is None:
        return []
    where = "the chosen point" if point.chosen else f"{point.phase} phase"
    if not point.measured:
        nats = "" if point.predicted is None else f" ({point.predicted:.2g} nats of KL)"
        more = ": --test-data measures it" if result.report is None else ""
        said = f"not measured by the search, its KL increase only predicted{nats}{more}"
        return [f"A point of the frontier, {said}."]
    seen = (
        f"{point.correct:,} of {kept.images:,} calibration images answered as the float model does"
    )
    if kept.has_labels:
        change = 100 * (kept.change(point) or 0.0)
        what = kept.head.measured if kept.metric is None else f"mean of {kept.metric}"
        seen = f"{what} {change:+.2f} points on {kept.images:,} calibration images"
    rejected = "" if point.rejected is None else f"; the search rejected it: {point.rejected}"
    return [f"Measured by the search ({where}): {seen}{rejected}."]
