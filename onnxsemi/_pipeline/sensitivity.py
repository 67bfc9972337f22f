"""Δloss of every channel and the KL of any semilayer: the fast way where it can be trusted.

Layers above an operator without a reverse rule have no backward pass. They are measured exactly
where that takes no more than ``MOST_PASSES`` forward passes; else they are *estimated*:

    Δloss[c, b] = KL[c, b] = factor * error[c, b]

with the relative error of the layer's output (:mod:`onnxsemi._sensitivity.output_error`) and a
factor that is the median, over the layers that have a gradient, of KL against error. Without any
it is 1: noise as large as the signal costs about a nat. So is everything with ``--delta-loss
output``.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._errors import BudgetError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._plan.bitwidth import is_coded
from onnxsemi._plan.layers import Semilayer, TargetLayer
from onnxsemi._progress import Progress, Within
from onnxsemi._quantizer.coded import code_bits
from onnxsemi._quantizer.rounded_plan import Rounding, rounding_errors
from onnxsemi._results.results import SensitivitySummary
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.journal import Journal, Question
from onnxsemi._search.frontier import monotone
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._sensitivity.agreement import Agreement, SampleRequest, measure_agreement
from onnxsemi._sensitivity.delta_loss import exact_delta_loss
from onnxsemi._sensitivity.fast import FastMeasurement, FastTables
from onnxsemi._sensitivity.forecast import duration, exact_passes, forward_pass
from onnxsemi._sensitivity.output_error import output_errors
from onnxsemi._sensitivity.reliability import Dependable, dependable
from onnxsemi._sensitivity.semilayer_kl import exact_kl
from onnxsemi._settings import Method

MOST_PASSES = 20.0  # that exact measurement may take where no backward pass is to be had
_FALLING = 1e-6  # bits from one bitwidth to the next, if the codes take as many
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
        kl_increase: KL of every free channel quantized alone, likewise, never falling with fewer
            bits; for the frontier as far as it holds for other images
            (:mod:`onnxsemi._sensitivity.reliability`).
        summary: How it was measured.
    """

    table: DeltaLossTable | None
    kl_increase: DeltaLossTable | None
    summary: SensitivitySummary
    _fast: FastTables | None
    _workload: Workload

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
            result[exact] = exact_kl(self._workload, chosen, progress, journal)
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
        if self.kl_increase is not None and semilayer.layer in self.summary.estimated:
            column = self.kl_increase.column(semilayer.layer, semilayer.bits)
            return float(column[list(semilayer.channels)].sum())
        return None


def not_measured(prepared: Prepared) -> Sensitivity:
    """Nothing to split and rank by."""
    summary = SensitivitySummary(0, (), (), (), {})
    return Sensitivity(None, None, summary, None, prepared.workload(prepared.search))


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
        kl_increase=tables.kl_increase,
        summary=SensitivitySummary(
            samples=len(stage.workload.images),
            agreement=agreement,
            exact_delta_loss=exact_nats if split else (),
            exact_kl=exact_kl_bits,
            missing=fast.missing if fast else {},
            estimated=tables.estimated,
            exact_passes=tables.exact_passes,
            reliability=tables.reliability,
        ),
        _fast=fast,
        _workload=prepared.workload(prepared.search),
    )


@dataclass(frozen=True, eq=False)
class _Tables:
    """Δloss and KL of the free channels.

    Attributes:
        nats: Δloss.
        kl_increase: KL, never falling with fewer bits.
        estimated: Layers that are estimated from the errors of their outputs.
        exact_passes: Forward passes that those would take to be measured exactly.
        reliability: Layer -> share of what its channels' KL differ by that holds for other images.
    """

    nats: DeltaLossTable | None = None
    kl_increase: DeltaLossTable | None = None
    estimated: tuple[str, ...] = ()
    exact_passes: float = 0.0
    reliability: Mapping[str, float] = field(default_factory=dict)


