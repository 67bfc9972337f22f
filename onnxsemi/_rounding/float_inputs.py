"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._progress import Progress
from onnxsemi._quantizer.affine import QuantizedChannels
from onnxsemi._quantizer.coded import nearest
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.observed_layers import (
    ObservedLayer,
    input_moments,
    layer_groups,
    observed_layers,
)
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments
from onnxsemi._rounding.table import RoundingTable
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
    told, asked = replace(workload, progress=progress), _Asked(tuple(bits), settings, seed)
    groups = _for_workers(layers, workload.engine)
    tasks = (told.begin(_round_layers, [layer.name for layer in own], asked) for own in groups)
    for rounded in told.results("rounding", tasks, list(map(len, groups))):
        for name, found in rounded.items():
            entries[name], damping[name] = found.entries, found.damping
            if found.shifts:
                shifts[name] = found.shifts
    names = [layer.name for layer in workload.classifier.layers]
    return RoundingTable(scheme, {name: entries[name] for name in names}, shifts, damping)


@dataclass(frozen=True)
class _Asked:
    """How layers are to be rounded; see :func:`rounding_table`."""

    bits: tuple[int, ...]
    settings: RoundingSettings
    seed: int


def _for_workers(layers: Sequence[ObservedLayer], engine: Engine) -> list[list[ObservedLayer]]:
    """Neighbours for a task each, those that take longest first; all in one for this process.

    Each task runs the float model up to its last layer. Second moments stay where they are summed:
    those of a block of images would be as large as all that is sent.
    """
    if not engine.workers:
        return [list(layers)] if layers else []
    total = sum(layer.rounding_work for layer in layers)
    groups = in_groups(layers, lambda one: one.rounding_work, total // (2 * engine.workers))
    return sorted(groups, key=lambda group: -sum(one.rounding_work for one in group))


def _round_layers(
    workload: Workload, names: Collection[str], asked: _Asked
) -> "dict[str, _Rounded]":
    """Round some layers, one group of them after the other."""
    layers = observed_layers(workload.classifier, workload.image)
    chosen, found = [one for one in layers if one.name in names], dict[str, _Rounded]()
    with one_thread(), workload.running() as runner:
        for group in layer_groups(chosen):
            found |= _round_group(workload, group, asked, runner)
    return found


def _round_group(
    workload: Workload, group: Sequence[ObservedLayer], asked: _Asked, runner: Runner
) -> "dict[str, _Rounded]":
    """Round layers whose moments are held all at once, some of them side by side."""
    progress, bits = workload.progress, asked.bits
    sums = input_moments(workload, group, asked.seed, progress)
    progress.start("rounding", len(group))

    prepare = _Preparation(workload, asked.settings, runner, sums)
    under_way = [_UnderWay(layer, partial(prepare, layer)) for layer in group]
    found = dict[str, _Rounded]()
    for (layer, b), rounded in _in_turn(workload, under_way, bits):
        found.setdefault(layer.name, _Rounded({}, rounded.damping, {})).add(b, rounded)
        progress.step(layer.name, int(b == bits[-1]))
    return found


@dataclass(frozen=True, eq=False)
class _Rounded:
    """What a layer has in the table; there are no shifts if its bias is left alone."""

    entries: dict[int, QuantizedChannels]
    damping: Float64Array
    shifts: dict[int, Float32Array]

    def add(self, bits: int, found: "_AtBits") -> None:
        self.entries[bits] = found.channels
        if found.shift is not None:
            self.shifts[bits] = found.shift


@dataclass(frozen=True, eq=False)
class _AtBits:
    """A layer at one bitwidth; the shift is None if its bias is left alone."""

    channels: QuantizedChannels
    damping: Float64Array
    shift: Float32Array | None


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A layer that can be rounded to any bitwidth."""

    rounder: LayerRounder
    moments: SecondMoments
    corrects: bool


@dataclass(frozen=True, eq=False)
class _Preparation:
    """How layers are prepared, of whose inputs the sums are there."""

    workload: Workload
    settings: RoundingSettings
    runner: Runner
    sums: dict[str, MomentSums]

    def __call__(self, layer: ObservedLayer) -> _Prepared:
        bias = correctable_bias(self.workload.classifier, layer.site)
        corrects = self.settings.bias_correction and bias is not None
        own, pool = self.sums.pop(layer.name), self.runner.pool
        moments = own.moments(centred=corrects, each=pool.map)
        rounder = LayerRounder(moments, self.settings, self.workload.scheme, pool)
        return _Prepared(rounder, moments, corrects)


class _UnderWay:
    """A layer while it is rounded: whoever comes first prepares it, the others wait for that."""

    def __init__(self, layer: ObservedLayer, prepare: Callable[[], _Prepared]) -> None:
        self.layer, self._prepare = layer, prepare
        self._lock, self._prepared = threading.Lock(), list[_Prepared]()

    def at(self, bits: int) -> _AtBits:
        """The layer at one bitwidth."""
        with self._lock:
            if not self._prepared:
                self._prepared.append(self._prepare())
            (prepared,) = self._prepared
        weight, moments = self.layer.site.layer.weight, prepared.moments
        found = prepared.rounder.at(weight, bits)
        if not prepared.corrects:
            return _AtBits(found, moments.damping, None)
        shift = -moments.mean_output(found.dequantize() - weight).astype(np.float32)
        return _AtBits(found, moments.damping, shift)

    def forget(self) -> None:
        """Give back the memory: all bitwidths are there."""
        self._prepared.clear()


def _in_turn(
    workload: Workload, layers: Sequence[_UnderWay], bits: Sequence[int]
) -> Iterator[tuple[tuple[ObservedLayer, int], _AtBits]]:
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
