"""What quantizing some channels of one layer does to the loss and to the answers' probabilities.

A *variant* quantizes some channels of one target layer and leaves everything else float32. Its
Δloss and KL are measured exactly in one of two ways that agree within float32 noise:

*splice*: the model is cut at the layer's output. One pass through the prefix gives the output ``A``
and, with all filters quantized to b bits, ``A@b``. A variant is ``A`` with its channels taken from
``A@b``; only the suffix is run, in one session for the whole layer, several variants at once.

*plain*: the layer's weight is changed and the whole model is run. For weights that several nodes
share, where one cut does not reach all of them; where the rows of an image do not stand side by
side at the cut; and the oracle of the splice's tests.

A rounding may shift the biases of quantized channels too; float32 channels keep theirs.

Both compare with the float model run in the same way, so that a variant which changes nothing has
Δloss and KL of exactly 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.forward import logit_rows
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.cut import Cut, cut
from onnxsemi._model.targets import Site
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._quantizer.rounded_plan import mixed_weight
from onnxsemi._runtime.batch_sizes import FORWARD_IMAGES, SPLICED_ROWS
from onnxsemi._runtime.engine import parts_for
from onnxsemi._runtime.runner import Batch, Rows, Runner

Advance = Callable[[int], None]
TASK_VARIANTS = 64
"""Variants of a task at least: each task runs the float model for itself."""


@dataclass(frozen=True)
class Variant:
    """Channels of one layer at ``bits``, everything else float32."""

    channels: tuple[int, ...]
    bits: int


@dataclass(frozen=True, eq=False)
class Effects:
    """What each variant does, mean over the images.

    Attributes:
        delta_loss: float64[V], nats per sample.
        kl: float64[V], nats per sample.
    """

    delta_loss: Float64Array
    kl: Float64Array


def measure_variants(
    workload: Workload, site: Site, variants: Sequence[Variant], advance: Advance
) -> Effects:
    """Exact Δloss and KL of variants of one layer.

    Args:
        workload: Model and images.
        site: The layer.
        variants: What to measure.
        advance: Told the number of variants times images whenever some are done.
    """
    engine, count = workload.engine, len(workload.images)
    if not engine.workers:
        return _measure_here(workload, site.layer.name, variants, advance)
    parts = parts_for(engine, len(variants), TASK_VARIANTS, len(variants))
    tasks = (workload.begin(_measure_here, site.layer.name, variants[part]) for part in parts)
    found = list[Effects]()
    for part, effects in zip(parts, engine.results(tasks, lambda: advance(0)), strict=True):
        found.append(effects)
        advance((part.stop - part.start) * count)
    joined = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("delta_loss", "kl")
    )
    return Effects(*joined)


def _measure_here(
    workload: Workload, layer: str, variants: Sequence[Variant], advance: Advance = lambda _: None
) -> Effects:
    """The same on this machine."""
    site = workload.classifier.site(layer)
    if len(site.nodes) > 1:
        return measure_plainly(workload, site, variants, advance)
    bits, channels = sorted({variant.bits for variant in variants}), site.layer.channels
    weights = {b: mixed_weight(site.layer, [b] * channels, workload.rounding) for b in bits}
    shifted = {b: _bias(workload, site, Variant(tuple(range(channels)), b)) for b in bits}
    biases = {b: bias for b, bias in shifted.items() if bias is not None}
    layer_cut = cut(workload.classifier, site, weights, biases)
    if not all(
        _can_be_repeated(workload, name) for name in (layer_cut.output, *layer_cut.crossing)
    ):
        return measure_plainly(workload, site, variants, advance)
    return _Splice(workload, layer_cut, variants).measure(advance)


def _can_be_repeated(workload: Workload, name: str) -> bool:
    """Whether a tensor of several batches is theirs, one behind the other."""
    extent = workload.extents.get(name)
    return extent is None or (extent.batch == 0 and not extent.turns)


def measure_plainly(
    workload: Workload, site: Site, variants: Sequence[Variant], advance: Advance
) -> Effects:
    """The same by changing the weight and running the whole model, once a variant."""
    classifier = workload.classifier
    reference = workload.float_logits()
    rule = workload.likelihood
    loss = rule.loss(reference, workload.labels)
    effects = np.zeros((2, len(variants)))
    for index, variant in enumerate(variants):
        chosen = set(variant.channels)
        bits = [variant.bits if c in chosen else FLOAT_BITS for c in range(site.layer.channels)]
        name, bias = site.layer.name, _bias(workload, site, variant)
        biases = {} if bias is None else {name: bias}
        weight = mixed_weight(site.layer, bits, workload.rounding)
        model = classifier.with_weights({name: weight}, biases)
        logits = workload.forward(model)
        effects[0, index] = np.mean(rule.loss(logits, workload.labels) - loss)
        effects[1, index] = np.mean(rule.divergence(reference, logits))
        advance(len(workload.images))
    return Effects(effects[0], effects[1])


def _bias(workload: Workload, site: Site, variant: Variant) -> Float32Array | None:
    """The node's bias with the shifts of the variant's channels: float32[O]; None leaves it."""
    if variant.bits == FLOAT_BITS:
        return None
    shift = workload.rounding.bias_shift(site.layer, variant.bits)
    if shift is None:
        return None
    own = correctable_bias(workload.classifier, site)
    if own is None:
        raise ValueError(f"layer {site.layer.name!r}: a shift of a bias that cannot be changed")
    bias, channels = own.copy(), list(variant.channels)
    bias[channels] += shift[channels]
    return bias


@dataclass(frozen=True, eq=False)
class _Crossed:
    """What one batch of images brings to the cut."""

    batch: Batch
    tensors: Rows
    reference: Float32Array
    loss: Float64Array


class _Splice:
    """Runs the variants of one layer through the two halves of the model."""

    def __init__(self, workload: Workload, layer_cut: Cut, variants: Sequence[Variant]) -> None:
        self._workload = workload
        self._cut = layer_cut
        self._variants = variants
        self._batch = workload.classifier.ends.image.batch
        self._prefix = workload.open(layer_cut.prefix)
        self._suffix = workload.open(layer_cut.suffix)

    def measure(self, advance: Advance) -> Effects:
        """Δloss and KL of every variant, averaged in the order of the images."""
        count = len(self._workload.images)
        total = np.zeros((2, len(self._variants)))
        with self._workload.running() as runner:
            for batch in runner.batches(count, FORWARD_IMAGES):
                effects = partial(self._effects, runner, self._cross(runner, batch))
                chunks = self._chunks(batch)
                for chosen, values in zip(chunks, runner.map(effects, chunks), strict=True):
                    for image in np.moveaxis(values, 2, 0):  # one by one, whatever the batches
                        total[:, chosen.start : chosen.stop] += image
                    advance(len(chosen) * len(batch))
        return Effects(*(total / count))

    def _chunks(self, images: Batch) -> list[Batch]:
        """Variants that are run at once on a batch of images."""
        size = 1 if self._batch else max(1, self._workload.rows(SPLICED_ROWS) // len(images))
        return Batch(0, len(self._variants)).cut(size)

    def _cross(self, runner: Runner, batch: Batch) -> _Crossed:
        """Run the prefix, and the suffix on what it gives."""
        image = self._workload.classifier.ends.image.name
        rows = self._workload.images.batch(batch.start, batch.stop)
        tensors = {image: rows, **runner.run(self._prefix, {image: rows})}
        feeds = {name: tensors[name] for name in (self._cut.output, *self._cut.crossing)}
        reference = self._logits(runner, feeds, len(rows))
        labels = self._workload.labels[batch.start : batch.stop]
        loss = self._workload.likelihood.loss(reference, labels)
        return _Crossed(batch, tensors, reference, loss)

    def _effects(self, runner: Runner, crossed: _Crossed, chosen: Batch) -> Float64Array:
        """Δloss and KL of some variants on one batch: float64[2, variants, images]."""
        variants = self._variants[chosen.start : chosen.stop]
        feeds = {
            name: np.concatenate([crossed.tensors[name]] * len(variants))
            for name in self._cut.crossing
        }
        feeds[self._cut.output] = np.concatenate([self._spliced(crossed, v) for v in variants])
        count, rule = len(crossed.batch), self._workload.likelihood
        found = self._logits(runner, feeds, count * len(variants))
        logits = found.reshape(len(variants), count, -1)
        labels = self._workload.labels[crossed.batch.start : crossed.batch.stop]
        return np.array(
            [
                [rule.loss(one, labels) - crossed.loss for one in logits],
                [rule.divergence(crossed.reference, one) for one in logits],
            ]
        )

    def _spliced(self, crossed: _Crossed, variant: Variant) -> Float32Array:
        """A with the variant's channels taken from A@b: float32, shape of A."""
        axis = self._cut.channel_axis
        result = np.moveaxis(crossed.tensors[self._cut.output].copy(), axis, 0)
        quantized = np.moveaxis(crossed.tensors[self._cut.quantized[variant.bits]], axis, 0)
        channels = list(variant.channels)
        result[channels] = quantized[channels]
        return np.ascontiguousarray(np.moveaxis(result, 0, axis))

    def _logits(self, runner: Runner, feeds: Rows, rows: int) -> Float32Array:
        scores = runner.run(self._suffix, feeds)[self._suffix.outputs[0]]
        return logit_rows(scores, rows, self._workload.head)
