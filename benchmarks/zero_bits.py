"""What channels without any weights, 0 bits, would give the frontier: an experiment.

    python benchmarks/zero_bits.py resnet20 --shared ../shared --kilobytes 107 83

A channel at 0 bits is constant: its weights are zero, its bias takes up the mean of its output.
Where one convolution alone reads it, through a ReLU, as inside a residual block, it can leave the
model, and that convolution's weights for it with it; its mean then goes into that layer's bias.
The package does so only if asked, and never takes a channel out. Here the KL increase of 0 bits is
measured as that of any other, plans of one size are made in three ways, rounded layer after layer,
and compared with the float model on the test images:

*without*: 8 to 1 bits, the frontier as it is;
*rows*: 0 bits too, of which a channel's own weights are counted;
*columns*: what reads it is counted, too.

Sizes are counted, not written: codes, 40 bits of scale and zero point a channel, ``GROUP_BYTES`` a
group. First comes a table of sizes at equal predicted KL increase, then one of what was measured.
With ``--work``, what ``compress`` measures is kept there for the next time.
"""

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from cases import trained
from tables import versions

from onnxsemi import ReadOptions, SearchSettings, Settings
from onnxsemi._arrays import Float32Array, Float64Array, Int8Array, Int64Array
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.rounding import codes_of
from onnxsemi._pipeline.sensitivity import measure_sensitivity
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.groups import GROUP_BYTES
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme
from onnxsemi._quantizer.rounded_plan import RoundedLayer
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding import sequential
from onnxsemi._rounding.observed_layers import ObservedLayer, blocks, images_of, observed_layers
from onnxsemi._rounding.second_moments import SecondMoments
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import TargetOutput
from onnxsemi._run.folder import RunFolder, nowhere
from onnxsemi._run.journal import Journal
from onnxsemi._runtime.sessions import Session
from onnxsemi._search.frontier import monotone
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._stats.metrics import hits, kl_divergence
from onnxsemi._stats.paired import Paired

SIDE_BITS = 40
BIAS_BITS = 32
WAYS = ("without", "rows", "columns")
PREDICTED = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
Bits = Mapping[str, Int64Array]


@dataclass(frozen=True)
class Dropped:
    """Every channel at 0 bits: a rounding with one bitwidth, said to be 1.

    Attributes:
        means: Layer name -> float32[O], mean of what its weights give.
        scheme: Of the grids.
    """

    means: Mapping[str, Float32Array]
    scheme: Scheme = Scheme.ASYMMETRIC

    def at(self, layer: TargetLayer, bits: int) -> QuantizedChannels:
        """Zeros."""
        count = layer.channels
        ones, none = np.ones(count, np.float32), np.zeros(count, np.uint8)
        return QuantizedChannels(np.zeros(layer.weight.shape, np.uint8), ones, none, bits)

    def bias_shift(self, layer: TargetLayer, bits: int) -> Float32Array | None:
        """The mean that is lost."""
        del bits
        return self.means[layer.name]


def output_means(workload: Workload, layers: Sequence[ObservedLayer]) -> dict[str, Float32Array]:
    """Layer -> float32[O], mean of ``W x`` over images and positions."""
    names = [layer.outputs[0] for layer in layers]
    session = Session(with_outputs(workload.classifier.proto, names).SerializeToString())
    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    for block in blocks(workload):
        found = session.run(images_of(workload, block))
        for name in names:
            each = found[name].reshape(*found[name].shape[:2], -1).mean(axis=2, dtype=np.float64)
            sums[name] = sums[name] + each.sum(axis=0)
    means = {}
    for layer in layers:
        bias = correctable_bias(workload.classifier, layer.site)
        assert bias is not None
        means[layer.name] = (sums[layer.outputs[0]] / len(workload.images) - bias).astype(
            np.float32
        )
    return means


def readers(classifier: Classifier) -> dict[str, str]:
    """Layer -> the only convolution that reads its channels, through a ReLU."""
    index, found = GraphIndex.of(classifier.proto.graph), {}
    by_node = {site.nodes[0]: site.layer.name for site in classifier.sites}
    nodes = index.graph.node
    for _, node in index.nodes("Conv"):
        users = index.consumers.get(node.output[0], [])
        if len(users) != 1 or nodes[users[0]].op_type != "Relu":
            continue
        users = index.consumers.get(nodes[users[0]].output[0], [])
        if len(users) == 1 and nodes[users[0]].op_type == "Conv":
            reader = nodes[users[0]]
            if node.name in by_node and reader.name in by_node:
                found[by_node[node.name]] = by_node[reader.name]
    return found


