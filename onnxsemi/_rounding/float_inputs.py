"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._progress import Progress
from onnxsemi._quantizer.affine import QuantizedChannels, quantize
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.observed_layers import (
    ObservedLayer,
    input_moments,
    layer_groups,
    observed_layers,
)
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.runner import Runner


def rounding_table(
    workload: Workload,
    bits: Sequence[int],
    settings: RoundingSettings,
    seed: int,
    progress: Progress,
) -> RoundingTable:
    """Round every channel to every bitwidth.

    Layers whose inputs cannot be looked at are rounded to the nearest level from minimum to
    maximum.

    Args:
        workload: The float model and calibration images.
        bits: Bitwidths.
        settings: How to round.
        seed: Of the positions that are drawn.
        progress: Told of every image, then of every layer, of one group of layers after the other.
    """
    layers = observed_layers(workload.classifier, workload.image)
    known, scheme = {layer.name for layer in layers}, workload.scheme
    plain = [layer for layer in workload.classifier.layers if layer.name not in known]
    entries = {layer.name: {b: quantize(layer.weight, b, scheme) for b in bits} for layer in plain}
    shifts: dict[str, dict[int, Float32Array]] = {}
    damping: dict[str, Float64Array] = {}
    with one_thread(), workload.running() as runner:
        for group in layer_groups(layers):
            sums = input_moments(workload, group, seed, progress)
            progress.start("rounding", len(group))

            def work(layer: ObservedLayer, sums: dict[str, MomentSums] = sums) -> _Rounded:
                bias = correctable_bias(workload.classifier, layer.site)
                corrects = settings.bias_correction and bias is not None
                own = sums.pop(layer.name)
                moments = runner.pool.submit(own.moments, centred=corrects).result()
                rounder = LayerRounder(moments, settings, scheme, runner.pool)
                weight = layer.site.layer.weight
                found = {b: rounder.at(weight, b) for b in bits}
                return _Rounded.of(layer, found, moments, corrects=corrects)

            widest = max(layer.rounding_bytes for layer in group)
            at_once = max(1, min(workload.threads, workload.free // widest))
            with Runner(None, at_once) as waiting:  # for the pool, which works on their blocks
                for layer, found in zip(group, waiting.map(work, group), strict=True):
                    entries[layer.name], damping[layer.name] = found.entries, found.damping
                    if found.shifts is not None:
                        shifts[layer.name] = found.shifts
                    progress.step(layer.name)
    names = [layer.name for layer in workload.classifier.layers]
    return RoundingTable(scheme, {name: entries[name] for name in names}, shifts, damping)


@dataclass(frozen=True, eq=False)
class _Rounded:
    """What a layer has in the table; shifts are None if its bias is left alone."""

    entries: dict[int, QuantizedChannels]
    damping: Float64Array
    shifts: dict[int, Float32Array] | None

    @classmethod
    def of(
        cls,
        layer: ObservedLayer,
        entries: dict[int, QuantizedChannels],
        moments: SecondMoments,
        *,
        corrects: bool,
    ) -> "_Rounded":
        if not corrects:
            return cls(entries, moments.damping, None)
        weight = layer.site.layer.weight
        shifts = {
            b: -moments.mean_output(q.dequantize() - weight).astype(np.float32)
            for b, q in entries.items()
        }
        return cls(entries, moments.damping, shifts)
