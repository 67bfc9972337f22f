"""The checker of plans that are rounded as a whole: every plan is rounded, run, and compared."""

from collections.abc import Callable

import numpy as np

from onnxsemi.measure.bench import Bench
from onnxsemi.measure.evaluator import simulate
from onnxsemi.measure.metrics import cross_entropy, hits
from onnxsemi.measure.risk import label_margins
from onnxsemi.measure.seam import Score, Tested
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
        labels = self._bench.labels
        logits = self._bench.forward(simulate(self._bench.classifier, self._rounder(plan)))
        right, count = hits(logits, labels), len(labels)
        loss = float(np.mean(cross_entropy(logits, labels)))
        score = Score(int(right.sum()), count, count, loss)
        return Tested(score, np.arange(count), label_margins(logits, labels), right, 0.0)
