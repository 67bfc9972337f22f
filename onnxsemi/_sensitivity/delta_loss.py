"""Exact Δloss and KL of every channel of target layers at every bitwidth (paper, section 3.2).

Δloss(c, b) = loss with only channel c quantized to b bits - loss of the float model
"""

from collections.abc import Collection
from functools import partial

from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.targets import Site
from onnxsemi._progress import Progress
from onnxsemi._run.journal import Journal, Question
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._sensitivity.variants import Advance, Effects, Variant, measure_variants


class ExactDeltaLoss(Question, frozen=True):
    """Each channel of a layer alone, at each bitwidth."""

    layer: str
    bits: tuple[int, ...]


def exact_delta_loss(
    workload: Workload,
    layers: Collection[str],
    bits: tuple[int, ...],
    progress: Progress,
    journal: Journal,
    phase: str = "Δloss",
) -> tuple[DeltaLossTable, DeltaLossTable]:
    """Measure the tables of Δloss and of KL; their cost grows with channels x bitwidths x images.

    Args:
        workload: Model and images.
        layers: Names of the target layers to measure.
        bits: The ladder, widest first.
        progress: Told of every variant that is done.
        journal: Recalls what was measured, a layer at a time.
        phase: What the progress is told that this is.
    """
    sites = [site for site in workload.classifier.sites if site.layer.name in layers]
    total = sum(site.layer.channels for site in sites) * len(bits) * len(workload.images)
    progress.start(phase, total)

    nats, kl = {}, {}
    for site in sites:
        name = site.layer.name
        measure = partial(_measure, workload, site, bits, partial(progress.step, name))
        effects = journal.ask(ExactDeltaLoss(name, bits), Effects, measure)
        shape = site.layer.channels, len(bits)
        nats[name], kl[name] = effects.delta_loss.reshape(shape), effects.kl.reshape(shape)
    count = len(workload.images)
    return DeltaLossTable(bits, nats, count), DeltaLossTable(bits, kl, count)


def _measure(workload: Workload, site: Site, bits: tuple[int, ...], advance: Advance) -> Effects:
    variants = [Variant((channel,), b) for channel in range(site.layer.channels) for b in bits]
    return measure_variants(workload, site, variants, advance)
