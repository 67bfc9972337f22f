"""The answers of a plan to all images; where these are few, none by weights rounded on it.

What is rounded on an image answers it better than others. Where there are images enough, half of
them and more are not rounded on. Where they are few, a plan is rounded a second time, on as many of
the others, and the first ones are answered by that (cross-fitting): so all images tell something.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxsemi.arrays import Float32Array, Int64Array
from onnxsemi.measure.bench import Bench
from onnxsemi.plan import BitPlan
from onnxsemi.quantizer.rounded import RoundedPlan

Rounder = Callable[[BitPlan], RoundedPlan]
"""Gives a plan its codes; the same plan the same ones."""


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
    """All images of a bench, each in one fold.

    Attributes:
        bench: Model and images.
        folds: At least one.
    """

    bench: Bench
    folds: tuple[Fold, ...]

    def logits(
        self,
        plan: BitPlan,
        model_of: Callable[[RoundedPlan], onnx.ModelProto],
        *,
        integers: bool = False,
    ) -> Float32Array:
        """What a plan answers to every image: float32[N, K].

        Args:
            plan: Bits of every target channel.
            model_of: What runs, from the plan's codes.
            integers: Whether it is to run on integer kernels.
        """
        parts = [
            self._bench_of(fold).forward(model_of(fold.rounder(plan)), integers=integers)
            for fold in self.folds
        ]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([fold.images for fold in self.folds]))
        joined: Float32Array = np.concatenate(parts)[order]
        return joined

    def _bench_of(self, fold: Fold) -> Bench:
        if len(self.folds) == 1:
            return self.bench
        return replace(self.bench, images=self.bench.images.select(fold.images))
