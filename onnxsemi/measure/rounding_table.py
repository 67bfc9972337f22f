"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

from collections.abc import Sequence

import numpy as np

from onnxsemi.arrays import Float32Array, Float64Array
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.blas import one_thread
from onnxsemi.measure.input_moments import Tapped, input_moments
from onnxsemi.measure.shards import workers
from onnxsemi.model.bias import correctable_bias
from onnxsemi.progress import Progress
from onnxsemi.quantizer.affine import QuantizedChannels, quantize
from onnxsemi.rounding.layer import LayerRounder
from onnxsemi.rounding.settings import RoundingSettings
from onnxsemi.rounding.table import RoundingTable


def rounding_table(
    bench: Bench,
    layers: Sequence[Tapped],
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
        layers: Layers whose inputs can be looked at.
        bits: Bitwidths.
        settings: How to round.
        seed: Of the positions that are drawn.
        progress: Told of every image, then of every layer.
    """
    scheme, sites = bench.scheme, bench.classifier.sites
    entries: dict[str, dict[int, QuantizedChannels]] = {}
    shifts: dict[str, dict[int, Float32Array]] = {}
    damping: dict[str, Float64Array] = {}
    with one_thread(), workers(bench.threads) as pool:
        sums = input_moments(bench, layers, seed, progress)
        progress.start("rounding", len(sites))
        for site in sites:
            layer, name = site.layer, site.layer.name
            if name not in sums:
                entries[name] = {b: quantize(layer.weight, b, scheme) for b in bits}
                continue
            corrects = (
                settings.bias_correction and correctable_bias(bench.classifier, site) is not None
            )
            moments = sums.pop(name).moments(centred=corrects)
            damping[name] = moments.damping
            rounder = LayerRounder(moments, settings, scheme, pool)
            entries[name] = {b: rounder.at(layer.weight, b) for b in bits}
            if corrects:
                changes = {b: q.dequantize() - layer.weight for b, q in entries[name].items()}
                means = {b: moments.mean_output(change) for b, change in changes.items()}
                shifts[name] = {b: (-mean).astype(np.float32) for b, mean in means.items()}
            progress.step(name)
    return RoundingTable(scheme, entries, shifts, damping)
