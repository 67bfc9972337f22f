"""Δloss of every channel and the KL of any semilayer: the fast way where it can be trusted.

Layers above an operator without a reverse rule have no backward pass. They are measured exactly
where that takes no more than ``MOST_PASSES`` forward passes; else they are *estimated*:

    Δloss[c, b] = KL[c, b] = factor * error[c, b]

with the relative error of the layer's output (:mod:`onnxsemi.measure.output_error`) and a factor
that is the median, over the layers that have a gradient, of KL against error. Without any it is 1:
noise as large as the signal costs about a nat. So is everything with ``--delta-loss output``.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxsemi.arrays import Float64Array
from onnxsemi.layers import Semilayer
from onnxsemi.measure.agreement import Agreement, SampleRequest, measure_agreement
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.delta_loss import exact_delta_loss
from onnxsemi.measure.divergence import exact_kl
from onnxsemi.measure.fast import FastMeasurement, FastTables
from onnxsemi.measure.forecast import duration, exact_passes, forward_seconds
from onnxsemi.measure.output_error import output_errors
from onnxsemi.measure.reliability import Dependable, dependable
from onnxsemi.measure.seam import DeltaLossTable
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.progress import Progress, Silent
from onnxsemi.quantizer.rounded import Rounding, rounding_errors
from onnxsemi.results import SensitivitySummary
from onnxsemi.run.folder import RunFolder
from onnxsemi.run.journal import Journal, Question
from onnxsemi.search.frontier import monotone
from onnxsemi.settings import Method

MOST_PASSES = 20.0  # that exact measurement may take where no backward pass is to be had
_SAVE_SECONDS = 20.0  # how much of the backward passes may be lost when a run is killed


class BackwardPasses(Question, frozen=True):
    """Sums over images of layers at bitwidths; how many images these were."""

    layers: tuple[str, ...]
    bits: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What the search splits and ranks by.

    Attributes:
        table: Δloss of every free channel at every bitwidth; None if layers are not split.
        harm: KL of every free channel quantized alone, likewise, never falling with fewer bits; for
            the frontier as far as it holds for other images (:mod:`onnxsemi.measure.reliability`).
        summary: How it was measured.
    """

    table: DeltaLossTable | None
    harm: DeltaLossTable | None
    summary: SensitivitySummary
    _fast: FastTables | None
    _bench: Bench

    def kl(
        self, semilayers: Sequence[Semilayer], progress: Progress, journal: Journal
    ) -> Float64Array:
        """KL of each semilayer quantized alone: float64[S], nats per sample."""
        result = np.zeros(len(semilayers))
        known = [self.fast_kl(semilayer) for semilayer in semilayers]
        exact = [place for place, value in enumerate(known) if value is None]
        for place, value in enumerate(known):
            result[place] = 0.0 if value is None else value
        if exact:
            chosen = [semilayers[i] for i in exact]
            result[exact] = exact_kl(self._bench, chosen, progress, journal)
        return result

    def fast_kl(self, semilayer: Semilayer) -> float | None:
        """KL of a semilayer quantized alone, if it is to be had without a run of the model.

        Only the paper's method has the cross terms of its channels; to the frontier their effects
        are independent, and the KL is the sum of the channels'.
        """
        if semilayer.bits in self.summary.exact_kl:
            return None
        if self._fast is not None and semilayer.layer in self._fast.moments:
            return self._fast.kl(semilayer)
        if self.harm is not None and semilayer.layer in self.summary.estimated:
            column = self.harm.column(semilayer.layer, semilayer.bits)
            return float(column[list(semilayer.channels)].sum())
        return None


