"""What the tasks of rounding take, measured on one block of images.

The very functions run that workers run. Of layers of one shape the first is rounded and stands for
all, and for the table one layer of middling size, from which the others follow by their work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._quantizer.affine import quantize
from onnxsemi._quantizer.plan_codes import LayerCodes
from onnxsemi._quantizer.rounded_plan import RoundedLayer
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.aimed_layer import LayerRequest, row_parts
from onnxsemi._rounding.grid import Grid
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._rounding.shares import sum_parts
from onnxsemi._rounding.target_output import TargetOutput, find_way
from onnxsemi._rounding.walk_tasks import (
    Look,
    Tensors,
    float_outputs,
    go_on,
    known_of,
    row_codes,
)
from onnxsemi._runtime.batch_sizes import BLOCK_IMAGES
from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.runner import Batch

_BITS = 4  # of the plan that is rounded
_SHARE = 0.1  # of the mean square of the inputs is added to the diagonal: as on few images
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LayerTimes:
    """What a layer takes, in CPU seconds of one thread.

    Attributes:
        look: Sums of a block of images.
        add: Adding them to others in a plan.
        add_spread: Likewise for the table, which goes by how much the blocks differ.
        aimed: Its factor, and what its weights move by; to prepare it for the table takes as long.
        rows: Codes of its rows in a plan.
        joined: What is left then.
        parts: Into how many its rows are dealt at most.
        table: Rounding it for the table at one bitwidth, whose grid is chosen.
        moved: Bytes of its sums.
        sum_parts: Into how many parts its sums are dealt to be added up.
    """

    look: float
    add: float
    add_spread: float
    aimed: float
    rows: float
    joined: float
    parts: int
    table: float
    moved: int
    sum_parts: int

    def codes(self, workers: int = 1) -> float:
        """Rounding it in a plan, by so many workers."""
        return self.aimed + self.rows / min(self.parts, workers) + self.joined


@dataclass(frozen=True)
class WalkTimes:
    """What a plan takes.

    Attributes:
        outputs: The float model's target outputs of a block of images.
        gone_on: What goes on between the layers of a block of images.
        layers: The layers.
    """

    outputs: float
    gone_on: float
    layers: tuple[LayerTimes, ...]


def walk_times(workload: Workload, settings: RoundingSettings) -> WalkTimes:
    """Round a plan of one bitwidth on one block of images.

    Args:
        workload: The float model and images; the first are used.
        settings: How to round.
    """
    with one_thread():
        return _Timing(workload.first(BLOCK_IMAGES), settings).measured()


@dataclass
class _Timing:
    """A plan under way.

    Attributes:
        codes: Of layers so far, to the nearest level: it does not matter for the time.
        looks: Seconds of a look at each layer, with what was seen of it.
        rounding: Shape of a layer -> seconds of adding its sums and of its codes, in their order.
        table: Shape of a layer -> rounds it for the table.
    """

    workload: Workload
    settings: RoundingSettings
    codes: dict[str, LayerCodes] = field(default_factory=dict)
    looks: list[tuple[TargetOutput, float]] = field(default_factory=list)
    rounding: dict[tuple[int, ...], tuple[float, ...]] = field(default_factory=dict)
    table: dict[tuple[int, ...], Callable[[], Any]] = field(default_factory=dict)

    def measured(self) -> WalkTimes:
        few, gone_on = self.workload, 0.0
        there: Tensors = {}
        share = {0: Batch(0, len(few.images))}
        outputs, wanted = _timed(float_outputs, few, share, 0)
        for number, step in enumerate(find_way(few.classifier, few.image)):
            for place, (target_output, part) in enumerate(step.target_outputs):
                look, own = Look(number, place, 0), known_of(part, self.codes)
                seconds, sums = _timed(look.sums, few, share, there, wanted, own)
                self.looks.append((target_output, seconds))
                self._round(look, target_output, sums)
            if step.keeps:
                own = known_of(step.onward, self.codes)
                seconds, there = _timed(go_on, few, there, share, number, own)
                gone_on += seconds
        return WalkTimes(outputs, gone_on, tuple(self._layers()))

    def _round(self, look: Look, target_output: TargetOutput, sums: list[list[BlockSums]]) -> None:
        layer, scheme = target_output.layer.site.layer, self.workload.scheme
        every, bits = quantize(layer.weight, _BITS, scheme), np.full(layer.channels, _BITS, np.int8)
        self.codes[layer.name] = LayerCodes.of(RoundedLayer.of(layer.weight, bits, {_BITS: every}))
        if layer.weight.shape in self.rounding:
            return
        damping = _damping(sums[0])
        request = LayerRequest(
            layer.name, bits, Grid.of(every), {_BITS: False}, damping, self.settings, scheme
        )
        few = self.workload
        aim, aimed = _timed(look.aimed, few, request, None, [sums])
        rows, codes = _timed(row_codes, aimed, request, slice(None))
        rest, _ = _timed(look.joined, few, request, aimed, [codes])
        patches, adding = target_output.layer.patches[0], []
        inputs = [replace(part, cross=None, distance=None) for part in sums[0]]
        for parts, count in ((sums[0], layer.channels), (inputs, 0)):
            total = MomentSums(patches.groups, patches.size, count)
            total.add(parts)
            adding.append(_timed(total.add, parts)[0])
        self.rounding[layer.weight.shape] = *adding, aim, rows, rest

        def table() -> Any:
            moments = total.moments(centred=False, damping=damping)
            with few.running() as runner:
                rounder = LayerRounder(moments, self.settings, scheme, runner.pool)
                return _timed(rounder.at, layer.weight, _BITS)

        self.table[layer.weight.shape] = table

    def _layers(self) -> list[LayerTimes]:
        work = {one.layer.site.layer.weight.shape: _table_work(one) for one, _ in self.looks}
        mean = float(np.mean(list(work.values())))
        middling = min(work, key=lambda shape: abs(work[shape] - mean))
        each = self.table[middling]()[0] / work[middling]
        found = []
        for one, look in self.looks:
            shape = one.layer.site.layer.weight.shape
            parts = len(row_parts(one, one.layer.site.layer.channels))
            given = look, *self.rounding[shape], parts, each * work[shape], one.sum_bytes
            given = *given, sum_parts(one.layer)
            found.append(LayerTimes(*given))
        return found


def _table_work(one: TargetOutput) -> int:
    """What rounding a prepared layer takes, beside other layers."""
    panels = one.layer.panels
    return len(panels) * panels.width**2 * one.layer.site.layer.channels


def _damping(parts: list[BlockSums]) -> Float64Array:
    """float64[P]."""
    squares = [
        np.einsum("gkk->g", part.second) / part.second.shape[1] / part.samples for part in parts
    ]
    return _SHARE * np.concatenate(squares).astype(np.float64)


def _timed(work: Callable[..., _Value], *given: Any) -> tuple[float, _Value]:
    """CPU seconds of this process, and what it gives."""
    began = time.process_time()
    found = work(*given)
    return time.process_time() - began, found
