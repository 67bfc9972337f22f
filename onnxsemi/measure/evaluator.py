"""The evaluator that measures plans with ONNX Runtime."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx

from onnxsemi.arrays import BoolArray, Float32Array, Float64Array
from onnxsemi.layers import Semilayer
from onnxsemi.measure.forward import forward
from onnxsemi.measure.metrics import cross_entropy, hits
from onnxsemi.measure.seam import Score
from onnxsemi.measure.variants import Bench, Variant, measure_variants
from onnxsemi.model.classifier import Classifier
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress
from onnxsemi.quantizer.affine import Scheme, fake_quantize


class ModelEvaluator:
    """Measures plans and semilayers of one model on one set of images."""

    def __init__(self, bench: Bench, progress: Progress) -> None:
        """Measure on ``bench``; ``progress`` is told of every image that a KL is measured on."""
        self._bench = bench
        self._progress = progress
        self._weights: dict[str, tuple[tuple[int, ...], Float32Array]] = {}

    def score(self, plan: BitPlan) -> Score:
        """Accuracy and loss with the plan's fake-quantized weights."""
        logits = self.logits(plan)
        labels = self._bench.labels
        loss = float(np.mean(cross_entropy(logits, labels)))
        return Score(int(hits(logits, labels).sum()), len(labels), loss)

    def logits(self, plan: BitPlan) -> Float32Array:
        """float32[N, K] with the plan's fake-quantized weights."""
        bench = self._bench
        return forward(self._simulated(plan), bench.classifier.ends, bench.images, bench.threads)

    def hits(self, plan: BitPlan) -> BoolArray:
        """Which images the plan answers rightly: bool[N]."""
        return hits(self.logits(plan), self._bench.labels)

    def _simulated(self, plan: BitPlan) -> onnx.ModelProto:
        """Like :func:`simulate`, but a layer is quantized again only when its bits have changed."""
        for site in self._bench.classifier.sites:
            name, bits = site.layer.name, plan.bits[site.layer.name]
            if name not in self._weights or self._weights[name][0] != bits:
                weight = fake_quantize(site.layer.weight, bits, self._bench.scheme)
                self._weights[name] = (bits, weight)
        weights = {name: weight for name, (_, weight) in self._weights.items()}
        return self._bench.classifier.with_weights(weights)

    def kl(self, semilayers: Sequence[Semilayer]) -> Float64Array:
        """KL of each semilayer quantized alone: float64[S], nats per sample."""
        bench, progress = self._bench, self._progress
        progress.start("KL", len(semilayers) * len(bench.images))
        result = np.zeros(len(semilayers))
        for site in bench.classifier.sites:
            name = site.layer.name
            places = [i for i, semilayer in enumerate(semilayers) if semilayer.layer == name]
            variants = [Variant(semilayers[i].channels, semilayers[i].bits) for i in places]
            if variants:
                effects = measure_variants(bench, site, variants, partial(progress.step, name))
                result[places] = effects.kl
        return result


def simulate(classifier: Classifier, plan: BitPlan, scheme: Scheme) -> onnx.ModelProto:
    """The float graph with the plan's fake-quantized weights."""
    return classifier.with_weights(
        {
            site.layer.name: fake_quantize(site.layer.weight, plan.bits[site.layer.name], scheme)
            for site in classifier.sites
        }
    )