def measure_sensitivity(
    prepared: Prepared, rounding: Rounding, run: RunFolder, progress: Progress
) -> Sensitivity:
    """Measure what the settings ask for.

    The frontier tests every plan on all images, and takes what is measured only as a proposal: no
    bitwidth is measured exactly because the fast way agrees little.

    Args:
        prepared: Model and images.
        rounding: What a channel becomes at a bitwidth.
        run: Recalls and keeps what is measured.
        progress: Told where the work is.
    """
    stage, settings = _Stage(prepared, rounding, run, progress), prepared.settings
    independent, split = prepared.strategy.independent, prepared.strategy.splits
    wanted = settings.delta_loss
    exact_nats = stage.bits if wanted is Method.EXACT else ()
    exact_kl_bits = stage.bits if settings.kl is Method.EXACT else ()
    fast: FastTables | None = None
    agreement: tuple[Agreement, ...] = ()
    if wanted is not Method.OUTPUT and (not exact_kl_bits or (split and not exact_nats)):
        fast = stage.fast(products=not independent)
        agreement = stage.agreement(list(fast.moments), semilayers=not independent)
        least = 0.0 if independent else settings.min_agreement
        exact_nats = exact_nats or tuple(a.bits for a in agreement if a.same_sign < least)
        exact_kl_bits = exact_kl_bits or tuple(a.bits for a in agreement if a.kl_rank < least)
    tables = _Tables()
    if split or wanted is Method.OUTPUT:
        tables = stage.tables(fast, exact_nats, shrinks=independent)
    return Sensitivity(
        table=tables.nats if split else None,
        harm=tables.harm,
        summary=SensitivitySummary(
            samples=len(stage.bench.images),
            agreement=agreement,
            exact_delta_loss=exact_nats if split else (),
            exact_kl=exact_kl_bits,
            missing=fast.missing if fast else {},
            estimated=tables.estimated,
            exact_passes=tables.exact_passes,
            reliability=tables.reliability,
        ),
        _fast=fast,
        _bench=prepared.bench(prepared.search),
    )


@dataclass(frozen=True, eq=False)
class _Tables:
    """Δloss and KL of the free channels.

    Attributes:
        nats: Δloss.
        harm: KL, never falling with fewer bits.
        estimated: Layers that are estimated from the errors of their outputs.
        exact_passes: Forward passes that those would take to be measured exactly.
        reliability: Layer -> share of what its channels' KL differ by that holds for other images.
    """

    nats: DeltaLossTable | None = None
    harm: DeltaLossTable | None = None
    estimated: tuple[str, ...] = ()
    exact_passes: float = 0.0
    reliability: Mapping[str, float] = field(default_factory=dict)


