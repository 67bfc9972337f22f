"""One way through the model: each layer rounded, block by block gone on with.

What goes into a layer is computed for a block of images just before that block is looked at; no
thread waits for the others in between.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from onnxsemi._arrays import Float32Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.segments import Segment, segment_model
from onnxsemi._model.targets import Site
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._quantizer.rounded_plan import RoundedLayer
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.aimed_layer import LayerRequest, rounded_layer
from onnxsemi._rounding.observed_layers import blocks, images_of
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._rounding.spill import OF_USE, ArraySpill, SpilledArray
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import LayerStep, TargetOutput
from onnxsemi._runtime.batch_sizes import ROOMY
from onnxsemi._runtime.runner import Batch, InOrder, Runner
from onnxsemi._runtime.sessions import Session


@dataclass(frozen=True, eq=False)
class _Onward:
    """A step that is done, and how what the next one takes is computed.

    Attributes:
        step: The step that is done.
        session: Gives what is not there; None if nothing is lacking.
        spill: Keeps it.
    """

    step: LayerStep
    session: Session | None
    spill: ArraySpill


@dataclass
class Walk:
    """One plan under way.

    Attributes:
        sessions: Of parts without a rounded layer: the same for every plan, and kept for the next
            where memory is plenty.
        found: Layers that are rounded.
    """

    workload: Workload
    table: RoundingTable
    settings: RoundingSettings
    seed: int
    runner: Runner
    sessions: dict[Segment, Session]
    found: dict[str, RoundedLayer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._blocks = list(enumerate(blocks(self.workload)))
        self._roomy = self.workload.room(ROOMY + 1) > ROOMY
        # name -> number of a block -> its values; the image is elsewhere
        self._there: dict[str, dict[int, SpilledArray]] = {}
        self._onward: _Onward | None = None

    def add_from_table(self, plan: BitPlan, rest: set[str]) -> None:
        """Take the layers that cannot be looked at from the table."""
        for site in self.workload.classifier.sites:
            name = site.layer.name
            if name not in rest:
                self.found[name] = layer_from_table(self.table, name, plan, site)

    def pass_layer(
        self, target_output: TargetOutput, part: Segment, plan: BitPlan, wanted: list[SpilledArray]
    ) -> None:
        """Round a layer; those before it are rounded.

        Args:
            target_output: The layer.
            part: Gives what of it is not there.
            plan: Bits of every target channel.
            wanted: The float model's values of its tensor, block by block.
        """
        name, layer = target_output.layer.name, target_output.layer.site.layer
        bits = plan.bits[name]
        if (bits == FLOAT_BITS).all():
            self.found[name] = RoundedLayer.of(layer.weight, bits, {})
        else:
            request = LayerRequest.of(target_output, plan, self.table, self.settings)
            sums = self._sums(target_output, part, wanted)
            self.found[name] = rounded_layer(target_output, request, sums, self.runner.pool)

    def go_on(self, step: LayerStep) -> None:
        """Compute what the next step takes: when its first layer is looked at, block by block."""
        if self._onward is not None:  # no layer was looked at
            self._pass_blocks(lambda _: None, self.workload.together())
        session = self._session(step.onward) if step.onward.gives else None
        self._onward = _Onward(step, session, ArraySpill(self.workload.room(OF_USE)))

    def _pass_blocks(self, work: Callable[[tuple[int, Batch]], None], together: int) -> None:
        """Work on all blocks, so many at once, each as far on as the walk is."""

        def run(item: tuple[int, Batch]) -> None:
            self._advance(item)
            work(item)

        for _ in self.runner.map(run, self._blocks, together):
            self.workload.progress.step("", 0)
        if self._onward is not None:
            keeps = self._onward.step.keeps
            self._there = {name: self._there[name] for name in keeps if name in self._there}
            self._onward = None

    def _advance(self, item: tuple[int, Batch]) -> None:
        """Compute what the step takes that comes now, for a block of images."""
        if self._onward is None or self._onward.session is None:
            return
        onward = self._onward.step.onward
        values = self.runner.run_rows(self._onward.session, self._load(onward.takes, item))
        for name in onward.gives:
            self._there.setdefault(name, {})[item[0]] = self._onward.spill.keep(values[name])

    def _load(self, names: Iterable[str], item: tuple[int, Batch]) -> dict[str, Float32Array]:
        """Tensors that are there, for a block of images."""
        number, block = item
        return {
            name: self._there[name][number].load()
            if name in self._there
            else images_of(self.workload, block)[name]
            for name in names
        }

    def _session(self, part: Segment) -> Session:
        """A part of the model as far as it is quantized."""
        if part in self.sessions:
            return self.sessions[part]
        weights = {n: self.found[n].weight for n in part.layers if n in self.found}
        biases = {n: b for n in weights if (b := self.found[n].bias) is not None}
        model = segment_model(self.workload.classifier, part, weights, biases)
        session = self.workload.open(model, shared=self._roomy)
        if self._roomy and not weights:
            self.sessions[part] = session
        return session

    def _sums(
        self, target_output: TargetOutput, part: Segment, wanted: list[SpilledArray]
    ) -> MomentSums:
        patches, outputs = target_output.layer.patches[0], target_output.layer.site.layer.channels
        session = self._session(part) if part.gives else None
        there = [name for name in target_output.seen if name not in part.gives]

        total = MomentSums(patches.groups, patches.size, outputs)
        turns = InOrder[list[BlockSums]](total.add)

        def look(item: tuple[int, Batch]) -> None:
            values, positions = self._load(there, item), patches.positions(self.seed, item[0])
            if session is not None:
                given = self._load(part.takes, item)
                values |= given | self.runner.run_rows(session, given)
            short_of = wanted[item[0]].load()
            turns.give(item[0], target_output.block(total, values, positions, short_of))

        self._pass_blocks(look, self.workload.together(2 * target_output.sum_bytes))
        return total


def layer_from_table(
    table: RoundingTable, name: str, plan: BitPlan, site: Site, bias: Float32Array | None = None
) -> RoundedLayer:
    """A layer of a plan as it stands in the table, with its bias if that is given: float32[O]."""
    layer, bits_of = site.layer, plan.bits[name]
    values = np.unique(bits_of[bits_of != FLOAT_BITS]).tolist()
    rows = {value: np.flatnonzero(bits_of == value) for value in values}
    quantized = {value: table.at(layer, value).take(rows[value]) for value in values}
    if bias is None or not values or table.bias_shift(layer, values[0]) is None:
        return RoundedLayer.of(layer.weight, plan.bits[name], quantized)
    corrected = bias.copy()
    for value in values:
        shift = table.bias_shift(layer, value)
        if shift is not None:
            corrected[rows[value]] += shift[rows[value]]
    return RoundedLayer.of(layer.weight, plan.bits[name], quantized, corrected)
