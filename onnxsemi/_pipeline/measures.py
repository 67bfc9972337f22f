"""The two ways to measure plans in a run: recorded, and made when they are first asked for."""

from dataclasses import dataclass
from functools import cached_property, partial

from onnxsemi._evaluation.checker import RoundingChecker
from onnxsemi._evaluation.evaluator import ModelEvaluator
from onnxsemi._evaluation.recorder import RecordedChecker, RecordedEvaluator
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.rounding import Codes
from onnxsemi._pipeline.sensitivity import Sensitivity
from onnxsemi._progress import Progress
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
        prepared = self.prepared
        plain = RoundingChecker(self.codes.folds, prepared.unseen)
        return RecordedChecker(plain, self.journal, prepared.metric_id)

    @cached_property
    def evaluator(self) -> RecordedEvaluator:
        """Plans that are rounded to the nearest level, each against the one before it."""
        prepared = self.prepared
        kl = partial(self.sensitivity.kl, progress=self.progress, journal=self.journal)
        plain = ModelEvaluator(prepared.workload(prepared.search), kl, prepared.settings.seed)
        return RecordedEvaluator(plain, self.journal)
