"""The rounding table of a model: grids and codes of every channel, for the float model's inputs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._progress import Progress
from onnxsemi._quantizer.affine import QuantizedChannels, quantize
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.observed_layers import (
    ObservedLayer,
    input_moments,
    layer_groups,
    observed_layers,
)
from onnxsemi._rounding.second_moments import SecondMoments
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
    entries = {layer.name: {b: quantize(layer.weight, b, scheme) for b in bits} for layer in plain}
    shifts: dict[str, dict[int, Float32Array]] = {}
    damping: dict[str, Float64Array] = {}
    told, asked = replace(workload, progress=progress), _Asked(tuple(bits), settings, seed)
    groups = _for_workers(layers, workload.engine)
    tasks = (told.begin(_round_layers, [layer.name for layer in own], asked) for own in groups)
    for rounded in told.results("rounding", tasks, list(map(len, groups))):
        for name, found in rounded.items():
            entries[name], damping[name] = found.entries, found.damping
            if found.shifts is not None:
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
    settings, progress = asked.settings, workload.progress
    sums = input_moments(workload, group, asked.seed, progress)
    progress.start("rounding", len(group))

    def work(layer: ObservedLayer) -> _Rounded:
        bias = correctable_bias(workload.classifier, layer.site)
        corrects = settings.bias_correction and bias is not None
        own = sums.pop(layer.name)
        moments = runner.pool.submit(own.moments, centred=corrects).result()
        rounder = LayerRounder(moments, settings, workload.scheme, runner.pool)
        weight = layer.site.layer.weight
        entries = {b: rounder.at(weight, b) for b in asked.bits}
        return _Rounded.of(layer, entries, moments, corrects=corrects)

    widest, found = max(layer.rounding_bytes for layer in group), dict[str, _Rounded]()
    at_once = max(1, min(workload.threads, workload.free // widest))
    with Runner(None, at_once) as waiting:  # for the pool, which works on their blocks
        for layer, rounded in zip(group, waiting.map(work, group), strict=True):
            found[layer.name] = rounded
            progress.step(layer.name)
    return found


@dataclass(frozen=True, eq=False)
class _Rounded:
    """What a layer has in the table; shifts are None if its bias is left alone."""

    entries: dict[int, QuantizedChannels]
    damping: Float64Array
    shifts: dict[int, Float32Array] | None

    @classmethod
    def of(
        cls,
        layer: ObservedLayer,
        entries: dict[int, QuantizedChannels],
        moments: SecondMoments,
        *,
        corrects: bool,
    ) -> "_Rounded":
        if not corrects:
            return cls(entries, moments.damping, None)
        weight = layer.site.layer.weight
        shifts = {
            b: -moments.mean_output(q.dequantize() - weight).astype(np.float32)
            for b, q in entries.items()
        }
        return cls(entries, moments.damping, shifts)
