"""The checker of plans that are rounded as a whole: every plan is rounded, run, and compared."""

from collections.abc import Callable
from functools import cached_property

from onnxsemi.arrays import Float32Array
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.evaluator import in_full, simulate
from onnxsemi.measure.seam import Tested
from onnxsemi.plan import BitPlan
from onnxsemi.quantizer.rounded import RoundedPlan

Rounder = Callable[[BitPlan], RoundedPlan]
"""Gives a plan its codes; the same plan the same ones."""


class RoundingChecker:
    """Measures plans on all images, with the codes that a rounder gives them."""

    def __init__(self, bench: Bench, rounder: Rounder) -> None:
        """Measure on the images of ``bench``."""
        self._bench = bench
        self._rounder = rounder

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images."""
        if plan == plan.all_float():
            return in_full(self._reference, self._bench.labels, self._reference)
        logits = self._bench.forward(simulate(self._bench.classifier, self._rounder(plan)))
        return in_full(logits, self._bench.labels, self._reference)

    @cached_property
    def _reference(self) -> Float32Array:
        """float32[N, K], logits of the float model."""
        return self._bench.forward(self._bench.classifier.proto)
