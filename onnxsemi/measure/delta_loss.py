"""Exact Δloss of every channel of every target layer at every bitwidth (paper, section 3.2).

Δloss(c, b) = loss with only channel c quantized to b bits - loss of the float model
"""

from collections.abc import Collection
from functools import partial

import numpy as np

from onnxsemi.measure.seam import DeltaLossTable
from onnxsemi.measure.variants import Bench, Variant, measure_variants
from onnxsemi.progress import Progress


def exact_delta_loss(
    bench: Bench, layers: Collection[str], bits: tuple[int, ...], progress: Progress
) -> DeltaLossTable:
    """Measure the table; its cost grows with channels x bitwidths x images.

    Args:
        bench: Model and images.
        layers: Names of the target layers to measure.
        bits: The ladder, widest first.
        progress: Told of every variant that is done.
    """
    sites = [site for site in bench.classifier.sites if site.layer.name in layers]
    total = sum(site.layer.channels for site in sites) * len(bits) * len(bench.images)
    progress.start("Δloss", total)
    nats = {}
    for site in sites:
        name, channels = site.layer.name, site.layer.channels
        variants = [Variant((channel,), b) for channel in range(channels) for b in bits]
        effects = measure_variants(bench, site, variants, partial(progress.step, name))
        nats[name] = np.reshape(effects.delta_loss, (channels, len(bits)))
    return DeltaLossTable(bits, nats, len(bench.images))
