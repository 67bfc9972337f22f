"""Δloss of every channel and the KL of any semilayer: the fast way where it can be trusted."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi.arrays import Float64Array
from onnxsemi.layers import Semilayer
from onnxsemi.measure.agreement import Agreement, measure_agreement
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.delta_loss import exact_delta_loss
from onnxsemi.measure.divergence import exact_kl
from onnxsemi.measure.fast import FastMeasurement, FastTables
from onnxsemi.measure.seam import DeltaLossTable
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.progress import Progress, Silent
from onnxsemi.quantizer.rounded import Rounding
from onnxsemi.results import SensitivitySummary
from onnxsemi.run.folder import RunFolder
from onnxsemi.run.journal import Journal, Reply
from onnxsemi.search.frontier import monotone
from onnxsemi.search.semilayers import Split
from onnxsemi.search.settings import SearchMethod
from onnxsemi.settings import Method

_SAVE_SECONDS = 20.0  # how much of the backward passes may be lost when a run is killed


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What the search splits and ranks by.

    Attributes:
        table: Δloss of every free channel at every bitwidth; None if layers are not split.
        harm: KL of every free channel quantized alone, likewise, never falling with fewer bits.
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
        exact = [i for i, semilayer in enumerate(semilayers) if not self._is_fast(semilayer)]
        for place, semilayer in enumerate(semilayers):
            if self._fast and self._is_fast(semilayer):
                result[place] = self._fast.kl(semilayer)
        if exact:
            chosen = [semilayers[i] for i in exact]
            result[exact] = exact_kl(self._bench, chosen, progress, journal)
        return result

    def fast_kl(self, semilayer: Semilayer) -> float | None:
        """KL of a semilayer quantized alone, if it is to be had without a run of the model.

        Only the paper's method has the cross terms of its channels; to the frontier their effects
        are independent, and the KL is the sum of the channels'.
        """
        return self._fast.kl(semilayer) if self._fast and self._is_fast(semilayer) else None

    def _is_fast(self, semilayer: Semilayer) -> bool:
        fast = self._fast is not None and semilayer.layer in self._fast.moments
        return fast and semilayer.bits not in self.summary.exact_kl


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
    frontier = settings.search.method is SearchMethod.FRONTIER
    split = settings.search.split is not Split.NONE
    exact_nats = stage.bits if settings.delta_loss is Method.EXACT else ()
    exact_kl_bits = stage.bits if settings.kl is Method.EXACT else ()
    fast: FastTables | None = None
    agreement: tuple[Agreement, ...] = ()
    if not exact_kl_bits or (split and not exact_nats):
        fast = stage.fast(products=not frontier)
        agreement = stage.agreement(list(fast.moments))
        least = 0.0 if frontier else settings.min_agreement
        exact_nats = exact_nats or tuple(a.bits for a in agreement if a.same_sign < least)
        exact_kl_bits = exact_kl_bits or tuple(a.bits for a in agreement if a.kl_rank < least)
    table, harm = stage.tables(fast, exact_nats) if split else (None, None)
    return Sensitivity(
        table=table,
        harm=harm,
        summary=SensitivitySummary(
            samples=len(stage.bench.images),
            agreement=agreement,
            exact_delta_loss=exact_nats if split else (),
            exact_kl=exact_kl_bits,
            missing=fast.missing if fast else {},
        ),
        _fast=fast,
        _bench=prepared.bench(prepared.search),
    )


class _Stage:
    """The measurements, each recalled from the run where it can be."""

    def __init__(
        self, prepared: Prepared, rounding: Rounding, run: RunFolder, progress: Progress
    ) -> None:
        self.bench = replace(prepared.bench(prepared.delta_loss), rounding=rounding)
        self.bits = prepared.settings.search.bits
        self._free = prepared.free()
        self._seed = prepared.settings.seed
        self._run = run
        self._progress = progress

    def fast(self, *, products: bool) -> FastTables:
        """Tables of the fast way; what was summed before a run was killed is not summed again."""
        measurement = FastMeasurement(
            self.bench, self._free, self.bits, self._seed, products=products
        )
        path = self._run.file("moments.npz")
        if path is not None and path.exists():
            measurement.restore(path)
        saved = time.monotonic()

        def save() -> None:
            nonlocal saved
            if path is not None and (
                measurement.finished or time.monotonic() - saved > _SAVE_SECONDS
            ):
                measurement.save(path)
                saved = time.monotonic()

        def measure() -> Reply:
            return {"images": measurement.measure(self._progress, save).samples}

        self._run.journal.ask("moments", (tuple(self._free), self.bits), measure)
        return measurement.measure(Silent(), save)  # only what is missing, if the file was lost

    def agreement(self, layers: list[str]) -> tuple[Agreement, ...]:
        """A sample both ways; nothing if no layer has a backward pass."""
        if not layers:
            return ()
        return measure_agreement(
            self.bench, layers, self.bits, self._seed, self._progress, self._run.journal
        )

    def tables(
        self, fast: FastTables | None, exact: tuple[int, ...]
    ) -> tuple[DeltaLossTable, DeltaLossTable]:
        """Δloss and KL of every free channel: fast but for given bitwidths and missing layers."""
        nats = dict(fast.delta_loss().nats) if fast else {}
        harm = dict(fast.harm().nats) if fast else {}
        missing = [layer for layer in self._free if layer not in nats]
        if missing:
            measured, divergence = self._exact(missing, self.bits)
            nats.update(measured.nats)
            harm.update(divergence.nats)
        rest = [layer for layer in self._free if layer not in missing]
        if exact and rest:
            measured, divergence = self._exact(rest, exact)
            columns = [self.bits.index(b) for b in exact]
            for known, found in ((nats, measured), (harm, divergence)):
                for layer in rest:
                    values = known[layer].copy()
                    values[:, columns] = found.nats[layer]
                    known[layer] = values
        count = len(self.bench.images)
        rising = monotone({layer: harm[layer] for layer in self._free})
        return DeltaLossTable(self.bits, nats, count), DeltaLossTable(self.bits, rising, count)

    def _exact(
        self, layers: list[str], bits: tuple[int, ...]
    ) -> tuple[DeltaLossTable, DeltaLossTable]:
        journal, progress = self._run.journal, self._progress
        return exact_delta_loss(self.bench, layers, bits, progress, journal)
