"""The two ways to measure plans in a run: recorded, and made when they are first asked for."""

from dataclasses import dataclass, replace
from functools import cached_property, partial

from onnxsemi._evaluation.checker import RoundingChecker
from onnxsemi._evaluation.evaluator import ModelEvaluator
from onnxsemi._evaluation.recorder import RecordedChecker, RecordedEvaluator, RecordedScout
from onnxsemi._evaluation.scout import RoundedScout
from onnxsemi._evaluation.workload import Workload
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.rounding import Codes
from onnxsemi._pipeline.sensitivity import Sensitivity
from onnxsemi._progress import Progress, Within
from onnxsemi._run.journal import Journal


@dataclass(frozen=True, eq=False)
class RecordedMeasures:
    """Measures plans on the calibration images.

    Attributes:
        prepared: Model and images.
        codes: Where codes come from.
        sensitivity: Gives the KL of semilayers.
        journal: Recalls and keeps what is measured.
        progress: Told of what takes long; may end it.
    """

    prepared: Prepared
    codes: Codes
    sensitivity: Sensitivity
    journal: Journal
    progress: Progress

    @cached_property
    def checker(self) -> RecordedChecker:
        """Plans that are rounded as a whole, each on all images."""
        plain = RoundingChecker(self.codes.folds, self.prepared.unseen)
        return RecordedChecker(plain, self.journal, self.prepared.metric_id)

    @cached_property
    def scout(self) -> RecordedScout | None:
        """A quick look at such plans; None where that would save nothing, or by a metric."""
        prepared, rounder = self.prepared, self.codes.scout
        if rounder is None or prepared.metric is not None:
            return None
        plain = RoundedScout(self._workload, rounder, prepared.guard.balance)
        return RecordedScout(plain, self.journal)

    @cached_property
    def evaluator(self) -> RecordedEvaluator:
        """Plans that are rounded to the nearest level, each against the one before it."""
        kl = partial(self.sensitivity.kl, progress=self.progress, journal=self.journal)
        plain = ModelEvaluator(self._workload, kl, self.prepared.settings.seed)
        return RecordedEvaluator(plain, self.journal)

    @property
    def _workload(self) -> Workload:
        """The model on all calibration images: every batch is told, within a plan."""
        prepared = self.prepared
        return replace(prepared.workload(prepared.search), progress=Within(self.progress))
