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
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from onnxsemi.arrays import Float32Array, Int64Array
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.blas import one_thread
from onnxsemi.measure.groups import in_groups
from onnxsemi.measure.input_moments import Tapped, blocks, images_of, in_waves, run_rows
from onnxsemi.measure.shards import SHARD_IMAGES, Shard, workers
from onnxsemi.measure.spill import Kept, Spill
from onnxsemi.model.bias import correctable_bias
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.expose import with_outputs
from onnxsemi.model.index import GraphIndex
from onnxsemi.model.rows import row_shapes
from onnxsemi.model.segments import Segment, find_segments, segment_model
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
        bias: float32[O], its bias; None if that cannot be changed.
        held: Bytes of the tensor for one block of images.
    """

    layer: Tapped
    tensor: str
    bias: Float32Array | None
    held: int

    @property
    def sum_bytes(self) -> int:
        """Of the sums of one block of images, and the products that are added to them."""
        return 2 * self.layer.moment_bytes + 12 * self.layer.site.layer.weight.size

    def drawn(self, values: Float32Array, seed: int, number: int) -> Float32Array:
        """Values of the tensor at the positions drawn of a block: float32[O, S]."""
        patches = self.layer.patches[0]
        return patches.outputs_at(values, patches.positions(seed, number))


class SequentialRounder:
    """Rounds plans for the inputs of the model as far as it is quantized."""

    def __init__(
        self,
        bench: Bench,
        table: RoundingTable,
        layers: list[Tapped],
        settings: RoundingSettings,
        seed: int,
    ) -> None:
        """Cut the model into segments.

        Args:
            bench: The float model and calibration images.
            table: Grids of every channel; codes of layers that cannot be looked at.
            layers: Layers that can.
            settings: How to round.
            seed: Of the positions that are drawn.
        """
        self._bench, self._table, self._settings, self._seed = bench, table, settings, seed
        shapes = row_shapes(bench.classifier, bench.images.batch(0, 1).shape[1:])
        self._segments = find_segments(bench.classifier, shapes)
        index = GraphIndex.of(bench.classifier.proto.graph)
        self._aims = []
        for layer in (layer for layer in layers if len(layer.site.nodes) == 1):
            tensor, bias = (
                _aim(index, layer, shapes),
                correctable_bias(bench.classifier, layer.site),
            )
            held = 4 * SHARD_IMAGES * int(np.prod(shapes[tensor]))
            self._aims.append(Aim(layer, tensor, bias, held))
        self._float: dict[str, list[Kept]] = {}

    def __call__(self, plan: BitPlan, progress: Progress) -> RoundedPlan:
        """Round a plan.

        Args:
            plan: Bits of every target channel.
            progress: Told of every layer.
        """
        progress.start("rounding", len(plan.bits))
        with one_thread(), workers(self._bench.threads) as pool:
            if not self._float:
                self._float = self._float_values(pool)
            walk = _Walk(self._bench, self._table, self._settings, self._seed, pool)
            walk.add_from_table(plan, {aim.layer.name for aim in self._aims})
            for place, segment in enumerate(self._segments):
                for aim in self._aims:
                    if aim.layer.name in segment.layers:
                        walk.pass_layer(segment, aim, plan, self._float[aim.layer.name])
                        progress.step(aim.layer.name)
                if place + 1 < len(self._segments):
                    walk.go_on(segment)
        layers = {name: walk.found[name] for name in plan.bits}
        return RoundedPlan(plan, self._table.scheme, layers)

    def _float_values(self, pool: ThreadPoolExecutor) -> dict[str, list[Kept]]:
        """Layer -> the float model's values of its aim at the drawn positions, block by block."""
        bench, spill = self._bench, Spill(self._bench.free // 4)
        found: dict[str, list[Kept]] = {aim.layer.name: [] for aim in self._aims}
        for group in in_groups(self._aims, lambda aim: aim.held):
            names = list(dict.fromkeys(aim.tensor for aim in group))
            session = Session(with_outputs(bench.classifier.proto, names).SerializeToString())
            for number, block in enumerate(blocks(bench)):
                values = run_rows(bench, session, images_of(bench, block), pool)
                for aim in group:
                    drawn = aim.drawn(values[aim.tensor], self._seed, number)
                    found[aim.layer.name].append(spill.keep(drawn))
        return found


@dataclass
class _Walk:
    """One plan under way.

    Attributes:
        found: Layers that are rounded.
    """

    bench: Bench
    table: RoundingTable
    settings: RoundingSettings
    seed: int
    pool: ThreadPoolExecutor
    found: dict[str, RoundedLayer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._blocks = list(enumerate(blocks(self.bench)))
        self._entering: list[Kept] | None = None  # block by block; None for the images

    def add_from_table(self, plan: BitPlan, rest: set[str]) -> None:
        """Take the layers that cannot be looked at from the table."""
        for site in self.bench.classifier.sites:
            name = site.layer.name
            if name not in rest:
                self.found[name] = _from_table(self.table, name, plan, site)

    def pass_layer(self, segment: Segment, aim: Aim, plan: BitPlan, wanted: list[Kept]) -> None:
        """Round a layer of a segment; those before it are rounded."""
        name, layer = aim.layer.name, aim.layer.site.layer
        bits = plan.bits[name]
        if set(bits) == {FLOAT_BITS}:
            self.found[name] = RoundedLayer.of(layer.weight, bits, {})
        else:
            self.found[name] = self._rounded(aim, bits, self._moments(segment, aim, wanted))

    def go_on(self, segment: Segment) -> None:
        """Take what the segment gives to the next."""
        session, spill = self._session(segment, ()), Spill(self.bench.free // 4)

        def run(item: tuple[int, Shard]) -> Float32Array:
            given = {segment.source: self._enter(item)}
            return run_rows(self.bench, session, given)[segment.result]

        results = in_waves(self.pool, self.bench.threads, run, self._blocks)
        self._entering = [spill.keep(result) for result in results]

    def _enter(self, item: tuple[int, Shard]) -> Float32Array:
        """What a block brings to the segment in the model as far as it is quantized."""
        number, block = item
        if self._entering is not None:
            return self._entering[number].load()
        ((_, images),) = images_of(self.bench, block).items()
        return images

    def _session(self, segment: Segment, outputs: tuple[str, ...]) -> Session:
        """The segment as far as it is quantized."""
        weights = {n: self.found[n].weight for n in segment.layers if n in self.found}
        biases = {n: b for n in weights if (b := self.found[n].bias) is not None}
        return Session(segment_model(self.bench.classifier, segment, weights, biases, outputs))

    def _moments(self, segment: Segment, aim: Aim, wanted: list[Kept]) -> Moments:
        source, patches = aim.layer.inputs[0], aim.layer.patches[0]
        names = (aim.tensor, *([source] if source != segment.source else []))
        session, outputs = self._session(segment, names), aim.layer.site.layer.channels

        def look(item: tuple[int, Shard]) -> MomentSums:
            number = item[0]
            values = run_rows(self.bench, session, {segment.source: self._enter(item)})
            columns = patches.columns(values[source], patches.positions(self.seed, number))
            sums = MomentSums(patches.groups, patches.size, outputs)
            drawn = aim.drawn(values[aim.tensor], self.seed, number)
            sums.add(columns, wanted[number].load() - drawn)
            return sums

        total = MomentSums(patches.groups, patches.size, outputs)
        together = max(1, min(self.bench.threads, self.bench.free // (2 * aim.sum_bytes)))
        for part in in_waves(self.pool, together, look, self._blocks):
            total.merge(part)
        centred = self.settings.bias_correction and aim.bias is not None
        return total.moments(centred=centred, damping=self.table.damping[aim.layer.name])

    def _rounded(self, aim: Aim, bits: tuple[int, ...], moments: Moments) -> RoundedLayer:
        layer, settings, table = aim.layer.site.layer, self.settings, self.table
        rounder, grid = (
            LayerRounder(moments, settings, table.scheme, self.pool),
            table.grid(layer, bits),
        )
        assert moments.cross is not None
        codes = rounder.codes(rounder.aimed(layer.weight, moments.cross), grid)
        bits_of: Int64Array = np.array(bits)
        quantized = {}
        for value in sorted(set(bits) - {FLOAT_BITS}):
            rows = np.flatnonzero(bits_of == value)
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
    layer, bits_of = site.layer, np.array(plan.bits[name])
    values = sorted(set(bits_of.tolist()) - {FLOAT_BITS})
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


def _aim(index: GraphIndex, layer: Tapped, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The layer's output, or the sum that is the only use of it."""
    output = layer.outputs[0]
    users = index.consumers.get(output, [])
    if len(users) != 1:
        return output
    node = index.graph.node[users[0]]
    both = len(node.input) == 2 and len(set(node.input)) == 2
    same = all(shapes.get(name) == shapes.get(output) for name in (*node.input, *node.output))
    return str(node.output[0]) if node.op_type in ("Add", "Sum") and both and same else output
