"""Rounding a plan layer after layer, each for the inputs that the quantized layers before it give.

With x the inputs of a layer in the model as far as it is quantized, and d the distance of its
output from the float model's while its own weights are still float32, weights and bias first move
to where they make up for it, and are rounded from there:

    W + cov(d, x) (cov(x) + damping)^-1

The output of a layer that is only added to a shortcut is the sum: the layer then makes up for what
the shortcut has lost, too. (Measured by ``benchmarks/bias_correction.py``, CIFAR-10 ResNet-20,
ranges ``output``, all layers at 3 and 2 bits: KL 0.59 and 0.35 of that of rounding each layer for
the float model's inputs.) The idea of aiming at the float model's outputs is that of GPTAQ (Li et
al., ICML 2025).

The model is gone through once a plan, from layer to layer: what goes on between them is kept, and d
follows from x, which is at hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from onnxsemi._arrays import Float32Array, Int8Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.segments import Segment, segment_model
from onnxsemi._model.targets import Site
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Progress
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.grid import written_codes
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.observed_layers import blocks, images_of
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments
from onnxsemi._rounding.spill import ArraySpill, SpilledArray
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import LayerStep, TargetOutput, find_target_outputs, find_way
from onnxsemi._runtime.batch_sizes import ROOMY
from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._runtime.sessions import Session


class SequentialRounder:
    """Rounds plans for the inputs of the model as far as it is quantized."""

    def __init__(
        self,
        workload: Workload,
        table: RoundingTable,
        settings: RoundingSettings,
        seed: int,
    ) -> None:
        """Cut the model into segments.

        Args:
            workload: The float model and calibration images.
            table: Grids of every channel; codes of layers that cannot be looked at.
            settings: How to round.
            seed: Of the positions that are drawn.
        """
        self._workload, self._table, self._settings, self._seed = workload, table, settings, seed
        self._target_outputs = find_target_outputs(workload.classifier, workload.image)
        self._steps = find_way(workload.classifier, workload.image)
        self._float: dict[str, list[SpilledArray]] = {}
        self._sessions: dict[Segment, Session] = {}

    def __call__(self, plan: BitPlan, progress: Progress) -> RoundedPlan:
        """Round a plan.

        Args:
            plan: Bits of every target channel.
            progress: Told of every layer.
        """
        progress.start("rounding", len(plan.bits))
        with one_thread(), self._workload.running() as runner:
            if not self._float:
                self._float = self._float_values(runner)
            walk = _Walk(
                self._workload, self._table, self._settings, self._seed, runner, self._sessions
            )
            walk.add_from_table(
                plan, {target_output.layer.name for target_output in self._target_outputs}
            )
            for step in self._steps:
                for target_output, part in step.target_outputs:
                    walk.pass_layer(
                        target_output, part, plan, self._float[target_output.layer.name]
                    )
                    progress.step(target_output.layer.name)
                walk.go_on(step)
        layers = {name: walk.found[name] for name in plan.bits}
        return RoundedPlan(plan, self._table.scheme, layers)

    def _float_values(self, runner: Runner) -> dict[str, list[SpilledArray]]:
        """Layer -> the float model's target output at the drawn positions, block by block."""
        workload, spill = self._workload, ArraySpill(self._workload.free)
        found: dict[str, list[SpilledArray]] = {
            target_output.layer.name: [] for target_output in self._target_outputs
        }
        for group in in_groups(self._target_outputs, lambda target_output: target_output.held):
            names = list(dict.fromkeys(target_output.tensor for target_output in group))
            session = Session(with_outputs(workload.classifier.proto, names).SerializeToString())
            for number, block in enumerate(blocks(workload)):
                pixels = images_of(workload, block)
                values = pixels | runner.spread_rows(session, pixels)
                for target_output in group:
                    drawn = target_output.drawn(values[target_output.tensor], self._seed, number)
                    found[target_output.layer.name].append(spill.keep(drawn))
        return found


