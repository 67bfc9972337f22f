"""The answers of a plan to all images; where these are few, none by weights rounded on it.

What is rounded on an image answers it better than others. Where there are images enough, half of
them and more are not rounded on. Where they are few, a plan is rounded a second time, on as many of
the others, and the first ones are answered by that (cross-fitting): so all images tell something.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Int64Array
from onnxsemi._evaluation.outcomes import Outcomes
from onnxsemi._evaluation.plan_model import ModelOf, PlanModel
from onnxsemi._evaluation.workload import Workload
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.rounded_plan import RoundedPlan

Rounder = Callable[[BitPlan], RoundedPlan]
"""Gives a plan its codes; the same plan the same ones."""


class Remembering:
    """A rounder that rounds no plan again that it gave last, or that it was told to keep."""

    def __init__(
        self,
        rounder: Callable[[BitPlan, RoundedPlan | None], RoundedPlan],
        ahead: Callable[[Sequence[BitPlan]], None] = lambda _: None,
    ) -> None:
        """Remember what ``rounder`` gives.

        Args:
            rounder: Gives a plan its codes; it is told what is kept, which may have some of them.
            ahead: Is told which plans are likely to come.
        """
        self._rounder, self._ahead = rounder, ahead
        self._last: RoundedPlan | None = None
        self._kept: RoundedPlan | None = None

    def __call__(self, plan: BitPlan) -> RoundedPlan:
        """Give a plan its codes."""
        for known in (self._last, self._kept):
            if known is not None and known.plan == plan:
                return known
        self._last = None  # before the next is made: a plan is as large as the model
        self._last = self._rounder(plan, self._kept)
        return self._last

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """Pass on which plans are likely to come."""
        self._ahead(plans)

    def keep(self, plan: BitPlan) -> None:
        """Remember the plan given last until another one is to be kept; no other has codes yet."""
        if self._last is not None and self._last.plan == plan:
            self._kept = self._last

    def keeps(self, plan: BitPlan) -> bool:
        """Whether that is the plan that is to be kept."""
        return self._kept is not None and self._kept.plan == plan


@dataclass(frozen=True, eq=False)
class Fold:
    """Images, and the rounding that answers them.

    Attributes:
        rounder: Gives plans their codes.
        images: int64[M], indices of images.
    """

    rounder: Rounder
    images: Int64Array


@dataclass(frozen=True, eq=False)
class Folds:
    """All images of a workload, each in one fold.

    Attributes:
        workload: Model and images.
        folds: At least one.
    """

    workload: Workload
    folds: tuple[Fold, ...]

    def outcomes(
        self,
        plan: BitPlan,
        model_of: ModelOf,
        *,
        integers: bool = False,
    ) -> Outcomes:
        """What a plan's answers to all images come to, in their order.

        Args:
            plan: Bits of every target channel.
            model_of: What runs, from the model and the plan's codes.
            integers: Whether it is to run on integer kernels.
        """
        parts = [
            self._workload_of(fold).outcomes(
                PlanModel(fold.rounder(plan), model_of, integers=integers)
            )
            for fold in self.folds
        ]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([fold.images for fold in self.folds]))
        return Outcomes.joined(parts).at(order)

    def _workload_of(self, fold: Fold) -> Workload:
        if len(self.folds) == 1:
            return self.workload
        return replace(self.workload, images=self.workload.images.select(fold.images))
