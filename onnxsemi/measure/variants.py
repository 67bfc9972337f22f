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

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi.arrays import Float32Array, Float64Array
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.forward import logit_rows
from onnxsemi.measure.shards import SHARD_IMAGES, Shard, padded, shards, workers
from onnxsemi.model.bias import correctable_bias
from onnxsemi.model.cut import Cut, cut
from onnxsemi.model.targets import Site
from onnxsemi.quantizer.rounded import mixed_weight
from onnxsemi.runtime import Session

RUN_ROWS = 64  # rows in one run of the suffix: images times variants

Advance = Callable[[int], None]


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
    bench: Bench, site: Site, variants: Sequence[Variant], advance: Advance
) -> Effects:
    """Exact Δloss and KL of variants of one layer.

    Args:
        bench: Model and images.
        site: The layer.
        variants: What to measure.
        advance: Told the number of variants times images whenever some are done.
    """
    if len(site.nodes) > 1:
        return measure_plainly(bench, site, variants, advance)
    bits, channels = sorted({variant.bits for variant in variants}), site.layer.channels
    weights = {b: mixed_weight(site.layer, [b] * channels, bench.rounding) for b in bits}
    shifted = {b: _bias(bench, site, Variant(tuple(range(channels)), b)) for b in bits}
    biases = {b: bias for b, bias in shifted.items() if bias is not None}
    layer_cut = cut(bench.classifier, site, weights, biases)
    if not all(_can_be_repeated(bench, name) for name in (layer_cut.output, *layer_cut.crossing)):
        return measure_plainly(bench, site, variants, advance)
    return _Splice(bench, layer_cut, variants).measure(advance)


def _can_be_repeated(bench: Bench, name: str) -> bool:
    """Whether a tensor of several batches is theirs, one behind the other."""
    extent = bench.extents.get(name)
    return extent is None or (extent.batch == 0 and not extent.turns)


def measure_plainly(
    bench: Bench, site: Site, variants: Sequence[Variant], advance: Advance
) -> Effects:
    """The same by changing the weight and running the whole model, once a variant."""
    classifier = bench.classifier
    reference = bench.forward(classifier.proto)
    rule = bench.likelihood
    loss = rule.loss(reference, bench.labels)
    effects = np.zeros((2, len(variants)))
    for index, variant in enumerate(variants):
        chosen = set(variant.channels)
        bits = [variant.bits if c in chosen else FLOAT_BITS for c in range(site.layer.channels)]
        name, bias = site.layer.name, _bias(bench, site, variant)
        biases = {} if bias is None else {name: bias}
        weight = mixed_weight(site.layer, bits, bench.rounding)
        model = classifier.with_weights({name: weight}, biases)
        logits = bench.forward(model)
        effects[0, index] = np.mean(rule.loss(logits, bench.labels) - loss)
        effects[1, index] = np.mean(rule.divergence(reference, logits))
        advance(len(bench.images))
    return Effects(effects[0], effects[1])


def _bias(bench: Bench, site: Site, variant: Variant) -> Float32Array | None:
    """The node's bias with the shifts of the variant's channels: float32[O]; None leaves it."""
    if variant.bits == FLOAT_BITS:
        return None
    shift = bench.rounding.bias_shift(site.layer, variant.bits)
    if shift is None:
        return None
    own = correctable_bias(bench.classifier, site)
    if own is None:
        raise ValueError(f"layer {site.layer.name!r}: a shift of a bias that cannot be changed")
    bias, channels = own.copy(), list(variant.channels)
    bias[channels] += shift[channels]
    return bias


@dataclass(frozen=True, eq=False)
class _Crossed:
    """What one shard of images brings to the cut."""

    shard: Shard
    tensors: dict[str, NDArray[Any]]
    reference: Float32Array
    loss: Float64Array


class _Splice:
    """Runs the variants of one layer through the two halves of the model."""

    def __init__(self, bench: Bench, layer_cut: Cut, variants: Sequence[Variant]) -> None:
        self._bench = bench
        self._cut = layer_cut
        self._variants = variants
        self._batch = bench.classifier.ends.image.batch
        self._prefix = Session(layer_cut.prefix)
        self._suffix = Session(layer_cut.suffix)

    def measure(self, advance: Advance) -> Effects:
        """Δloss and KL of every variant, averaged in the order of the images."""
        count = len(self._bench.images)
        total = np.zeros((2, len(self._variants)))
        pending = shards(count, self._batch, self._bench.rows(SHARD_IMAGES))
        threads = self._bench.threads
        with workers(threads) as pool:
            for start in range(0, len(pending), threads):  # bounds what is held in memory
                for shard, chosen, values in self._wave(pool, pending[start : start + threads]):
                    for image in np.moveaxis(values, 2, 0):  # one by one, whatever the shards
                        total[:, chosen] += image
                    advance(values.shape[1] * len(shard))
        return Effects(*(total / count))

    def _wave(
        self, pool: ThreadPoolExecutor, wave: list[Shard]
    ) -> Iterator[tuple[Shard, slice, Float64Array]]:
        crossed = list(pool.map(self._cross, wave))
        tasks = [(item, chosen) for item in crossed for chosen in self._chunks(item.shard)]
        results = pool.map(lambda task: self._effects(*task), tasks)
        for (item, chosen), values in zip(tasks, results, strict=True):
            yield item.shard, chosen, values

    def _chunks(self, shard: Shard) -> Iterator[slice]:
        size = 1 if self._batch else max(1, self._bench.rows(RUN_ROWS) // len(shard))
        return (slice(i, i + size) for i in range(0, len(self._variants), size))

    def _cross(self, shard: Shard) -> _Crossed:
        """Run the prefix, and the suffix on what it gives."""
        image = self._bench.classifier.ends.image.name
        rows = padded(self._bench.images.batch(shard.start, shard.stop), self._batch)
        tensors = {image: rows, **self._prefix.run({image: rows})}
        feeds = {name: tensors[name] for name in (self._cut.output, *self._cut.crossing)}
        reference = self._logits(feeds, len(rows))[: len(shard)]
        labels = self._bench.labels[shard.start : shard.stop]
        loss = self._bench.likelihood.loss(reference, labels)
        return _Crossed(shard, tensors, reference, loss)

    def _effects(self, crossed: _Crossed, chosen: slice) -> Float64Array:
        """Δloss and KL of some variants on one shard: float64[2, variants, images]."""
        variants = self._variants[chosen]
        feeds = {
            name: np.concatenate([crossed.tensors[name]] * len(variants))
            for name in self._cut.crossing
        }
        feeds[self._cut.output] = np.concatenate([self._spliced(crossed, v) for v in variants])
        rows = len(crossed.tensors[self._bench.classifier.ends.image.name])
        logits = self._logits(feeds, rows * len(variants)).reshape(len(variants), rows, -1)
        count, rule = len(crossed.shard), self._bench.likelihood
        labels = self._bench.labels[crossed.shard.start : crossed.shard.stop]
        return np.array(
            [
                [rule.loss(one[:count], labels) - crossed.loss for one in logits],
                [rule.divergence(crossed.reference, one[:count]) for one in logits],
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

    def _logits(self, feeds: dict[str, NDArray[Any]], rows: int) -> Float32Array:
        scores = self._suffix.run(feeds)[self._suffix.outputs[0]]
        return logit_rows(scores, rows, self._bench.head)
