"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._progress import Progress
from onnxsemi._quantizer.coded import nearest
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding import shares
from onnxsemi._rounding.observed_layers import (
    ObservedLayer,
    input_moments,
    layer_groups,
    observed_layers,
)
from onnxsemi._rounding.second_moments import MomentSums
from onnxsemi._rounding.spread_table import spread_layers
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.table_layer import AtBits, PreparedLayer, RoundedEntries, TableRequest
from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.engine import Engine
from onnxsemi._runtime.runner import Runner


def rounding_table(
    workload: Workload,
    bits: Sequence[int],
    settings: RoundingSettings,
    seed: int,
    progress: Progress,
) -> RoundingTable:
    """Round every channel to every bitwidth.

    Layers whose inputs cannot be looked at are rounded to the nearest level from minimum to
    maximum.

    Args:
        workload: The float model and calibration images.
        bits: Bitwidths.
        settings: How to round.
        seed: Of the positions that are drawn.
        progress: Told of every image, then of every layer, of one group of layers after the other.
    """
    layers = observed_layers(workload.classifier, workload.image)
    known, scheme = {layer.name for layer in layers}, workload.scheme
    plain = [layer for layer in workload.classifier.layers if layer.name not in known]
    entries = {layer.name: {b: nearest(layer.weight, b, scheme) for b in bits} for layer in plain}
    shifts: dict[str, dict[int, Float32Array]] = {}
    damping: dict[str, Float64Array] = {}
    asked = TableRequest(tuple(bits), settings, seed)
    for name, found in _rounded(replace(workload, progress=progress), layers, asked):
        entries[name], damping[name] = found.entries, found.damping
        if found.shifts:
            shifts[name] = found.shifts
    names = [layer.name for layer in workload.classifier.layers]
    return RoundingTable(scheme, {name: entries[name] for name in names}, shifts, damping)


def _rounded(
    workload: Workload, layers: Sequence[ObservedLayer], asked: TableRequest
) -> Iterator[tuple[str, RoundedEntries]]:
    """Layers, each at every bitwidth; those of a large model by whoever has time."""
    if shares.share_count(workload) > 1:
        every = spread_layers(workload, layers, asked)
        for name, found in groupby(every, lambda one: one[0]):
            yield name, RoundedEntries.of((bits, rounded) for _, bits, rounded in found)
        return
    groups = _for_workers(layers, workload.engine)
    tasks = (workload.begin(_round_layers, [layer.name for layer in own], asked) for own in groups)
    for rounded in workload.results("rounding", tasks, list(map(len, groups))):
        yield from rounded.items()


def _for_workers(layers: Sequence[ObservedLayer], engine: Engine) -> list[list[ObservedLayer]]:
    """Neighbours for a task each, those that take longest first; all in one for this process.

    Each task runs the float model up to its last layer: so there are no more than workers, about.
    """
    if not engine.workers:
        return [list(layers)] if layers else []
    total = sum(layer.rounding_work for layer in layers)
    groups = in_groups(layers, lambda one: one.rounding_work, total // engine.workers)
    return sorted(groups, key=lambda group: -sum(one.rounding_work for one in group))


def _round_layers(
    workload: Workload, names: Collection[str], asked: TableRequest
) -> dict[str, RoundedEntries]:
    """Round some layers, one group of them after the other."""
    layers = observed_layers(workload.classifier, workload.image)
    chosen, found = [one for one in layers if one.name in names], dict[str, RoundedEntries]()
    with one_thread(), workload.running() as runner:
        for group in layer_groups(chosen):
            found |= _round_group(workload, group, asked, runner)
    return found


def _round_group(
    workload: Workload, group: Sequence[ObservedLayer], asked: TableRequest, runner: Runner
) -> dict[str, RoundedEntries]:
    """Round layers whose moments are held all at once, some of them side by side."""
    progress, bits = workload.progress, asked.bits
    sums = input_moments(workload, group, asked.seed, progress)
    progress.start("rounding", len(group))

    prepare = _Preparation(workload, asked.settings, runner, sums)
    under_way = [_UnderWay(layer, partial(prepare, layer)) for layer in group]
    found = dict[str, list[tuple[int, AtBits]]]()
    for (layer, b), rounded in _in_turn(workload, under_way, bits):
        found.setdefault(layer.name, []).append((b, rounded))
        progress.step(layer.name, int(b == bits[-1]))
    return {name: RoundedEntries.of(own) for name, own in found.items()}


@dataclass(frozen=True, eq=False)
class _Preparation:
    """How layers are prepared, of whose inputs the sums are there."""

    workload: Workload
    settings: RoundingSettings
    runner: Runner
    sums: dict[str, MomentSums]

    def __call__(self, layer: ObservedLayer) -> PreparedLayer:
        sums, pool = self.sums.pop(layer.name), self.runner.pool
        return PreparedLayer.of(self.workload, layer.site, self.settings, sums, pool)


class _UnderWay:
    """A layer while it is rounded: whoever comes first prepares it, the others wait for that."""

    def __init__(self, layer: ObservedLayer, prepare: Callable[[], PreparedLayer]) -> None:
        self.layer, self._prepare = layer, prepare
        self._lock, self._prepared = threading.Lock(), list[PreparedLayer]()

    def at(self, bits: int) -> AtBits:
        """The layer at one bitwidth."""
        with self._lock:
            if not self._prepared:
                self._prepared.append(self._prepare())
            (prepared,) = self._prepared
        return prepared.at(bits)

    def forget(self) -> None:
        """Give back the memory: all bitwidths are there."""
        self._prepared.clear()


def _in_turn(
    workload: Workload, layers: Sequence[_UnderWay], bits: Sequence[int]
) -> Iterator[tuple[tuple[ObservedLayer, int], AtBits]]:
    """Every layer at every bitwidth, several side by side, of as many layers as memory allows."""
    widest = max(under_way.layer.rounding_bytes for under_way in layers)
    at_once = max(1, workload.room(workload.threads * widest) // widest)
    # in a row from the last bitwidth of one layer, they are of no more layers than that
    ahead = min((at_once - 1) * len(bits) + 1, 2 * workload.threads)
    items = [(layer, b) for layer in layers for b in bits]
    with Runner(None, ahead) as waiting:  # for the pool, which works on their blocks
        found = waiting.map(lambda item: item[0].at(item[1]), items)
        for (under_way, b), rounded in zip(items, found, strict=True):
            if b == bits[-1]:
                under_way.forget()
            yield (under_way.layer, b), rounded
