"""The checker of plans that are rounded as a whole: every plan is rounded, run, and compared."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from onnxsemi.arrays import Float32Array, Int64Array
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.evaluator import in_full, simulate
from onnxsemi.measure.metrics import kl_divergence, upper_mean
from onnxsemi.measure.seam import Tested
from onnxsemi.plan import BitPlan
from onnxsemi.quantizer.rounded import RoundedPlan

Rounder = Callable[[BitPlan], RoundedPlan]
"""Gives a plan its codes; the same plan the same ones."""


class RoundingChecker:
    """Measures plans on all images, with the codes that a rounder gives them."""

    def __init__(self, bench: Bench, rounder: Rounder, fresh: Int64Array) -> None:
        """Measure on the images of ``bench``.

        Args:
            bench: Model and images.
            rounder: Gives plans their codes.
            fresh: int64[F], images that nothing was fitted to: the KL is their mean.
        """
        self._bench, self._rounder, self._fresh = bench, rounder, fresh

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images."""
        if plan == plan.all_float():
            logits = self._reference
        else:
            logits = self._bench.forward(simulate(self._bench.classifier, self._rounder(plan)))
        tested = in_full(logits, self._bench.labels, self._reference)
        own = kl_divergence(self._reference[self._fresh], logits[self._fresh])
        return replace(tested, kl=float(own.mean()), kl_most=upper_mean(own))

    @cached_property
    def _reference(self) -> Float32Array:
        """float32[N, K], logits of the float model."""
        return self._bench.forward(self._bench.classifier.proto)
