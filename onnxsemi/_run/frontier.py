"""The points that a search measured, and those of the frontier that it passed by.

*Measured* points have answers on all calibration images: whatever the search kept or rejected.
*Predicted* points are the other plans of the frontier: of them only the predicted KL is known, the
sum of the KL of their channels quantized one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxsemi._data.load import DataOptions
from onnxsemi._head import Head
from onnxsemi._plan.bits import BitPlan
from onnxsemi._run.plan_file import PlanFile
from onnxsemi._search.guard import Guard
from onnxsemi._short_form import Brief
from onnxsemi._stats.means import Means
from onnxsemi._stats.pairing import Pairing

STOP = "stop"
"""Phase of a point that no part of the search has measured."""


@dataclass(frozen=True, kw_only=True)
class KeptPoint:
    """A plan that can be written.

    Attributes:
        plan: Bits of every target channel.
        phase: Part of the search that measured it, or ``STOP``.
        trial: Number of the trial; None if there was none.
        rejected: Why the search did not take it; None if it did, or did not try.
        correct: Right answers on the calibration images, or the sum of a metric's values; None if
            it was not measured.
        paired: Float against the plan on all calibration images, activations in float32; None if
            it was not measured on all of them.
        kl: Mean KL against the float model on the calibration images, nats per sample, likewise.
        predicted: Predicted KL increase, nats per sample; None where channels were not measured.
        file_bytes: Size of the file, estimated but for the chosen point's.
        chosen: Whether it is the one that the search wrote.
    """

    plan: BitPlan
    phase: str = STOP
    trial: int | None = None
    rejected: str | None = None
    correct: float | None = None
    paired: Pairing | None = None
    kl: float | None = None
    predicted: float | None = None
    file_bytes: int
    chosen: bool = False

    @property
    def measured(self) -> bool:
        """Whether the search measured it."""
        return self.correct is not None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the model and the images of a run were.

    Attributes:
        model: The float model; None if it was in memory.
        data: Images that were searched on; None if they came from no file.
        options: Their preprocessing.
        report: Images that the search never saw; None if they came from no file of their own.
        test_labels: Their table of labels, where that is a file of its own.
        test_fraction: Share of ``data`` that was kept for the report where they came from there.
        seed: Of that choice.
    """

    model: Path | None
    data: Path | None
    options: DataOptions
    report: Path | None = None
    test_labels: str | None = None
    test_fraction: float | None = None
    seed: int = 0

    @property
    def placeholder(self) -> tuple[str, ...]:
        """What stands for the model in a command, where it was in memory; else nothing."""
        return () if self.model is not None else ("MODEL.onnx",)


@dataclass(frozen=True, kw_only=True, repr=False)
class KeptFrontier(Brief):
    """Everything that a run keeps of its frontier.

    Attributes:
        document: The chosen plan, or the best if none holds, with what is needed to apply it; any
            other point takes its place.
        source: Where model and images were.
        method: How bitwidths were found.
        profile: Form of the file that sizes are of.
        guard: What was asked of plans.
        has_labels: Whether answers were compared with labels, or with the float model's answers.
        head: What the model's scores are.
        images: Calibration images.
        correct: Right answers of the float model.
        as_written: Float against the chosen file as it runs, if it runs on integer kernels.
        points: Least compressed first; a plan once.
    """

    document: PlanFile
    source: Source
    method: str
    profile: str
    guard: Guard
    has_labels: bool
    head: Head = Head.SOFTMAX
    images: int
    correct: float
    as_written: Pairing | None
    points: tuple[KeptPoint, ...]

    @property
    def chosen(self) -> KeptPoint | None:
        """The point that the search wrote; None if none held what was asked."""
        return next((point for point in self.points if point.chosen), None)

    @property
    def first(self) -> KeptPoint:
        """The point of the document: the chosen one, or the best of those that do not hold."""
        plan = self.document.plan_sha256
        return next(point for point in self.points if point.plan.sha256 == plan)

    @property
    def metric(self) -> str | None:
        """The metric that plans were judged by; None for right answers or agreement."""
        every = [point.paired for point in self.points]
        return next((paired.name for paired in every if isinstance(paired, Means)), None)

    @property
    def brief(self) -> tuple[tuple[str, str], ...]:
        """How many points there are, how far they reach, and which was chosen."""
        sizes = [point.plan.compression for point in self.points]
        measured = sum(point.measured for point in self.points)
        chosen = "nothing held" if self.chosen is None else f"{self.chosen.plan.compression:.2%}"
        return (
            ("points", f"{len(self.points):,} points, {measured} of them measured"),
            ("smaller by", f"{min(sizes):.2%} to {max(sizes):.2%} of the target weights"),
            ("chosen", chosen),
            ("measured on", f"{self.images:,} images"),
            ("profile", self.profile),
        )

    def change(self, point: KeptPoint) -> float | None:
        """Change of accuracy on the calibration images, -1 to 1; None if it was not measured."""
        return None if point.correct is None else (point.correct - self.correct) / self.images

    def dominated(self, point: KeptPoint) -> bool:
        """Whether another measured point is smaller and no worse, or as small and better."""
        if point.correct is None:
            return False
        mine = (point.plan.compression, point.correct)
        others = ((p.plan.compression, p.correct) for p in self.points if p.correct is not None)
        return any(o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in others)


def by_size(points: Sequence[KeptPoint]) -> tuple[KeptPoint, ...]:
    """Least compressed first; of equals, the one with more right answers last."""
    return tuple(sorted(points, key=lambda p: (p.plan.compression, p.correct or 0, p.trial or 0)))
