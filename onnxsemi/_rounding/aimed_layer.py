"""Rounding one layer of a plan towards the float model's outputs, from what was seen of its inputs.

Weights and bias first move to where they make up for what the layers before have lost
(:mod:`onnxsemi._rounding.sequential`); then they are rounded on the grids of the table.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float64Array, Int8Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS, is_coded
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import RoundedLayer
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.grid import Grid, written_codes
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.second_moments import MomentSums
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import TargetOutput


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


def rounded_layer(
    target_output: TargetOutput,
    request: LayerRequest,
    sums: MomentSums,
    pool: ThreadPoolExecutor,
) -> RoundedLayer:
    """Codes and bias of a layer.

    Args:
        target_output: The layer, and what it brings close to the float model.
        request: How.
        sums: Of all blocks of images.
        pool: Works on blocks of rows side by side; called by none of its threads.
    """
    layer, settings, bias = target_output.layer.site.layer, request.settings, target_output.bias
    centred = settings.bias_correction and bias is not None
    moments = sums.moments(centred=centred, damping=request.damping, each=pool.map)
    rounder = LayerRounder(moments, settings, request.scheme, pool)
    assert moments.cross is not None
    codes, grid = rounder.codes(rounder.aimed(layer.weight, moments.cross), request.grid)
    quantized = {}
    for value, doubled in request.doubled.items():
        rows = np.flatnonzero(request.bits == value)
        stored = MAX_BITS if is_coded(value) else value
        quantized[value] = written_codes(codes[rows], grid.rows(rows), stored, halves=doubled)
    found = RoundedLayer.of(layer.weight, request.bits, quantized)
    if bias is None or not settings.bias_correction or moments.offset is None:
        return found
    change = moments.offset - moments.mean_output(found.weight - layer.weight)
    corrected = (bias.astype(np.float64) + change).astype(np.float32)
    return RoundedLayer.of(layer.weight, request.bits, quantized, corrected)