@dataclass(frozen=True, eq=False)
class Allocation:
    """Finds plans: the least of KL increase + price * size.

    Attributes:
        kl_increase: Layer -> float64[O, 9], KL of every channel at 8 to 0 bits.
        weights: Layer -> weights of a channel.
        cells: Layer -> cells of its kernel.
        reader: Layer whose channels at 0 bits leave the model -> the layer that reads them.
        zeros: Whether there are 0 bits.
    """

    kl_increase: Mapping[str, Float64Array]
    weights: Mapping[str, int]
    cells: Mapping[str, int]
    reader: Mapping[str, str]
    zeros: bool

    def plan(self, price: float) -> dict[str, Int64Array]:
        """The plan at a price, nats a bit."""
        bits: dict[str, Int64Array] = {
            n: np.ones(len(h), np.int64) for n, h in self.kl_increase.items()
        }
        ladder = np.arange(8, -1 if self.zeros else 0, -1)
        for _ in range(30):
            before = dict(bits)
            for name, kl_increase in self.kl_increase.items():
                each = ladder * self.widths(bits)[name] + SIDE_BITS * (ladder > 0)
                if name in self.reader:
                    behind = self.reader[name]
                    read = self.cells[behind] * int(bits[behind].sum())
                    each = each + (BIAS_BITS + read) * (ladder > 0)
                cost = kl_increase[:, : len(ladder)] + price * each
                bits[name] = ladder[cost.argmin(axis=1)]
            if all((before[n] == bits[n]).all() for n in bits):
                break
        return self._merged(bits)

    def widths(self, bits: Bits) -> dict[str, int]:
        """Layer -> weights of a channel that are left."""
        left = dict(self.weights)
        for name, behind in self.reader.items():
            left[behind] -= self.cells[behind] * int((bits[name] == 0).sum())
        return left

    def size(self, bits: Bits) -> int:
        """Bits that a plan takes."""
        widths, total = self.widths(bits), 0
        for name, each in bits.items():
            gone = name in self.reader
            total += int(each.sum()) * widths[name] + SIDE_BITS * int((each > 0).sum())
            total -= BIAS_BITS * int((each == 0).sum()) if gone else 0
            total += 8 * GROUP_BYTES * len(set(each.tolist()) - ({0} if gone else set()))
        return total

    def predicted(self, bits: Bits) -> float:
        """Sum of the KL increase of all channels."""
        return sum(
            float(self.kl_increase[n][np.arange(len(b)), 8 - b].sum()) for n, b in bits.items()
        )

    def of(self, measure: Callable[[Bits], float], wanted: float, *, rising: bool) -> Bits:
        """The plan at which a measure of it, monotone in the price, reaches a value."""
        low, high = -30.0, 0.0
        for _ in range(50):
            middle = (low + high) / 2
            if (measure(self.plan(10**middle)) > wanted) == rising:
                high = middle
            else:
                low = middle
        return self.plan(10**high)

    def _merged(self, bits: dict[str, Int64Array]) -> dict[str, Int64Array]:
        """Without groups that cost more than wider codes: as ``frontier.merged_groups``."""
        for name, each in bits.items():
            width = self.widths(bits)[name]
            least = 1 if name in self.reader else 0
            while len(ladder := sorted(set(each[each >= least].tolist()))) > 1:
                added = [
                    int((each == b).sum()) * (width * (wider - b) + SIDE_BITS * (b == 0))
                    for b, wider in pairwise(ladder)
                ]
                if min(added) > 8 * GROUP_BYTES:
                    break
                place = added.index(min(added))
                each[each == ladder[place]] = ladder[place + 1]
        return bits


class ZeroWalk(sequential._Walk):
    """Rounds a plan; some channels are constant."""

    zero: ClassVar[Mapping[str, Int64Array]] = {}
    leaving: ClassVar[Collection[str]] = ()

    def _rounded(
        self, target_output: TargetOutput, bits: Int8Array, moments: SecondMoments
    ) -> RoundedLayer:
        found = super()._rounded(target_output, bits, moments)
        rows = self.zero.get(target_output.layer.name)
        if rows is None or not len(rows):
            return found
        weight = found.weight.copy()
        weight[rows] = 0
        change = moments.mean_output(weight - target_output.layer.site.layer.weight)
        assert target_output.bias is not None
        assert moments.offset is not None
        bias = (target_output.bias + moments.offset - change).astype(np.float32)
        if target_output.layer.name in self.leaving:
            bias[rows] = 0  # nothing after the ReLU: what reads it makes up for the mean
        return RoundedLayer(found.bits, found.quantized, weight, bias)


