"""Which point of a search is written: the most compressed one that holds as it is to run.

A search measures plans with float32 activations and whatever number of channels at each bitwidth.
What is written may have uint8 activations, or bitwidths rounded up to blocks of channels; and the
paper's search compares counts of right answers, whatever guarantee is asked for. Points are
measured as they are written, from the most compressed one on, until the guard has nothing against
one.
"""

from dataclasses import dataclass, replace

from onnxsemi.arrays import BoolArray
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.model import emit
from onnxsemi.errors import AccuracyError
from onnxsemi.measure.metrics import hits
from onnxsemi.measure.recorded import RecordedChecker
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.pipeline.rounding import Codes
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
        codes: Where codes come from.
        ranges: Ranges of the activations, if those are quantized.
        checker: Measures plans with float32 activations.
        journal: Recalls and keeps what is measured.
    """

    prepared: Prepared
    codes: Codes
    ranges: Ranges | None
    checker: RecordedChecker
    journal: Journal

    def choose(self, trajectory: Trajectory, before: BoolArray, told: Progress) -> Chosen:
        """The most compressed point that holds.

        Args:
            trajectory: Of a search that found something.
            before: bool[N], which search images the float model answers rightly.
            told: Told of every point, if what is asked of them differs from what was searched.

        Raises:
            AccuracyError: If none holds.
        """
        settings, baseline = self.prepared.settings, trajectory.baseline
        guard = settings.search.guard(has_labels=self.prepared.has_labels)
        points = trajectory.holding(settings.search.allowed_drop)
        differs = self.ranges is not None or settings.align > 1 or guard.tolerance == 0
        if differs:
            told.start("choice", len(points))
        objections = []
        for point in points:
            plan = self._rounded_up(point.plan)
            right = self._right(plan)
            correct = int(right.sum())
            if differs:
                told.step(f"{plan.compression:.2%} smaller: {correct / baseline.total:.2%}")
            objection = guard.objection(before, right)
            if objection is None:
                score = self.checker.check(plan).score
                return Chosen(replace(point, plan=plan, score=score), right)
            objections.append((-correct, objection))
        how, instead = self._conditions()
        raise AccuracyError(
            f"{how}none of {len(points)} plans holds {guard.asks} on {baseline.total:,} search "
            f"images (at best {min(objections)[1]}): allow more with --max-drop, {instead}"
        )

    def _conditions(self) -> tuple[str, str]:
        """Under what conditions plans were measured, and what could be done about that."""
        if self.ranges is not None:
            other = "try another --calibration, or leave activations float32 with --profile fast"
            return "with activations in uint8 ", other
        align = self.prepared.settings.align
        if align > 1:
            blocks = f"with bitwidths rounded up to blocks of {align} channels "
            return blocks, "or leave --align away"
        return "", "give more images, or begin with wider --bits"

    def _rounded_up(self, plan: BitPlan) -> BitPlan:
        settings = self.prepared.settings
        free = set(self.prepared.free())
        layers = [layer for layer in self.prepared.classifier.layers if layer.name in free]
        return aligned(plan, layers, self.codes.rounding, settings.align)

    def _right(self, plan: BitPlan) -> BoolArray:
        if self.ranges is None:
            return self.checker.check(plan).right
        asked, ranges = tuple(plan.bits.items()), self.ranges

        def measure() -> Reply:
            return packed(self._right_on_integers(plan, ranges))

        return unpacked(self.journal.ask("integers", asked, measure))

    def _right_on_integers(self, plan: BitPlan, ranges: Ranges) -> BoolArray:
        """Which search images a plan answers rightly on integer kernels."""
        bench = self.prepared.bench(self.prepared.search)
        profile = self.prepared.settings.profile
        model = emit(bench.classifier, self.codes.rounder(plan), profile, ranges)
        return hits(bench.forward(model, integers=True), bench.labels)
