"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

from collections.abc import Sequence

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._progress import Progress
from onnxsemi._quantizer.affine import quantize
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.observed_layers import input_moments, layer_groups, observed_layers
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._runtime.blas import one_thread


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
            for layer in group:
                bias = correctable_bias(workload.classifier, layer.site)
                corrects = settings.bias_correction and bias is not None
                moments = sums.pop(layer.name).moments(centred=corrects)
                damping[layer.name] = moments.damping
                rounder = LayerRounder(moments, settings, scheme, runner.pool)
                weight = layer.site.layer.weight
                found = entries[layer.name] = {b: rounder.at(weight, b) for b in bits}
                if corrects:
                    shifts[layer.name] = {
                        b: -moments.mean_output(q.dequantize() - weight).astype(np.float32)
                        for b, q in found.items()
                    }
                progress.step(layer.name)
    names = [layer.name for layer in workload.classifier.layers]
    return RoundingTable(scheme, {name: entries[name] for name in names}, shifts, damping)
