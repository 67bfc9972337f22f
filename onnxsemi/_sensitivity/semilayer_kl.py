"""KL of semilayers, measured exactly: each quantized alone, everything else float32."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._plan.layers import Semilayer
from onnxsemi._progress import Progress
from onnxsemi._run.journal import Journal, Question
from onnxsemi._sensitivity.variants import Effects, Variant, measure_variants


class ExactKl(Question, frozen=True):
    """Semilayers of a layer, each alone."""

    layer: str
    variants: tuple[Variant, ...]


def exact_kl(
    workload: Workload, semilayers: Sequence[Semilayer], progress: Progress, journal: Journal
) -> Float64Array:
    """KL of each semilayer: float64[S], nats per sample.

    Args:
        workload: Model and images.
        semilayers: In any order.
        progress: Told of every image that a KL is measured on.
        journal: Recalls what was measured, a layer at a time.
    """
    progress.start("KL", len(semilayers) * len(workload.images))
    result = np.zeros(len(semilayers))
    for site in workload.classifier.sites:
        name = site.layer.name
        places = [i for i, semilayer in enumerate(semilayers) if semilayer.layer == name]
        variants = [Variant(semilayers[i].channels, semilayers[i].bits) for i in places]
        if variants:
            advance = partial(progress.step, name)
            measure = partial(measure_variants, workload, site, variants, advance)
            effects = journal.ask(ExactKl(name, tuple(variants)), Effects, measure)
            result[places] = effects.kl
    return result