class _Stage:
    """The measurements, each recalled from the run where it can be."""

    def __init__(
        self, prepared: Prepared, rounding: Rounding, run: RunFolder, progress: Progress
    ) -> None:
        self.bench = replace(prepared.bench(prepared.delta_loss), rounding=rounding)
        self.bits = prepared.settings.search.bits
        self._method = prepared.settings.delta_loss
        self._free = prepared.free()
        self._seed = prepared.settings.seed
        self._run = run
        self._progress = progress

    def fast(self, *, products: bool) -> FastTables:
        """Tables of the fast way; what was summed before a run was killed is not summed again."""
        measurement = FastMeasurement(
            self.bench, self._free, self.bits, self._seed, products=products
        )
        path, run = self._run.file("moments.npz"), self._run.made_of.measured_digest
        if path is not None and path.exists():
            measurement.restore(path, run)
        saved = time.monotonic()

        def save() -> None:
            nonlocal saved
            if path is not None and (
                measurement.finished or time.monotonic() - saved > _SAVE_SECONDS
            ):
                measurement.save(path, run)
                saved = time.monotonic()

        def measure() -> int:
            return measurement.measure(self._progress, save).samples

        self._run.journal.ask(BackwardPasses(tuple(self._free), self.bits), int, measure)
        return measurement.measure(Silent(), save)  # only what is missing, if the file was lost

    def agreement(self, layers: list[str], *, semilayers: bool) -> tuple[Agreement, ...]:
        """A sample both ways; nothing if no layer has a backward pass."""
        if not layers:
            return ()
        request = SampleRequest(layers, self.bits, self._seed, semilayers=semilayers)
        return measure_agreement(self.bench, request, self._progress, self._run.journal)

    def tables(self, fast: FastTables | None, exact: tuple[int, ...], *, shrinks: bool) -> _Tables:
        """Δloss and KL of every free channel: fast but for given bitwidths and missing layers.

        Args:
            fast: Sums of the fast way.
            exact: Bitwidths that are measured exactly.
            shrinks: Whether the KL is drawn to what holds for other images.
        """
        nats = dict(fast.delta_loss().nats) if fast else {}
        known = self._dependable(fast) if fast and shrinks else {}
        harm = dict(fast.harm().nats) if fast else {}
        harm |= {layer: found.nats for layer, found in known.items()}
        missing = [layer for layer in self._free if layer not in nats]
        passes = exact_passes(self.bench.classifier, missing, self.bits)
        estimated = self._estimates(missing, passes)
        if estimated:
            found = self._estimate(missing, harm)
            nats.update(found)
            harm.update(found)
        elif missing:
            reasons = fast.missing if fast else {}
            phase = self._forecast(missing, passes, reasons.get(missing[0], ""))
            measured, divergence = self._exact(missing, self.bits, phase)
            nats.update(measured.nats)
            harm.update(divergence.nats)
        rest = [layer for layer in self._free if layer not in missing]
        if exact and rest:
            measured, divergence = self._exact(rest, exact)
            columns = [self.bits.index(b) for b in exact]
            for fast_ones, exact_ones in ((nats, measured), (harm, divergence)):
                for layer in rest:
                    values = fast_ones[layer].copy()
                    values[:, columns] = exact_ones.nats[layer]
                    fast_ones[layer] = values
        count = len(self.bench.images)
        rising = monotone({layer: harm[layer] for layer in self._free})
        return _Tables(
            DeltaLossTable(self.bits, nats, count),
            DeltaLossTable(self.bits, rising, count),
            tuple(missing) if estimated else (),
            passes if estimated else 0.0,
            {layer: found.weight for layer, found in known.items()},
        )

    def _dependable(self, fast: FastTables) -> dict[str, Dependable]:
        """KL of the channels of every layer that has a gradient, as far as it is to be trusted."""
        count, found = len(self.bench.images), {}
        for name, folds in fast.harm_folds().items():
            layer, rounding = self.bench.classifier.site(name).layer, self.bench.rounding
            found[name] = dependable(folds, rounding_errors(layer, self.bits, rounding), count)
        return found

    def _estimates(self, missing: Sequence[str], passes: float) -> bool:
        """Whether layers without a gradient are estimated; else they are measured exactly."""
        if self._method is Method.EXACT or not missing:
            return False
        return self._method is Method.OUTPUT or passes > MOST_PASSES

    def _estimate(
        self, missing: list[str], harm: Mapping[str, Float64Array]
    ) -> dict[str, Float64Array]:
        """KL from the errors of outputs, in the scale of the layers whose KL is known."""
        layers = [*missing, *harm]
        errors = output_errors(self.bench, layers, self.bits, self._progress, self._run.journal)
        sums = [(float(harm[layer].sum()), float(errors[layer].sum())) for layer in harm]
        ratios = [nats / error for nats, error in sums if error > 0]
        factor = float(np.median(ratios)) if ratios else 1.0
        return {layer: factor * errors[layer] for layer in missing}

    def _forecast(self, layers: Sequence[str], passes: float, reason: str) -> str:
        """What is said before layers are measured exactly."""
        seconds = passes * forward_seconds(self.bench)
        variants = len(self.bits) * sum(
            self.bench.classifier.site(layer).layer.channels for layer in layers
        )
        why = f" above {reason}" if reason else ""
        return f"Δloss of {variants:,} variants{why}, about {duration(seconds)}"

    def _exact(
        self, layers: list[str], bits: tuple[int, ...], phase: str = "Δloss"
    ) -> tuple[DeltaLossTable, DeltaLossTable]:
        journal, progress = self._run.journal, self._progress
        return exact_delta_loss(self.bench, layers, bits, progress, journal, phase)
