"""Which point of a search is written: the most compressed one that holds as it is to run.

A search measures plans with float32 activations and whatever number of channels at each bitwidth.
What is written may have uint8 activations, or bitwidths rounded up to blocks of channels. Points
are measured as they are written, from the most compressed one on, until one holds the accuracy.
"""

from dataclasses import dataclass, replace

from onnxsemi.arrays import BoolArray
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.model import emit
from onnxsemi.errors import AccuracyError
from onnxsemi.measure.metrics import hits
from onnxsemi.measure.recorded import RecordedEvaluator
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress
from onnxsemi.run.journal import Journal, Reply, packed, unpacked
from onnxsemi.search.align import aligned
from onnxsemi.search.trajectory import Point, Trajectory


@dataclass(frozen=True, eq=False)
class Chosen:
    """A point as it is written.

    Attributes:
        point: Its plan and its score with float32 activations, on all search images.
        right: bool[N], which search images it answers rightly as it is to run.
    """

    point: Point
    right: BoolArray


@dataclass(frozen=True, eq=False)
class Chooser:
    """Measures points as they are to run.

    Attributes:
        prepared: Model, search images, settings.
        ranges: Ranges of the activations, if those are quantized.
        evaluator: Measures plans with float32 activations.
        journal: Recalls and keeps what is measured.
    """

    prepared: Prepared
    ranges: Ranges | None
    evaluator: RecordedEvaluator
    journal: Journal

    def choose(self, trajectory: Trajectory, told: Progress) -> Chosen:
        """The most compressed point that holds.

        Args:
            trajectory: Of a search that found something.
            told: Told of every point, if what is written differs from what was searched.

        Raises:
            AccuracyError: If none holds.
        """
        settings, baseline = self.prepared.settings, trajectory.baseline
        allowed = settings.search.max_drop
        points = trajectory.holding(allowed)
        differs = self.ranges is not None or settings.align > 1
        if differs:
            told.start("as it is to run", len(points))
        most = 0
        for point in points:
            plan = self._rounded_up(point.plan)
            right = self._right(plan)
            correct = int(right.sum())
            if differs:
                told.step(f"{plan.compression:.2%} smaller: {correct / baseline.total:.2%}")
            if trajectory.holds(correct, allowed):
                score = self.evaluator.check(plan).score
                return Chosen(replace(point, plan=plan, score=score), right)
            most = max(most, correct)
        lost = 100 * (baseline.correct - most) / baseline.total
        raise AccuracyError(
            f"with activations in uint8 each of {len(points)} plans loses more than {allowed:g} "
            f"points on {baseline.total} search images ({lost:.2f} at best): allow more with "
            "--max-drop, try another --calibration, or leave activations float32 with "
            "--profile fast"
            if self.ranges is not None
            else f"with bitwidths rounded up to blocks of {settings.align} channels each of "
            f"{len(points)} plans loses more than {allowed:g} points on {baseline.total} search "
            f"images ({lost:.2f} at best): allow more with --max-drop, or leave --align away"
        )

    def _rounded_up(self, plan: BitPlan) -> BitPlan:
        settings = self.prepared.settings
        free = set(self.prepared.free())
        layers = [layer for layer in self.prepared.classifier.layers if layer.name in free]
        return aligned(plan, layers, settings.grids, settings.align)

    def _right(self, plan: BitPlan) -> BoolArray:
        if self.ranges is None:
            return self.evaluator.check(plan).right
        asked, ranges = tuple(plan.bits.items()), self.ranges

        def measure() -> Reply:
            return packed(right_on_integers(self.prepared, plan, ranges))

        return unpacked(self.journal.ask("integers", asked, measure))


def right_on_integers(prepared: Prepared, plan: BitPlan, ranges: Ranges) -> BoolArray:
    """Which search images a plan answers rightly on integer kernels."""
    bench, profile = prepared.bench(prepared.search), prepared.settings.profile
    model = emit(bench.classifier, plan, bench.scheme, profile, ranges)
    return hits(bench.forward(model, integers=True), bench.labels)
