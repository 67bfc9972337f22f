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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnxsemi.arrays import Float32Array, Int8Array, Int64Array
from onnxsemi.batch_sizes import BLOCK_IMAGES, ROOMY
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.blas import one_thread
from onnxsemi.measure.groups import in_groups
from onnxsemi.measure.input_moments import Tapped, blocks, images_of, tapped
from onnxsemi.measure.runner import Batch, Runner
from onnxsemi.measure.spill import Kept, Spill
from onnxsemi.model.bias import correctable_bias
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.expose import with_outputs
from onnxsemi.model.fact import fact
from onnxsemi.model.rows import Shape, row_shapes
from onnxsemi.model.segments import Segment, find_steps, part_between, segment_model
from onnxsemi.model.targets import Site
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress
from onnxsemi.quantizer.rounded import RoundedLayer, RoundedPlan
from onnxsemi.rounding.grid import stored
from onnxsemi.rounding.layer import LayerRounder
from onnxsemi.rounding.moments import Moments, MomentSums
from onnxsemi.rounding.settings import RoundingSettings
from onnxsemi.rounding.table import RoundingTable
from onnxsemi.runtime import Session


@dataclass(frozen=True, eq=False)
class Aim:
    """A layer and the tensor that it brings close to the float model's.

    Attributes:
        layer: The layer, of one node.
        tensor: Its output, or the sum that its output only goes into.
        beside: What is added to its output there; None if the tensor is its output.
        bias: float32[O], its bias; None if that cannot be changed.
        held: Bytes of the tensor for one block of images.
    """

    layer: Tapped
    tensor: str
    beside: str | None
    bias: Float32Array | None
    held: int

    @property
    def sum_bytes(self) -> int:
        """Of the sums of one block of images, and the products that are added to them."""
        return 2 * self.layer.moment_bytes + 12 * self.layer.site.layer.weight.size

    @property
    def source(self) -> str:
        """Name of the layer's input."""
        return self.layer.inputs[0]

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of what :meth:`add` needs."""
        if self.bias is None:
            return (self.source, self.tensor)
        return (self.source,) if self.beside is None else (self.source, self.beside)

    def drawn(self, values: Float32Array, seed: int, number: int) -> Float32Array:
        """Values of the tensor at the positions drawn of a block: float32[O, S]."""
        patches = self.layer.patches[0]
        return patches.outputs_at(values, patches.positions(seed, number))

    def add(
        self,
        sums: MomentSums,
        values: Mapping[str, Float32Array],
        positions: Int64Array,
        wanted: Float32Array,
    ) -> None:
        """Add what is seen at some positions as long as the layer is float32.

        Args:
            sums: Of the layer's inputs, and of what its tensor is short of.
            values: What is seen.
            positions: int64[P].
            wanted: float32[O, S], the tensor in the float model.
        """
        patches, weight = self.layer.patches[0], self.layer.site.layer.weight
        inputs, each = values[self.source], len(weight) // patches.groups
        if self.bias is None:
            wanted = wanted - patches.outputs_at(values[self.tensor], positions)
        elif self.beside is not None:
            wanted = wanted - patches.outputs_at(values[self.beside], positions)
        for groups in patches.parts(len(inputs), len(positions)):
            columns = patches.columns(inputs, positions, groups)
            outputs = slice(groups.start * each, groups.stop * each)
            short = wanted[outputs]
            if self.bias is not None:
                given = patches.products(weight[outputs], columns)
                short = short - (given + self.bias[outputs, None])
            sums.add(columns, short, groups)


@dataclass(frozen=True, eq=False)
class Step:
    """The layers that are rounded before the model is gone on with.

    Attributes:
        aims: The layers, each with the part of the model that gives what of it is not there.
        onward: The part that gives what is not there of what the next step takes.
        keeps: Names of what the next step takes.
    """

    aims: tuple[tuple[Aim, Segment], ...]
    onward: Segment
    keeps: tuple[str, ...]


class SequentialRounder:
    """Rounds plans for the inputs of the model as far as it is quantized."""

    def __init__(
        self,
        bench: Bench,
        table: RoundingTable,
        settings: RoundingSettings,
        seed: int,
    ) -> None:
        """Cut the model into segments.

        Args:
            bench: The float model and calibration images.
            table: Grids of every channel; codes of layers that cannot be looked at.
            settings: How to round.
            seed: Of the positions that are drawn.
        """
        self._bench, self._table, self._settings, self._seed = bench, table, settings, seed
        self._aims = find_aims(bench.classifier, bench.image)
        self._steps = find_way(bench.classifier, bench.image)
        self._float: dict[str, list[Kept]] = {}
        self._sessions: dict[Segment, Session] = {}

    def __call__(self, plan: BitPlan, progress: Progress) -> RoundedPlan:
        """Round a plan.

        Args:
            plan: Bits of every target channel.
            progress: Told of every layer.
        """
        progress.start("rounding", len(plan.bits))
        with one_thread(), self._bench.running() as runner:
            if not self._float:
                self._float = self._float_values(runner)
            walk = _Walk(
                self._bench, self._table, self._settings, self._seed, runner, self._sessions
            )
            walk.add_from_table(plan, {aim.layer.name for aim in self._aims})
            for step in self._steps:
                for aim, part in step.aims:
                    walk.pass_layer(aim, part, plan, self._float[aim.layer.name])
                    progress.step(aim.layer.name)
                walk.go_on(step)
        layers = {name: walk.found[name] for name in plan.bits}
        return RoundedPlan(plan, self._table.scheme, layers)

    def _float_values(self, runner: Runner) -> dict[str, list[Kept]]:
        """Layer -> the float model's values of its aim at the drawn positions, block by block."""
        bench, spill = self._bench, Spill(self._bench.free // 4)
        found: dict[str, list[Kept]] = {aim.layer.name: [] for aim in self._aims}
        for group in in_groups(self._aims, lambda aim: aim.held):
            names = list(dict.fromkeys(aim.tensor for aim in group))
            session = Session(with_outputs(bench.classifier.proto, names).SerializeToString())
            for number, block in enumerate(blocks(bench)):
                pixels = images_of(bench, block)
                values = pixels | runner.spread_rows(session, pixels)
                for aim in group:
                    drawn = aim.drawn(values[aim.tensor], self._seed, number)
                    found[aim.layer.name].append(spill.keep(drawn))
        return found


@dataclass
class _Walk:
    """One plan under way.

    Attributes:
        sessions: Of parts without a rounded layer: the same for every plan, and kept for the next
            where memory is plenty.
        found: Layers that are rounded.
    """

    bench: Bench
    table: RoundingTable
    settings: RoundingSettings
    seed: int
    runner: Runner
    sessions: dict[Segment, Session]
    found: dict[str, RoundedLayer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._blocks = list(enumerate(blocks(self.bench)))
        self._roomy = self.bench.free > ROOMY
        self._there: dict[str, list[Kept]] = {}  # name -> block by block; the image is elsewhere

    def add_from_table(self, plan: BitPlan, rest: set[str]) -> None:
        """Take the layers that cannot be looked at from the table."""
        for site in self.bench.classifier.sites:
            name = site.layer.name
            if name not in rest:
                self.found[name] = _from_table(self.table, name, plan, site)

    def pass_layer(self, aim: Aim, part: Segment, plan: BitPlan, wanted: list[Kept]) -> None:
        """Round a layer; those before it are rounded.

        Args:
            aim: The layer.
            part: Gives what of it is not there.
            plan: Bits of every target channel.
            wanted: The float model's values of its tensor, block by block.
        """
        name, layer = aim.layer.name, aim.layer.site.layer
        bits = plan.bits[name]
        if (bits == FLOAT_BITS).all():
            self.found[name] = RoundedLayer.of(layer.weight, bits, {})
        else:
            self.found[name] = self._rounded(aim, bits, self._moments(aim, part, wanted))

    def go_on(self, step: Step) -> None:
        """Compute what the next step takes, and drop the rest."""
        there = {name: self._there[name] for name in step.keeps if name in self._there}
        if step.onward.gives:
            session, spill = self._session(step.onward), Spill(self.bench.free // 4)

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
            else images_of(self.bench, block)[name]
            for name in names
        }

    def _session(self, part: Segment) -> Session:
        """A part of the model as far as it is quantized."""
        if part in self.sessions:
            return self.sessions[part]
        weights = {n: self.found[n].weight for n in part.layers if n in self.found}
        biases = {n: b for n in weights if (b := self.found[n].bias) is not None}
        model = segment_model(self.bench.classifier, part, weights, biases)
        session = Session(model, shared=self._roomy)
        if self._roomy and not weights:
            self.sessions[part] = session
        return session

    def _moments(self, aim: Aim, part: Segment, wanted: list[Kept]) -> Moments:
        patches, outputs = aim.layer.patches[0], aim.layer.site.layer.channels
        session = self._session(part) if part.gives else None
        there = [name for name in aim.seen if name not in part.gives]

        def look(item: tuple[int, Batch]) -> MomentSums:
            values, positions = self._load(there, item), patches.positions(self.seed, item[0])
            if session is not None:
                given = self._load(part.takes, item)
                values |= given | self.runner.run_rows(session, given)
            sums = MomentSums(patches.groups, patches.size, outputs)
            aim.add(sums, values, positions, wanted[item[0]].load())
            return sums

        total = MomentSums(patches.groups, patches.size, outputs)
        together = max(1, min(self.bench.threads, self.bench.free // (2 * aim.sum_bytes)))
        for part_sums in self.runner.map(look, self._blocks, together):
            total.merge(part_sums)
        centred = self.settings.bias_correction and aim.bias is not None
        return total.moments(centred=centred, damping=self.table.damping[aim.layer.name])

    def _rounded(self, aim: Aim, bits: Int8Array, moments: Moments) -> RoundedLayer:
        layer, settings, table = aim.layer.site.layer, self.settings, self.table
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
            quantized[value] = stored(codes[rows], grid.rows(rows), value, halves=doubled)
        found = RoundedLayer.of(layer.weight, bits, quantized)
        if aim.bias is None or not settings.bias_correction or moments.offset is None:
            return found
        change = moments.offset - moments.mean_output(found.weight - layer.weight)
        bias = (aim.bias.astype(np.float64) + change).astype(np.float32)
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


@fact
def find_aims(classifier: Classifier, image: Shape) -> tuple[Aim, ...]:
    """What each layer of one node brings close to the float model's, in graph order."""
    layers, shapes = tapped(classifier, image), row_shapes(classifier, image)
    return tuple(_aim(classifier, one, shapes) for one in layers if len(one.site.nodes) == 1)


def _aim(classifier: Classifier, layer: Tapped, shapes: Mapping[str, Shape]) -> Aim:
    """Of a layer's output, or of the sum that is the only use of it."""
    index = classifier.index
    tensor, beside = layer.outputs[0], None
    users = index.consumers.get(tensor, [])
    if len(users) == 1:
        node = index.graph.node[users[0]]
        both = len(node.input) == 2 and len(set(node.input)) == 2
        same = all(shapes.get(n) == shapes.get(tensor) for n in (*node.input, *node.output))
        if node.op_type in ("Add", "Sum") and both and same:
            (beside,) = (str(name) for name in node.input if name != tensor)
            tensor = str(node.output[0])
    held = 4 * BLOCK_IMAGES * int(np.prod(shapes[tensor]))
    return Aim(layer, tensor, beside, correctable_bias(classifier, layer.site), held)


@fact
def find_way(classifier: Classifier, image: Shape) -> tuple[Step, ...]:
    """The way through the model, layer after layer; behind the last one nothing is needed."""
    segments, aims = find_steps(classifier, image), find_aims(classifier, image)
    found = []
    for place, segment in enumerate(segments):
        takes = segments[place - 1].gives if place else (classifier.ends.image.name,)
        keeps = segment.gives if place + 1 < len(segments) else ()

        def part(names: Iterable[str], takes: Sequence[str] = takes) -> Segment:
            return part_between(classifier, takes, [n for n in names if n not in takes])

        inside = tuple((aim, part(aim.seen)) for aim in aims if aim.layer.name in segment.layers)
        found.append(Step(inside, part(keeps), keeps))
    return tuple(found)
