"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

from collections.abc import Sequence

import numpy as np

from onnxsemi.arrays import Float32Array, Float64Array
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.blas import one_thread
from onnxsemi.measure.input_moments import input_moments, layer_groups, tapped
from onnxsemi.model.bias import correctable_bias
from onnxsemi.progress import Progress
from onnxsemi.quantizer.affine import quantize
from onnxsemi.rounding.layer import LayerRounder
from onnxsemi.rounding.settings import RoundingSettings
from onnxsemi.rounding.table import RoundingTable


def rounding_table(
    bench: Bench,
    bits: Sequence[int],
    settings: RoundingSettings,
    seed: int,
    progress: Progress,
) -> RoundingTable:
    """Round every channel to every bitwidth.

    Layers whose inputs cannot be looked at are rounded to the nearest level from minimum to
    maximum.

    Args:
        bench: The float model and calibration images.
        bits: Bitwidths.
        settings: How to round.
        seed: Of the positions that are drawn.
        progress: Told of every image, then of every layer, of one group of layers after the other.
    """
    layers = tapped(bench.classifier, bench.image)
    known, scheme = {layer.name for layer in layers}, bench.scheme
    plain = [layer for layer in bench.classifier.layers if layer.name not in known]
    entries = {layer.name: {b: quantize(layer.weight, b, scheme) for b in bits} for layer in plain}
    shifts: dict[str, dict[int, Float32Array]] = {}
    damping: dict[str, Float64Array] = {}
    with one_thread(), bench.running() as runner:
        for group in layer_groups(layers):
            sums = input_moments(bench, group, seed, progress)
            progress.start("rounding", len(group))
            for layer in group:
                bias = correctable_bias(bench.classifier, layer.site)
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
    names = [layer.name for layer in bench.classifier.layers]
    return RoundingTable(scheme, {name: entries[name] for name in names}, shifts, damping)