@dataclass
class _Walk:
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
        self._roomy = self.workload.free > ROOMY
        # name -> block by block; the image is elsewhere
        self._there: dict[str, list[SpilledArray]] = {}

    def add_from_table(self, plan: BitPlan, rest: set[str]) -> None:
        """Take the layers that cannot be looked at from the table."""
        for site in self.workload.classifier.sites:
            name = site.layer.name
            if name not in rest:
                self.found[name] = _from_table(self.table, name, plan, site)

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
            self.found[name] = self._rounded(
                target_output, bits, self._moments(target_output, part, wanted)
            )

    def go_on(self, step: LayerStep) -> None:
        """Compute what the next step takes, and drop the rest."""
        there = {name: self._there[name] for name in step.keeps if name in self._there}
        if step.onward.gives:
            session, spill = self._session(step.onward), ArraySpill(self.workload.free)

            def run(item: tuple[int, Batch]) -> dict[str, Float32Array]:
                return self.runner.run_rows(session, self._load(step.onward.takes, item))

            for values in self.runner.map(run, self._blocks):
                for name in step.onward.gives:
                    there.setdefault(name, []).append(spill.keep(values[name]))
        self._there = there

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
        session = Session(model, shared=self._roomy)
        if self._roomy and not weights:
            self.sessions[part] = session
        return session

    def _moments(
        self, target_output: TargetOutput, part: Segment, wanted: list[SpilledArray]
    ) -> SecondMoments:
        patches, outputs = target_output.layer.patches[0], target_output.layer.site.layer.channels
        session = self._session(part) if part.gives else None
        there = [name for name in target_output.seen if name not in part.gives]

        def look(item: tuple[int, Batch]) -> MomentSums:
            values, positions = self._load(there, item), patches.positions(self.seed, item[0])
            if session is not None:
                given = self._load(part.takes, item)
                values |= given | self.runner.run_rows(session, given)
            sums = MomentSums(patches.groups, patches.size, outputs)
            target_output.add(sums, values, positions, wanted[item[0]].load())
            return sums

        total = MomentSums(patches.groups, patches.size, outputs)
        together = max(
            1, min(self.workload.threads, self.workload.free // (2 * target_output.sum_bytes))
        )
        for part_sums in self.runner.map(look, self._blocks, together):
            total.merge(part_sums)
        centred = self.settings.bias_correction and target_output.bias is not None
        return total.moments(centred=centred, damping=self.table.damping[target_output.layer.name])

    def _rounded(
        self, target_output: TargetOutput, bits: Int8Array, moments: SecondMoments
    ) -> RoundedLayer:
        layer, settings, table = target_output.layer.site.layer, self.settings, self.table
        rounder, grid = (
            LayerRounder(moments, settings, table.scheme, self.runner.pool),
            table.grid(layer, bits),
        )
        assert moments.cross is not None
        codes = rounder.codes(rounder.aimed(layer.weight, moments.cross), grid)
        quantized = {}
        for value in np.unique(bits[bits != FLOAT_BITS]).tolist():
            rows = np.flatnonzero(bits == value)
            doubled = table.at(layer, value).doubled
            quantized[value] = written_codes(codes[rows], grid.rows(rows), value, halves=doubled)
        found = RoundedLayer.of(layer.weight, bits, quantized)
        if target_output.bias is None or not settings.bias_correction or moments.offset is None:
            return found
        change = moments.offset - moments.mean_output(found.weight - layer.weight)
        bias = (target_output.bias.astype(np.float64) + change).astype(np.float32)
        return RoundedLayer.of(layer.weight, bits, quantized, bias)


def from_table(classifier: Classifier, table: RoundingTable, plan: BitPlan) -> RoundedPlan:
    """Every layer of a plan as it stands in the table, with its biases."""
    layers = {
        site.layer.name: _from_table(
            table, site.layer.name, plan, site, correctable_bias(classifier, site)
        )
        for site in classifier.sites
    }
    return RoundedPlan(plan, table.scheme, {name: layers[name] for name in plan.bits})


def _from_table(
    table: RoundingTable, name: str, plan: BitPlan, site: Site, bias: Float32Array | None = None
) -> RoundedLayer:
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
