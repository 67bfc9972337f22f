"""What a search came to, and the evidence for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._pipeline.sensitivity import Sensitivity
from onnxsemi._plan.bitwidth import shown
from onnxsemi._plan.channel_numbers import channel_ranges
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._run.plan_file import Bits, ChannelEvidence
from onnxsemi._search.protocols import Closeness, Recalling
from onnxsemi._search.semilayers import by_sign
from onnxsemi._search.trajectory import Decision, Point, Trajectory
from onnxsemi._stats.pairing import Pairing, PerImage

_TOOK = (Decision.KEPT, Decision.QUANTIZED)


@dataclass(frozen=True, eq=False)
class SearchRecord:
    """What the search did.

    Attributes:
        trajectory: Everything that it did.
        ranges: Ranges of the activations, if those are quantized.
        checker: Knows the answers of the plans that were measured.
        before: Which calibration images the float model answers rightly; or its values of the
            metric.
        sensitivity: What the search went by.
    """

    trajectory: Trajectory
    ranges: ActivationRanges | None
    checker: Recalling
    before: PerImage
    sensitivity: Sensitivity


@dataclass(frozen=True, eq=False)
class SearchOutcome(SearchRecord):
    """What the search came to.

    Attributes:
        chosen: The most compressed point that holds the accuracy.
        search: Float against chosen on the calibration images, as the file is to run.
        close: How close the two are there.
        refused: More compressed points that were left for it, each with what speaks against it.
    """

    chosen: Point
    search: Pairing
    close: Closeness | None
    refused: Sequence[tuple[Point, str]] = ()

    def evidence(self) -> dict[str, dict[Bits, dict[Sign, ChannelEvidence]]] | None:
        """What was known of the chosen plan's channels; None if Δloss was not measured.

        Layer -> its channels at each bitwidth that was measured, split by the sign of Δloss there.
        """
        table = self.sensitivity.table
        if table is None:
            return None
        known = {layer: self._of_layer(layer) for layer in self.chosen.plan.bits}
        return {layer: by_bits for layer, by_bits in known.items() if by_bits}

    def _of_layer(self, layer: str) -> dict[Bits, dict[Sign, ChannelEvidence]]:
        table, kl_increase = self.sensitivity.table, self.sensitivity.kl_increase
        assert table is not None
        assert kl_increase is not None
        found: dict[Bits, dict[Sign, ChannelEvidence]] = {}
        for b in table.bits if layer in table.nats else ():
            there = np.flatnonzero(self.chosen.plan.bits[layer] == b)
            for semilayer in by_sign({layer: there}, table, b):
                channels = np.array(semilayer.channels)
                found.setdefault(str(shown(b)), {})[semilayer.sign] = ChannelEvidence(
                    channels=channel_ranges(semilayer.channels),
                    delta_loss=_short(table.column(layer, b)[channels].sum()),
                    kl=_short(kl_increase.column(layer, b)[channels].sum()),
                    trial=self._trial(semilayer),
                )
        return found

    def _trial(self, semilayer: Semilayer) -> int | None:
        """The last trial that took these channels there."""
        numbers = [
            trial.number
            for trial in self.trajectory.trials
            if trial.ranked is not None
            and trial.decision in _TOOK
            and trial.number <= self.chosen.trial
            and _covers(trial.ranked.semilayer, semilayer)
        ]
        return numbers[-1] if numbers else None


def _covers(tried: Semilayer, semilayer: Semilayer) -> bool:
    same = (tried.layer, tried.bits) == (semilayer.layer, semilayer.bits)
    return same and tried.sign in (semilayer.sign, Sign.BOTH) and _meet(tried, semilayer)


def _meet(tried: Semilayer, semilayer: Semilayer) -> bool:
    return not set(tried.channels).isdisjoint(semilayer.channels)


def _short(nats: float) -> float:
    """Six digits, which people can compare."""
    return float(f"{nats:.6g}")