class Judge:
    """Rounds plans and measures them on the test images."""

    def __init__(self, prepared: Prepared, table: RoundingTable) -> None:
        """Run the float model.

        Args:
            prepared: Model and images.
            table: Grids of every channel at 8 to 1 bits.
        """
        sequential._Walk = ZeroWalk  # type: ignore[misc]  # what the rounder walks with
        rounding, self._classifier = prepared.workload(prepared.rounding), prepared.classifier
        self._rounder = sequential.SequentialRounder(
            rounding, table, RoundingSettings(), prepared.settings.seed
        )
        self._workload = prepared.workload(prepared.report)
        self._before = self._workload.forward(prepared.classifier.proto)

    def __call__(self, bits: Bits, leaving: Collection[str]) -> tuple[Float64Array, Paired]:
        """KL of every test image, nats; answers broken and fixed.

        Args:
            bits: The plan.
            leaving: Layers whose channels at 0 bits leave the model.
        """
        ZeroWalk.zero = {name: np.flatnonzero(each == 0) for name, each in bits.items()}
        ZeroWalk.leaving = leaving
        params = BitPlan.uniform(self._classifier.layers).channel_params
        plan = BitPlan({n: tuple(np.maximum(bits[n], 1).tolist()) for n in params}, params)
        after = self._workload.forward(simulate(self._classifier, self._rounder(plan, Silent())))
        right = [hits(logits, self._workload.labels) for logits in (self._before, after)]
        return kl_divergence(self._before, after), Paired.of(*right)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="fashion, resnet20 or resnet18")
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--kilobytes", nargs="*", type=float, default=[], help="sizes to measure")
    parser.add_argument("--work", type=Path, help="folder for what was measured")
    arguments = parser.parse_args()
    case = trained(arguments.shared)[arguments.model]
    settings = Settings(
        search=SearchSettings(), model=ReadOptions(targets=TargetPolicy.ALL), data=case.data
    )
    prepared = prepare(case.model, case.search, case.report, settings)
    run = nowhere()
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        run = RunFolder(arguments.work, run.made_of, Journal(arguments.work / "journal.jsonl"))
    table = codes_of(prepared, run, Silent()).rounding
    assert isinstance(table, RoundingTable)
    known = measure_sensitivity(prepared, table, run, Silent()).kl_increase
    assert known is not None
    ways = allocations(prepared, known.nats, dropped_kl_increase(prepared))
    print(f"{versions()}.")
    predict(ways)
    if arguments.kilobytes:
        judge = Judge(prepared, table)
        for kilobytes in arguments.kilobytes:
            compare(ways, judge, kilobytes)


def dropped_kl_increase(prepared: Prepared) -> Mapping[str, Float64Array]:
    """Layer -> float64[O, 1], KL of every channel at 0 bits alone."""
    workload = prepared.workload(prepared.rounding)
    dropped = Dropped(output_means(workload, observed_layers(workload.classifier, workload.image)))
    workload = replace(prepared.workload(prepared.delta_loss), rounding=dropped)
    measurement = FastMeasurement(workload, prepared.free(), (1,), prepared.settings.seed)
    return measurement.measure(Silent(), lambda: None).kl_increase().nats


def allocations(
    prepared: Prepared, known: Mapping[str, Float64Array], dropped: Mapping[str, Float64Array]
) -> dict[str, Allocation]:
    """The three ways of making plans."""
    layers = prepared.classifier.layers
    both = {layer.name: np.hstack([known[layer.name], dropped[layer.name]]) for layer in layers}
    kl_increase, reader = monotone(both), readers(prepared.classifier)
    weights = {layer.name: layer.channel_params for layer in layers}
    cells = {layer.name: int(np.prod(layer.weight.shape[2:])) for layer in layers}
    return {
        way: Allocation(
            kl_increase, weights, cells, {} if way != "columns" else reader, way != "without"
        )
        for way in WAYS
    }


def predict(ways: Mapping[str, Allocation]) -> None:
    """Print sizes at equal predicted KL increase."""
    print("predicted KL increase, nats | kB and channels at 0 bits: " + ", ".join(ways))
    for kl_increase in PREDICTED:
        plans = {
            way: each.of(each.predicted, kl_increase, rising=True) for way, each in ways.items()
        }
        row = [
            f"{each.size(plans[way]) / 8e3:.1f} {_zeros(plans[way])}" for way, each in ways.items()
        ]
        print(f"{kl_increase:.5f} | " + " | ".join(row), flush=True)


def compare(ways: Mapping[str, Allocation], judge: Judge, kilobytes: float) -> None:
    """Measure plans of one size; the KL of each with the paired 95 % interval of its change."""
    print(f"{kilobytes:g} kB | kB | channels at 0 bits | KL | change of KL | broken | fixed")
    first: Float64Array | None = None
    for way, each in ways.items():
        bits = each.of(each.size, 8000 * kilobytes, rising=False)
        kl, paired = judge(bits, each.reader)
        first = kl if first is None else first
        change = (kl - first).mean()
        half = 1.96 * (kl - first).std() / len(kl) ** 0.5
        print(
            f"{way} | {each.size(bits) / 8e3:.1f} | {_zeros(bits)} | {kl.mean():.5f} "
            f"| {change:+.5f} ± {half:.5f} | {paired.broken} | {paired.fixed}",
            flush=True,
        )


def _zeros(bits: Bits) -> int:
    return sum(int((each == 0).sum()) for each in bits.values())


if __name__ == "__main__":
    main()
