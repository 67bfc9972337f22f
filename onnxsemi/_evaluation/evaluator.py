"""The evaluator that measures plans with ONNX Runtime.

A trial looks first at a small sample of the images: how much the plan changes their margins says
which of the others can change their answer (:mod:`onnxsemi._stats.risk`). Those are looked at in
the order of their risk, and no further than is needed to decide.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import onnx

from onnxsemi._arrays import BoolArray, Float32Array, Float64Array, Int64Array
from onnxsemi._evaluation.chain import Chain
from onnxsemi._evaluation.outcomes import Outcomes
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import Semilayer
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._runtime.batch_sizes import SAMPLE_IMAGES, WAVE_IMAGES
from onnxsemi._search.protocols import Score, Tested
from onnxsemi._stats.risk import Margins

KlSource = Callable[[Sequence[Semilayer]], Float64Array]


class ModelEvaluator:
    """Measures plans of one model on one set of images."""

    def __init__(self, workload: Workload, kl: KlSource, seed: int) -> None:
        """Cut the model and draw the sample.

        Args:
            workload: Model and images.
            kl: Gives the KL of semilayers.
            seed: Seed of the sample.
        """
        self._workload = workload
        self._chain = Chain(workload)
        self._margins: Margins | None = None
        self.kl = kl
        count = len(workload.images)
        drawn = np.random.default_rng(seed).permutation(count)[:SAMPLE_IMAGES]
        self._sample: Int64Array = np.sort(drawn).astype(np.int64)

    def logits(self, plan: BitPlan) -> Float32Array:
        """float32[N, K] with the plan's quantized weights."""
        return self._chain.logits(plan, np.arange(len(self._workload.images)))

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images."""
        if plan == plan.all_float():
            return self._in_full(self._reference)
        return self._in_full(self.logits(plan))

    def _in_full(self, logits: Float32Array) -> Tested:
        labels, rule = self._workload.labels, self._workload.likelihood
        return Outcomes.of(logits, self._reference, labels, rule).tested()

    @cached_property
    def _reference(self) -> Float32Array:
        """float32[N, K], logits of the float model."""
        return self.logits(BitPlan.uniform(self._workload.classifier.layers))

    def trial(self, plan: BitPlan, bar: float | None) -> Tested:
        """Measure a plan on the images whose answer may change against the current plan."""
        known = self._known
        look = _Look(known)
        margins, right = self._look(plan, self._sample)
        change = float(np.sqrt(np.mean((margins - known.values[self._sample]) ** 2)))
        look.add(self._sample, margins, right)
        pending = known.at_risk(change, self._sample)
        while len(pending) and (bar is None or look.most(pending) >= bar):
            wave, pending = pending[:WAVE_IMAGES], pending[WAVE_IMAGES:]
            look.add(wave, *self._look(plan, wave))
        return look.tested(look.most(pending), change)

    def keep(self, plan: BitPlan, tested: Tested) -> None:
        """Make a plan the current one; trials are compared with it from now on."""
        self._chain.keep(plan)
        if tested.score.in_full:
            zeros = np.zeros(len(tested.images))
            self._margins = Margins(tested.margins, tested.right, zeros)
        else:
            self._margins = self._known.updated(
                tested.images, tested.margins, tested.right, tested.change
            )

    @property
    def _known(self) -> Margins:
        if self._margins is None:
            raise ValueError("a trial needs a current plan: check one and keep it")
        return self._margins

    def _look(self, plan: BitPlan, images: Int64Array) -> tuple[Float64Array, BoolArray]:
        labels = self._workload.labels[images]
        logits = self._chain.logits(plan, images)
        rule = self._workload.likelihood
        return rule.margins(logits, labels), rule.right(logits, labels)


class _Look:
    """What a trial has seen so far."""

    def __init__(self, known: Margins) -> None:
        self._known = known
        self._images: list[Int64Array] = []
        self._margins: list[Float64Array] = []
        self._right: list[BoolArray] = []
        self._correct = int(known.right.sum())

    def add(self, images: Int64Array, margins: Float64Array, right: BoolArray) -> None:
        self._images.append(images)
        self._margins.append(margins)
        self._right.append(right)
        self._correct += int(right.sum()) - int(self._known.right[images].sum())

    def most(self, pending: Int64Array) -> int:
        """Right answers if every wrong one that is still pending becomes right."""
        return self._correct + int((~self._known.right[pending]).sum())

    def tested(self, correct: int, change: float) -> Tested:
        images = np.concatenate(self._images)
        score = Score(correct, len(self._known.right), len(images), None)
        margins, right = np.concatenate(self._margins), np.concatenate(self._right)
        return Tested(score, images, margins, right, change)


def simulate(classifier: Classifier, rounded: RoundedPlan) -> onnx.ModelProto:
    """The float graph with a plan's quantized weights, and the biases that go with them."""
    layers = rounded.layers
    return classifier.with_weights(
        {name: layer.weight for name, layer in layers.items()},
        {name: layer.bias for name, layer in layers.items() if layer.bias is not None},
    )
