"""What to type next where a verdict does not hold: a larger point, which changes less."""

import shlex
from pathlib import Path

from onnxsemi._plan.bits import BitPlan
from onnxsemi._run.frontier import KeptFrontier, KeptPoint

_LESS = 0.5
"""A safer point has at most so much of the KL of the one that did not hold."""
SAFER = "safer.onnx"


def next_command(kept: KeptFrontier, plan: BitPlan, run: Path | None, output: Path) -> str | None:
    """The command that writes a safer point beside an output; None if there is none.

    Args:
        kept: The points of the run.
        plan: The plan that did not hold.
        run: The run's folder; None if nothing is kept.
        output: Where the plan was to be written.
    """
    safer = _safer(kept, plan)
    if safer is None or run is None:
        return None
    form = () if kept.profile == "qdq" else ("--profile", kept.profile)
    place = output.with_name(SAFER if output.name != SAFER else f"more_{SAFER}")
    model = kept.source.placeholder
    words = ("onnxsemi", "apply", str(run), *model, "--at", f"{safer.plan.compression:.2%}")
    return shlex.join((*words, *form, "--out", str(place)))


def _safer(kept: KeptFrontier, plan: BitPlan) -> KeptPoint | None:
    """The most compressed point with at most half of the KL, measured or predicted."""
    own = next((point for point in kept.points if point.plan.sha256 == plan.sha256), None)
    if own is None:
        return None
    larger = [p for p in kept.points if p.plan.compression < plan.compression]
    safer = [p for p in larger if _kl(p, own) is not None and not p.rejected]
    least = [p for p in safer if (_kl(p, own) or 0.0) <= _LESS]
    return max(least or safer or larger, key=lambda p: p.plan.compression, default=None)


def _kl(point: KeptPoint, own: KeptPoint) -> float | None:
    """Its KL over that of another; by what both have: measured, or else predicted."""
    for mine, other in ((point.kl, own.kl), (point.predicted, own.predicted)):
        if mine is not None and other:
            return mine / other
    return None
