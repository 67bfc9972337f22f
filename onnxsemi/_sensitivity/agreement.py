"""How far the fast way is to be trusted: a sample of channels and semilayers measured both ways.

Spread over the layers, some channels are measured exactly at every bitwidth, and both semilayers of
those layers where the search goes by their KL; the fast way is run on the very same images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.targets import Site
from onnxsemi._plan.layers import Semilayer
from onnxsemi._progress import Progress, Within
from onnxsemi._run.journal import Journal, Question
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._sensitivity.fast import FastMeasurement, FastTables
from onnxsemi._sensitivity.variants import Effects, Variant, measure_variants

IMAGES = 8
LAYERS = 8
CHANNELS = 4  # of each of the layers


@dataclass(frozen=True)
class Agreement:
    """Fast against exact at one bitwidth.

    Attributes:
        bits: The bitwidth.
        channels: Channels compared.
        same_sign: Share of them whose Δloss has the same sign both ways.
        delta_loss_rank: Spearman correlation of their Δloss.
        semilayers: Semilayers compared.
        kl_rank: Spearman correlation of their KL; of the channels' where none are compared.
    """

    bits: int
    channels: int
    same_sign: float
    delta_loss_rank: float
    semilayers: int
    kl_rank: float


@dataclass(frozen=True)
class SampleRequest:
    """Of what a sample is drawn.

    Attributes:
        layers: Layers that have a gradient, in graph order.
        bits: The ladder, widest first.
        seed: Seed of the sample.
        semilayers: Whether semilayers are compared too. Only the paper's method goes by their KL.
    """

    layers: Sequence[str]
    bits: tuple[int, ...]
    seed: int
    semilayers: bool = True


class ExactSample(Question, frozen=True):
    """Channels and semilayers of a layer, each alone."""

    layer: str
    variants: tuple[Variant, ...]


def measure_agreement(
    workload: Workload, request: SampleRequest, progress: Progress, journal: Journal
) -> tuple[Agreement, ...]:
    """Compare both ways on a sample, at every bitwidth.

    Args:
        workload: Model and images; the first of them are used.
        request: Of what the sample is drawn.
        progress: Told of every variant that is done.
        journal: Recalls what was measured, a layer at a time.
    """
    few, layers, bits, seed = workload.first(IMAGES), request.layers, request.bits, request.seed
    places = np.unique(np.linspace(0, len(layers) - 1, LAYERS).round().astype(int))
    chosen = [layers[place] for place in places]
    measurement = FastMeasurement(few, chosen, bits, seed, products=request.semilayers)
    fast = measurement.measure(Within(progress), lambda: None)
    table = fast.delta_loss()
    generator = np.random.default_rng(seed)
    samples = [
        _Sample.draw(few.classifier.site(layer), table, generator, semilayers=request.semilayers)
        for layer in chosen
        if layer in fast.moments
    ]
    progress.start("fast against exact", sum(len(s.variants) for s in samples) * len(few.images))
    exact = []
    for sample in samples:
        name = sample.site.layer.name
        advance = partial(progress.step, name)
        measure = partial(measure_variants, few, sample.site, sample.variants, advance)
        exact.append(journal.ask(ExactSample(name, sample.variants), Effects, measure))
    return tuple(_compare(b, fast, table, samples, exact) for b in bits)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Channels of one layer, and its semilayers if asked for, at every bitwidth."""

    site: Site
    channels: tuple[int, ...]
    semilayers: tuple[Semilayer, ...]
    bits: tuple[int, ...]

    @classmethod
    def draw(
        cls, site: Site, table: DeltaLossTable, generator: np.random.Generator, *, semilayers: bool
    ) -> "_Sample":
        layer = site.layer
        drawn = np.sort(generator.permutation(layer.channels)[:CHANNELS])
        every = range(layer.channels)
        parts = [
            semilayer
            for bits in (table.bits if semilayers else ())
            for semilayer in table.by_sign(layer.name, every, bits)
        ]
        return cls(site, tuple(drawn.tolist()), tuple(parts), table.bits)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every channel at every bitwidth, then the semilayers."""
        single = [Variant((channel,), bits) for channel in self.channels for bits in self.bits]
        return *single, *(Variant(item.channels, item.bits) for item in self.semilayers)


def _compare(
    bits: int,
    fast: FastTables,
    table: DeltaLossTable,
    samples: Sequence[_Sample],
    exact: Sequence[Effects],
) -> Agreement:
    nats: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []  # KL of channels
    together: list[tuple[float, float]] = []  # of semilayers
    kl_increase = fast.kl_increase()
    for sample, effects in zip(samples, exact, strict=True):
        single = len(sample.channels) * len(sample.bits)
        for place, variant in enumerate(sample.variants):
            if variant.bits == bits and place < single:
                name, (channel,) = sample.site.layer.name, variant.channels
                nats.append((table.column(name, bits)[channel], effects.delta_loss[place]))
                alone.append((kl_increase.column(name, bits)[channel], effects.kl[place]))
            elif variant.bits == bits:
                semilayer = sample.semilayers[place - single]
                together.append((fast.kl(semilayer), effects.kl[place]))
    channels, kl = np.array(nats).reshape(-1, 2), np.array(together or alone).reshape(-1, 2)
    return Agreement(
        bits=bits,
        channels=len(channels),
        same_sign=float(np.mean((channels[:, 0] > 0) == (channels[:, 1] > 0))),
        delta_loss_rank=spearman(channels[:, 0], channels[:, 1]),
        semilayers=len(together),
        kl_rank=spearman(kl[:, 0], kl[:, 1]),
    )


def spearman(one: Float64Array, other: Float64Array) -> float:
    """Spearman's rank correlation, ties at their mean rank; 1 for fewer than two values.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    if len(one) < 2:
        return 1.0
    ranks = [_ranks(values) for values in (one, other)]
    if any(np.ptp(r) == 0 for r in ranks):
        return float(all(np.ptp(r) == 0 for r in ranks))
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Float64Array) -> Float64Array:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Float64Array = (last - (counts - 1) / 2)[place]
    return means
