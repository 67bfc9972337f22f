"""The rounding table of a large model on many machines.

Each has some blocks of images and looks at the inputs of all layers. The sums of a layer are added
in the order of the blocks, those of several machines by one task; the last of these prepares the
layer, and every bitwidth is a task of its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from operator import getitem
from typing import Any

from onnxsemi._evaluation.workload import Workload, begin_all
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._rounding import shares
from onnxsemi._rounding.observed_layers import (
    ObservedLayer,
    images_of,
    input_session,
    observed_layers,
)
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._rounding.shares import Share
from onnxsemi._rounding.table_layer import AtBits, PreparedLayer, TableRequest
from onnxsemi._runtime.batch_sizes import GROUP_BYTES
from onnxsemi._runtime.blas import one_thread
from onnxsemi._runtime.runner import Batch

_HELD = 4 * GROUP_BYTES  # of a worker: the forward pass is repeated for each group of layers

Sums = list[list[BlockSums]]
"""Of a layer: those of each block of a share."""


def spread_layers(
    workload: Workload, layers: Sequence[ObservedLayer], asked: TableRequest
) -> Iterator[tuple[str, int, AtBits]]:
    """Every layer at every bitwidth, by the workers of the workload's engine.

    Args:
        workload: The float model and calibration images.
        layers: Which layers.
        asked: How.
    """
    every = shares.dealt(workload, shares.share_count(workload))
    groups = table_groups(layers)
    items = [(one.name, bits) for group in groups for one in group for bits in asked.bits]
    steps = [int(bits == asked.bits[-1]) for _, bits in items]
    tasks = chain.from_iterable(_tasks(workload, every, group, asked) for group in groups)
    found = workload.results("rounding", tasks, steps)
    for (name, bits), rounded in zip(items, found, strict=True):
        yield name, bits, rounded


def table_groups(layers: Sequence[ObservedLayer]) -> list[list[ObservedLayer]]:
    """Layers whose inputs are looked at together: with their sums for a block, as few as can be."""
    return in_groups(layers, lambda one: one.moment_bytes + one.tensor_bytes, _HELD)


def _tasks(
    workload: Workload, every: list[Share], group: list[ObservedLayer], asked: TableRequest
) -> Iterator[Any]:
    """A task for each bitwidth of each layer of a group."""
    engine, names = workload.engine, [one.name for one in group]
    given = [(own.workload, (names, asked.seed, own.blocks)) for own in every]
    looks = begin_all(_looked, given)
    first = every[0].workload
    for name in names:
        sums = engine.begin_all(getitem, [(look, name) for look in looks])
        *turns, last = shares.in_turns(sums)
        total: Any = None
        for turn in turns:
            total = first.begin(_total, name, total, turn)
        prepared = first.begin(_prepared, name, asked, total, last)
        yield from engine.begin_all(PreparedLayer.at, [(prepared, bits) for bits in asked.bits])


def _looked(
    workload: Workload, names: Collection[str], seed: int, blocks: Mapping[int, Batch]
) -> dict[str, Sums]:
    """A task: layer -> the sums of the blocks of a share."""
    layers = [_observed(workload, name) for name in names]
    found: dict[str, Sums] = {name: [] for name in names}
    session = input_session(workload, layers)
    with one_thread(), workload.running() as runner:
        for number, block in blocks.items():
            pixels = images_of(workload, block)
            values = pixels | runner.run_rows(session, pixels)
            for layer in layers:
                found[layer.name].append(layer.block(layer.sums(), values, seed, number))
    return found


def _total(
    workload: Workload, name: str, total: MomentSums | None, sums: Sequence[Sums]
) -> MomentSums:
    """A task: sums of a layer with those of further shares; the former are not changed."""
    total = _observed(workload, name).sums() if total is None else deepcopy(total)
    for block in chain.from_iterable(sums):
        total.add(block)
    return total


def _prepared(
    workload: Workload,
    name: str,
    asked: TableRequest,
    total: MomentSums | None,
    sums: Sequence[Sums],
) -> PreparedLayer:
    """A task: a layer ready to be rounded."""
    layer, whole = _observed(workload, name), _total(workload, name, total, sums)
    with one_thread(), workload.running() as runner:
        given = layer.site, asked.settings, whole, runner.pool
        return PreparedLayer.of(workload, *given).alone()


def _observed(workload: Workload, name: str) -> ObservedLayer:
    layers = observed_layers(workload.classifier, workload.image)
    (found,) = (one for one in layers if one.name == name)
    return found
