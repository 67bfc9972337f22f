"""Rounding one layer of a plan towards the float model's outputs, from what was seen of its inputs.

Weights and bias first move to where they make up for what the layers before have lost
(:mod:`onnxsemi._rounding.sequential`); then they are rounded on the grids of the table.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array, Int8Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS, is_coded
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import RoundedLayer
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.grid import Grid, written_codes
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import TargetOutput
from onnxsemi._runtime.batch_sizes import ROUNDED_ROWS

WIDE = 2**28
"""Rows times columns squared from which rows are worth to be dealt: 0.1 s, and 4 MB to be sent, for
1,024 rows of 512 columns."""


@dataclass(frozen=True, eq=False)
class LayerRequest:
    """How a layer of a plan is to be rounded.

    Attributes:
        name: The layer.
        bits: int8[O], bitwidth of each channel, not all of them float32.
        grid: Grids of the channels; any for float32 channels.
        doubled: Bitwidth -> whether its zero points count half steps.
        damping: float64[P], of its second moments.
        settings: How to round.
        scheme: Of the grids.
    """

    name: str
    bits: Int8Array
    grid: Grid
    doubled: Mapping[int, bool]
    damping: Float64Array
    settings: RoundingSettings
    scheme: Scheme

    @classmethod
    def of(
        cls,
        target_output: TargetOutput,
        plan: BitPlan,
        table: RoundingTable,
        settings: RoundingSettings,
    ) -> "LayerRequest":
        """On the grids of a table."""
        layer = target_output.layer.site.layer
        bits = plan.bits[layer.name]
        values = np.unique(bits[bits != FLOAT_BITS]).tolist()
        return cls(
            name=layer.name,
            bits=bits,
            grid=table.grid(layer, bits),
            doubled={value: table.at(layer, value).doubled for value in values},
            damping=table.damping[layer.name],
            settings=settings,
            scheme=table.scheme,
        )


@dataclass(frozen=True, eq=False)
class AimedLayer:
    """A layer whose weights have moved to where they are rounded from.

    Attributes:
        rounder: Rounds them.
        moments: Of the layer's inputs, without what the weights have moved by.
        weight: float32[O, ...].
    """

    rounder: LayerRounder
    moments: SecondMoments
    weight: Float32Array

    @classmethod
    def of(
        cls,
        target_output: TargetOutput,
        request: LayerRequest,
        sums: MomentSums,
        pool: ThreadPoolExecutor,
    ) -> "AimedLayer":
        """Move them.

        Args:
            target_output: The layer, and what it brings close to the float model.
            request: How.
            sums: Of all blocks of images.
            pool: Works on blocks of rows side by side; called by none of its threads.
        """
        settings, weight = request.settings, target_output.layer.site.layer.weight
        centred = settings.bias_correction and target_output.bias is not None
        moments = sums.moments(centred=centred, damping=request.damping, each=pool.map)
        rounder = LayerRounder(moments, settings, request.scheme, pool)
        assert moments.cross is not None
        aimed = rounder.aimed(weight, moments.cross)
        return cls(rounder, replace(moments, cross=None), aimed)

    def alone(self) -> "AimedLayer":
        """The same without a pool, for other processes."""
        return replace(self, rounder=self.rounder.alone())

    def codes(self, request: LayerRequest, rows: slice) -> Float32Array:
        """Codes float32[R, ...] of some rows; see :meth:`LayerRounder.unfitted`."""
        return self.rounder.unfitted(self.weight[rows], request.grid.rows(rows))

    def rounded(
        self, target_output: TargetOutput, request: LayerRequest, codes: Float32Array
    ) -> RoundedLayer:
        """Codes float32[O, ...] and bias as they are written."""
        layer, settings, bias = target_output.layer.site.layer, request.settings, target_output.bias
        grid, quantized = self.rounder.fitted(self.weight, codes, request.grid), {}
        for value, doubled in request.doubled.items():
            rows = np.flatnonzero(request.bits == value)
            stored = MAX_BITS if is_coded(value) else value
            quantized[value] = written_codes(codes[rows], grid.rows(rows), stored, halves=doubled)
        found, moments = RoundedLayer.of(layer.weight, request.bits, quantized), self.moments
        if bias is None or not settings.bias_correction or moments.offset is None:
            return found
        change = moments.offset - moments.mean_output(found.weight - layer.weight)
        corrected = (bias.astype(np.float64) + change).astype(np.float32)
        return RoundedLayer.of(layer.weight, request.bits, quantized, corrected)


def rounded_layer(
    target_output: TargetOutput,
    request: LayerRequest,
    sums: MomentSums,
    pool: ThreadPoolExecutor,
) -> RoundedLayer:
    """Codes and bias of a layer; see :meth:`AimedLayer.of`."""
    aimed = AimedLayer.of(target_output, request, sums, pool)
    return aimed.rounded(target_output, request, aimed.codes(request, slice(None)))


def row_parts(target_output: TargetOutput, workers: int) -> list[slice]:
    """The rows of a wide layer in parts for so many workers; of others all in one.

    Changes no result: parts have whole blocks of rows.
    """
    layer, panels = target_output.layer.site.layer, target_output.layer.panels
    blocks = -(-layer.channels // ROUNDED_ROWS)
    if len(panels) > 1 or layer.channels * panels.width**2 < WIDE:
        blocks = 1
    size = ROUNDED_ROWS * -(-blocks // min(blocks, workers))
    if blocks == 1:
        return [slice(0, layer.channels)]
    return [slice(start, start + size) for start in range(0, layer.channels, size)]
