"""A quick look at a plan: rounded on few images, run on those that are most likely to change.

Whether answers change is seen where that is likely at all: of images with a small margin in the
float model. So the quarter of the images with the smallest margins is run, and of the others one in
``EVERY``, which stands for as many. What is rounded on few images is a little farther from the
float model than what is rounded on all of them: a look says where to measure, and no plan is taken
by it.

The images at most risk come first. Where so many of their answers change that the plan is refused
whatever the others do, and where their KL alone is so large that predictions learn nothing from it
(:mod:`onnxsemi._search.correction`), the others are not run.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from onnxsemi._arrays import Int64Array
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.folds import Rounder
from onnxsemi._evaluation.outcomes import Outcomes
from onnxsemi._evaluation.plan_model import PlanModel
from onnxsemi._evaluation.workload import Workload
from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.correction import MOST_NATS
from onnxsemi._search.guard import Guard
from onnxsemi._search.protocols import Closeness, Score, Scouted, foresee
from onnxsemi._stats.metrics import upper_mean
from onnxsemi._stats.paired import Paired

AT_RISK = 4
"""One image in so many, those with the smallest margins, is run in any case."""
EVERY = 8
"""Of the others, in the order of their margins, one in so many."""


class RoundedScout:
    """Looks at plans that are rounded as a whole."""

    def __init__(
        self,
        workload: Workload,
        rounder: Rounder,
        guard: Guard,
    ) -> None:
        """Look at some images of a workload.

        Args:
            workload: Model and all calibration images.
            rounder: Gives plans their codes, from few images.
            guard: What is asked of how many answers change.
        """
        self._workload, self._rounder, self._guard = workload, rounder, guard

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """Pass on which plans are likely to come."""
        foresee(self._rounder, plans)

    def look(self, plan: BitPlan) -> Scouted:
        """What a plan is likely to do to all images."""
        model = PlanModel(self._rounder(plan), simulate)
        (risky, _), (others, _) = self._images
        first = self._run(model, risky)
        found = self._scouted(first, self._float.at(others))
        if found.kl > MOST_NATS and self._guard.against(found.paired, found.close) is not None:
            return replace(found, whole=False)
        return self._scouted(first, self._run(model, others))

    @cached_property
    def _float(self) -> Outcomes:
        return self._workload.float_outcomes()

    @cached_property
    def _images(self) -> tuple[tuple[Int64Array, Int64Array], tuple[Int64Array, Int64Array]]:
        """Images at risk and some of the others: int64[M], and how many each stands for."""
        order = np.argsort(np.abs(self._float.margins), kind="stable")
        risky, rest = np.split(order, [-(-len(order) // AT_RISK)])
        parts = np.array_split(rest, -(-len(rest) // EVERY)) if len(rest) else []
        others = np.array([part[len(part) // 2] for part in parts], np.int64)
        counts = np.array([len(part) for part in parts], np.int64)
        return (risky, np.ones(len(risky), np.int64)), (others, counts)

    def _run(self, model: PlanModel, images: Int64Array) -> Outcomes:
        if not len(images):
            return self._float.at(images)
        workload = replace(self._workload, images=self._workload.images.select(images))
        return workload.outcomes(model)

    def _scouted(self, *parts: Outcomes) -> Scouted:
        """What the outcomes of the chosen images say of all."""
        images, counts = (np.concatenate(both) for both in zip(*self._images, strict=True))
        before, after = self._float.at(images), Outcomes.joined(parts)
        paired = Paired.of(np.repeat(before.right, counts), np.repeat(after.right, counts))
        paired = replace(paired, before=int(self._float.right.sum()))
        kl = np.repeat(after.kl, counts)
        changed = int(np.repeat(~after.same, counts).sum())
        score = Score(paired.after, len(self._workload.images), len(images), None)
        return Scouted(score, paired, Closeness(upper_mean(kl), changed), float(kl.mean()))