class _Stage:
    """The measurements, each recalled from the run where it can be."""

    def __init__(
        self, prepared: Prepared, rounding: Rounding, run: RunFolder, progress: Progress
    ) -> None:
        self.workload = replace(prepared.workload(prepared.delta_loss), rounding=rounding)
        self._rounding = rounding
        self.bits = prepared.settings.search.bits
        self._method = prepared.settings.delta_loss
        self._free = prepared.free()
        self._seed = prepared.settings.seed
        self._run = run
        self._progress = progress

    def fast(self, *, products: bool) -> FastTables:
        """Tables of the fast way; what was summed before a run was killed is not summed again."""
        measurement = FastMeasurement(
            self.workload, self._free, self.bits, self._seed, products=products
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
            try:
                return measurement.measure(self._progress, save).samples
            except BudgetError:  # what is summed so far is good for a run that goes on
                if path is not None:
                    measurement.save(path, run)
                raise

        self._run.journal.ask(BackwardPasses(tuple(self._free), self.bits), int, measure)
        # only what is missing, if the file was lost
        return measurement.measure(Within(self._progress), save)

    def agreement(self, layers: list[str], *, semilayers: bool) -> tuple[Agreement, ...]:
        """A sample both ways; nothing if no layer has a backward pass."""
        if not layers:
            return ()
        request = SampleRequest(layers, self.bits, self._seed, semilayers=semilayers)
        return measure_agreement(self.workload, request, self._progress, self._run.journal)

    def tables(self, fast: FastTables | None, exact: tuple[int, ...], *, shrinks: bool) -> _Tables:
        """Δloss and KL of every free channel: fast but for given bitwidths and missing layers.

        Args:
            fast: Sums of the fast way.
            exact: Bitwidths that are measured exactly.
            shrinks: Whether the KL is drawn to what holds for other images.
        """
        nats = dict(fast.delta_loss().nats) if fast else {}
        known = self._dependable(fast) if fast and shrinks else {}
        kl_increase = dict(fast.kl_increase().nats) if fast else {}
        kl_increase |= {layer: found.nats for layer, found in known.items()}
        missing = [layer for layer in self._free if layer not in nats]
        passes = exact_passes(self.workload.classifier, missing, self.bits)
        estimated = self._estimates(missing, passes)
        if estimated:
            found = self._estimate(missing, kl_increase)
            nats.update(found)
            kl_increase.update(found)
        elif missing:
            reasons = fast.missing if fast else {}
            phase = self._forecast(missing, passes, reasons.get(missing[0], ""))
            measured, divergence = self._exact(missing, self.bits, phase)
            nats.update(measured.nats)
            kl_increase.update(divergence.nats)
        rest = [layer for layer in self._free if layer not in missing]
        if exact and rest:
            measured, divergence = self._exact(rest, exact)
            columns = [self.bits.index(b) for b in exact]
            for fast_ones, exact_ones in ((nats, measured), (kl_increase, divergence)):
                for layer in rest:
                    values = fast_ones[layer].copy()
                    values[:, columns] = exact_ones.nats[layer]
                    fast_ones[layer] = values
        count = len(self.workload.images)
        rising = monotone({layer: kl_increase[layer] for layer in self._free})
        return _Tables(
            DeltaLossTable(self.bits, nats, count),
            DeltaLossTable(self.bits, rising, count, self._rates()),
            tuple(missing) if estimated else (),
            passes if estimated else 0.0,
            {layer: found.weight for layer, found in known.items()},
        )

    def _rates(self) -> dict[str, Float64Array]:
        """What weights of the layers take entropy-coded at each bitwidth; empty if none is."""
        if not all(map(is_coded, filter(None, self.bits))):
            return {}
        sites = self.workload.classifier
        return {name: self._rates_of(sites.site(name).layer) for name in self._free}

    def _rates_of(self, layer: TargetLayer) -> Float64Array:
        """float64[O, B], falling."""
        found = np.zeros((layer.channels, len(self.bits)))
        for place, bits in enumerate(self.bits):
            if bits:
                found[:, place] = code_bits(self._rounding.at(layer, bits).codes)
        falling: Float64Array = np.minimum.accumulate(found, axis=1)
        return falling - _FALLING * np.arange(len(self.bits))

    def _dependable(self, fast: FastTables) -> dict[str, Dependable]:
        """KL of the channels of every layer that has a gradient, as far as it is to be trusted."""
        count, found = len(self.workload.images), {}
        for name, folds in fast.kl_increase_folds().items():
            layer, rounding = self.workload.classifier.site(name).layer, self.workload.rounding
            found[name] = dependable(folds, rounding_errors(layer, self.bits, rounding), count)
        return found

    def _estimates(self, missing: Sequence[str], passes: float) -> bool:
        """Whether layers without a gradient are estimated; else they are measured exactly."""
        if self._method is Method.EXACT or not missing:
            return False
        return self._method is Method.OUTPUT or passes > MOST_PASSES

    def _estimate(
        self, missing: list[str], kl_increase: Mapping[str, Float64Array]
    ) -> dict[str, Float64Array]:
        """KL from the errors of outputs, in the scale of the layers whose KL is known."""
        layers = [*missing, *kl_increase]
        errors = output_errors(self.workload, layers, self.bits, self._progress, self._run.journal)
        sums = [
            (float(kl_increase[layer].sum()), float(errors[layer].sum())) for layer in kl_increase
        ]
        ratios = [nats / error for nats, error in sums if error > 0]
        factor = float(np.median(ratios)) if ratios else 1.0
        return {layer: factor * errors[layer] for layer in missing}

    def _forecast(self, layers: Sequence[str], passes: float, reason: str) -> str:
        """What is said before layers are measured exactly."""
        seconds = passes * forward_pass(self.workload).seconds
        variants = len(self.bits) * sum(
            self.workload.classifier.site(layer).layer.channels for layer in layers
        )
        why = f" above {reason}" if reason else ""
        return f"Δloss of {variants:,} variants{why}, about {duration(seconds)}"

    def _exact(
        self, layers: list[str], bits: tuple[int, ...], phase: str = "Δloss"
    ) -> tuple[DeltaLossTable, DeltaLossTable]:
        journal, progress = self._run.journal, self._progress
        return exact_delta_loss(self.workload, layers, bits, progress, journal, phase)
