"""A layer of the rounding table: prepared once, then rounded to one bitwidth after the other."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.targets import Site
from onnxsemi._quantizer.affine import QuantizedChannels
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments


@dataclass(frozen=True)
class TableRequest:
    """How layers are to be rounded.

    Attributes:
        bits: Bitwidths.
        settings: How to round.
        seed: Of the positions that are drawn.
    """

    bits: tuple[int, ...]
    settings: RoundingSettings
    seed: int


@dataclass(frozen=True, eq=False)
class AtBits:
    """A layer at one bitwidth.

    Attributes:
        channels: Its codes and grids.
        damping: float64[P], of its second moments.
        shift: float32[O], what its bias moves by; None if that is left alone.
    """

    channels: QuantizedChannels
    damping: Float64Array
    shift: Float32Array | None


@dataclass(frozen=True, eq=False)
class RoundedEntries:
    """What a layer has in the table; there are no shifts if its bias is left alone."""

    entries: dict[int, QuantizedChannels]
    damping: Float64Array
    shifts: dict[int, Float32Array]

    @classmethod
    def of(cls, found: Iterable[tuple[int, AtBits]]) -> "RoundedEntries":
        """Of what it is at each bitwidth."""
        every = dict(found)
        shifts = {bits: own.shift for bits, own in every.items() if own.shift is not None}
        damping = next(iter(every.values())).damping
        return cls({bits: own.channels for bits, own in every.items()}, damping, shifts)


@dataclass(frozen=True, eq=False)
class PreparedLayer:
    """A layer that can be rounded to any bitwidth.

    Attributes:
        weight: float32[O, ...].
        rounder: Rounds it.
        moments: Of its inputs.
        corrects: Whether its bias takes up the mean of every change.
    """

    weight: Float32Array
    rounder: LayerRounder
    moments: SecondMoments
    corrects: bool

    @classmethod
    def of(
        cls,
        workload: Workload,
        site: Site,
        settings: RoundingSettings,
        sums: MomentSums,
        pool: ThreadPoolExecutor,
    ) -> "PreparedLayer":
        """Prepare it.

        Args:
            workload: The model, and the scheme of its grids.
            site: The layer.
            settings: How to round.
            sums: Of its inputs.
            pool: Works on blocks of rows side by side; called by none of its threads.
        """
        bias = correctable_bias(workload.classifier, site)
        corrects = settings.bias_correction and bias is not None
        moments = sums.moments(centred=corrects, each=pool.map)
        rounder = LayerRounder(moments, settings, workload.scheme, pool)
        return cls(site.layer.weight, rounder, moments, corrects)

    def alone(self) -> "PreparedLayer":
        """The same without a pool, for other processes."""
        return replace(self, rounder=self.rounder.alone())

    def at(self, bits: int) -> AtBits:
        """The layer at one bitwidth."""
        found, moments = self.rounder.at(self.weight, bits), self.moments
        if not self.corrects:
            return AtBits(found, moments.damping, None)
        shift = -moments.mean_output(found.dequantize() - self.weight).astype(np.float32)
        return AtBits(found, moments.damping, shift)
