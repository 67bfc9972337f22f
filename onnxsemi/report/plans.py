"""Where an applied plan came from, in words."""

from onnxsemi.results import ApplyResult


def plan_lines(result: ApplyResult) -> list[str]:
    """Which point of a run was written, or that the plan is no longer the tool's."""
    edited = "The plan was edited: its bits are others than onnxsemi wrote; the file says so too."
    return [*([edited] if result.edited else []), *_point_lines(result)]


def _point_lines(result: ApplyResult) -> list[str]:
    point, kept = result.point, result.kept
    if point is None or kept is None:
        return []
    where = "the chosen point" if point.chosen else f"{point.phase} phase"
    if not point.measured:
        harm = "" if point.predicted is None else f" ({point.predicted:.2g} nats of KL)"
        said = f"not measured by the search, its harm only predicted{harm}"
        return [f"A stop of the frontier, {said}: --data measures it."]
    change = 100 * (kept.change(point) or 0.0)
    what = "top-1" if kept.has_labels else "agreement"
    seen = f"{what} {change:+.2f} points on {kept.images:,} search images"
    rejected = "" if point.rejected is None else f"; the search rejected it: {point.rejected}"
    return [f"Measured by the search ({where}): {seen}{rejected}."]
