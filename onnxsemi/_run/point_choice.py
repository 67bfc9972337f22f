"""Which point of a kept frontier is meant: ``85%`` of compression, or ``-0.1`` points of accuracy.

``plan:3fa9c1d2`` names a point by its plan's digest, where another one is shown with the same
compression.

*compression* (``85%``): of the points whose target weights take at least so much less, the one with
the least predicted KL increase; where none was predicted, with the most right answers.
A point that is shown with just this compression is the one that is meant, the chosen one first.

*accuracy* (``-0.1``): the most compressed measured point whose change of accuracy on the
calibration images is at least so many points.
"""

import re
from dataclasses import dataclass

from onnxsemi._errors import SettingsError
from onnxsemi._run.frontier import KeptFrontier, KeptPoint

DIGITS = 12
"""Of a plan's digest: enough for any run."""

_SHOWN = 0.005 + 1e-9
"""Compressions are shown with two decimals: what lies nearer looks the same."""


@dataclass(frozen=True)
class At:
    """What is asked of a point.

    Attributes:
        compression: Percent of the bits of the target weights that are saved, at least; or None.
        change: Points of accuracy on the calibration images, at least; or None.
        plan: The beginning of a plan's digest; or None.
    """

    compression: float | None = None
    change: float | None = None
    plan: str | None = None

    @classmethod
    def parse(cls, text: str) -> "At":
        """Read ``85%``, ``-0.1`` or ``plan:3fa9c1d2``.

        >>> At.parse("85%").compression, At.parse("-0.1").change, At.parse("plan:3fa9c1d2").plan
        (85.0, -0.1, '3fa9c1d2')

        Raises:
            SettingsError: If the text has another form.
        """
        if digest := re.fullmatch(r"\s*plan:([0-9a-f]{8,64})\s*", text):
            return cls(plan=digest[1])
        found = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?)\s*(%?)\s*", text)
        if not found:
            raise SettingsError(
                f"`at`: {text!r} is neither a compression such as 85% nor a change of accuracy "
                "such as -0.1 points"
            )
        value = float(found[1])
        return cls(compression=value) if found[2] else cls(change=value)

    def pick(self, kept: KeptFrontier) -> KeptPoint:
        """The point that is meant.

        Raises:
            SettingsError: If no point of the frontier reaches so far; the message says what does.
        """
        if self.plan is not None:
            return self._named(kept)
        return self._smallest(kept) if self.compression is None else self._least_kl_increase(kept)

    def _named(self, kept: KeptFrontier) -> KeptPoint:
        named = [p for p in kept.points if p.plan.sha256.startswith(self.plan or "")]
        if len(named) != 1:
            raise SettingsError(
                f"`at`: {len(named) or 'no'} plans of the run begin with {self.plan}; 'pareto "
                "--json' has the digest of each"
            )
        return named[0]

    def _least_kl_increase(self, kept: KeptFrontier) -> KeptPoint:
        asked = self.compression or 0.0
        sizes = [100 * point.plan.compression for point in kept.points]
        allowed = [
            point for point, size in zip(kept.points, sizes, strict=True) if size >= asked - _SHOWN
        ]
        if not allowed or asked < 0:
            raise SettingsError(
                f"`at`: no point is {asked:g}% smaller: the run reaches from {min(sizes):.2f}% to "
                f"{max(sizes):.2f}% (compression of the target weights)"
            )

        def key(point: KeptPoint) -> tuple[bool, bool, bool, float, float]:
            other = abs(100 * point.plan.compression - asked) > _SHOWN
            kl_increase = -float(point.correct or 0) if point.predicted is None else point.predicted
            ranked = (not point.chosen, not point.measured) if not other else (False, False)
            return (other, *ranked, kl_increase, point.plan.compression)

        return min(allowed, key=key)

    def _smallest(self, kept: KeptFrontier) -> KeptPoint:
        asked = self.change or 0.0
        changes = [
            (point, 100 * change)
            for point in kept.points
            if (change := kept.change(point)) is not None
        ]
        allowed = [point for point, change in changes if change >= asked - 1e-9]
        if not allowed:
            reached = [change for _, change in changes]
            raise SettingsError(
                f"`at`: no measured point changes accuracy by {asked:+g} points or more: the run "
                f"reaches from {min(reached):+.2f} to {max(reached):+.2f} on the calibration "
                "images; a compression is written with %, such as 85%"
            )
        return max(allowed, key=lambda p: (p.plan.compression, p.correct or 0, p.chosen))


def text_of(point: KeptPoint, kept: KeptFrontier) -> str:
    """What ``--at`` takes for just this point: its compression as it is shown, or its digest."""
    shown = f"{point.plan.compression:.2%}"
    if At.parse(shown).pick(kept) is point:
        return shown
    return f"plan:{point.plan.sha256[:DIGITS]}"
