"""The checker of plans that are rounded as a whole: every plan is rounded, run, and compared."""

from collections.abc import Sequence

from onnxsemi._arrays import Int64Array
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.folds import Folds
from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.protocols import Tested, foresee


class RoundingChecker:
    """Measures plans on all images, with the codes that rounders give them."""

    def __init__(self, folds: Folds, unseen: Int64Array) -> None:
        """Measure on the images of ``folds``.

        Args:
            folds: Model and images, and how plans are rounded for them.
            unseen: int64[U], images that nothing was fitted to: the KL is their mean.
        """
        self._folds, self._unseen = folds, unseen

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """Pass on which plans are likely to come."""
        for fold in self._folds.folds:
            foresee(fold.rounder, plans)

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images."""
        workload = self._folds.workload
        if plan == plan.all_float():
            return workload.float_outcomes().tested(self._unseen)
        return self._folds.outcomes(plan, simulate).tested(self._unseen)
