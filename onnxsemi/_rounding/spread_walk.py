"""Rounding a plan layer after layer on many machines.

Each has some blocks of images, of which it keeps what goes on between the layers. A layer is looked
at by all; its sums go from one to the next, each adds its blocks in their order, and the last one
rounds. So the sums have the bits that they have on one machine, and of a layer's second moments one
copy goes over the network for each machine, not one for each block.

All of it are tasks that follow from others: what goes on, sums, codes. What is lost with a machine
is computed again from the images on, by another.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsemi._arrays import Float32Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.segments import Segment, segment_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Progress
from onnxsemi._quantizer.plan_codes import LayerCodes, PlanCodes
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.aimed_layer import LayerRequest, rounded_layer
from onnxsemi._rounding.observed_layers import blocks, images_of
from onnxsemi._rounding.second_moments import BlockSums, MomentSums
from onnxsemi._rounding.sent_rounder import SentRounder, rounded_whole
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import (
    TargetOutput,
    drawn_outputs,
    find_target_outputs,
    find_way,
    same_bits,
)
from onnxsemi._rounding.walk import layer_from_table
from onnxsemi._runtime.batch_sizes import BLOCK_IMAGES
from onnxsemi._runtime.engine import BANDWIDTH, HANDLING
from onnxsemi._runtime.runner import Batch
from onnxsemi._runtime.sessions import Session

PASSES = 8
"""Forward passes that a block of images takes in a plan, about: on the way, and for the sums."""
TASKS = 3
"""Tasks of a layer for each share: a look, its sums added, and going on."""
_OVERHEAD = 0.05  # of the work that handing over its tasks may take
Tensors = Mapping[str, Sequence[Float32Array]]
"""Name -> its values for each block of a share."""
Codes = Mapping[str, LayerCodes]
"""Layer -> what it was rounded to."""


@dataclass(frozen=True, eq=False)
class Look:
    """A look at a layer by one who has some blocks of images.

    Its methods are tasks. They take the workload; what the step takes, but for the image; the float
    model's target outputs; and codes of the layers that are rounded so far.

    Attributes:
        step: Number of the layer's step on the way through the model.
        place: Its place in the step.
        seed: Of the positions that are drawn.
        blocks: Number of each block among all -> where its images lie among the workload's.
    """

    step: int
    place: int
    seed: int
    blocks: Mapping[int, Batch]

    def sums(
        self, workload: Workload, there: Tensors, wanted: Tensors, codes: Codes
    ) -> list[list[BlockSums]]:
        """Sums of each block, which are not added yet."""
        return list(self._each(workload, there, wanted, codes))

    def total(
        self, workload: Workload, there: Tensors, wanted: Tensors, codes: Codes
    ) -> MomentSums:
        """Sums of the first blocks, added up."""
        total = self._nothing(workload)
        for block in self._each(workload, there, wanted, codes):
            total.add(block)
        return total

    def codes(
        self,
        workload: Workload,
        request: LayerRequest,
        total: MomentSums | None,
        sums: Iterable[list[BlockSums]],
    ) -> LayerCodes:
        """Round the layer by the sums of all blocks."""
        whole = added(self._nothing(workload) if total is None else total, sums)
        with workload.running() as runner:
            target_output, _ = self._target(workload)
            return LayerCodes.of(rounded_layer(target_output, request, whole, runner.pool))

    def _each(
        self, workload: Workload, there: Tensors, wanted: Tensors, codes: Codes
    ) -> Iterator[list[BlockSums]]:
        target_output, part = self._target(workload)
        name, empty = target_output.layer.name, self._nothing(workload)
        session = _session(workload, part, codes) if part.gives else None
        names = [name for name in target_output.seen if name not in part.gives]
        with workload.running() as runner:
            for place, (number, block) in enumerate(self.blocks.items()):
                values = _taken(workload, names, there, place, block)
                if session is not None:
                    given = _taken(workload, part.takes, there, place, block)
                    values |= given | runner.run_rows(session, given)
                positions = target_output.layer.patches[0].positions(self.seed, number)
                yield target_output.block(empty, values, positions, wanted[name][place])

    def _target(self, workload: Workload) -> tuple[TargetOutput, Segment]:
        way = find_way(workload.classifier, workload.image)
        return way[self.step].target_outputs[self.place]

    def _nothing(self, workload: Workload) -> MomentSums:
        """Nothing summed yet."""
        target_output, _ = self._target(workload)
        patches, site = target_output.layer.patches[0], target_output.layer.site
        return MomentSums(patches.groups, patches.size, site.layer.channels)


@dataclass(frozen=True, eq=False)
class Share:
    """Blocks of images that one machine works on.

    Attributes:
        workload: Their images.
        blocks: Number of each block among all -> where its images lie among these.
        wanted: A task: the float model's target outputs; see :func:`float_outputs`.
    """

    workload: Workload
    blocks: Mapping[int, Batch]
    wanted: Any


class SpreadRounder:
    """Rounds plans as :class:`~onnxsemi._rounding.sequential.SequentialRounder` does."""

    def __init__(
        self, workload: Workload, table: RoundingTable, settings: RoundingSettings, seed: int
    ) -> None:
        """Begin with nothing; see :class:`~onnxsemi._rounding.sequential.SequentialRounder`."""
        self._workload, self._table, self._settings, self._seed = workload, table, settings, seed
        self._steps = find_way(workload.classifier, workload.image)
        self._order = [one.layer.name for step in self._steps for one, _ in step.target_outputs]
        self._sent = SentRounder(table, settings, seed)
        self._shares: list[Share] = []

    def __call__(
        self, plan: BitPlan, progress: Progress, known: RoundedPlan | None = None
    ) -> RoundedPlan:
        """Round a plan.

        Args:
            plan: Bits of every target channel.
            progress: Told of every layer.
            known: See :class:`~onnxsemi._rounding.sequential.SequentialRounder`.
        """
        workload = self._workload
        if not self._shares:
            count = share_count(workload)
            if count == 1:
                return self._whole(plan, progress, known)
            self._shares = _dealt(workload, count, self._seed)
        found = dict(self._given(plan, known))
        progress.start("rounding", len(plan.bits))
        progress.step(workload.where, len(found))
        rest = [name for name in self._order if name not in found]
        tasks = self._tasks(plan, {name: LayerCodes.of(one) for name, one in found.items()})
        for name, codes in zip(rest, workload.taken(tasks, progress), strict=True):
            found[name] = codes.rounded(workload.classifier.site(name).layer)
            progress.step(workload.where)
        return RoundedPlan(plan, self._table.scheme, {name: found[name] for name in plan.bits})

    def _whole(self, plan: BitPlan, progress: Progress, known: RoundedPlan | None) -> RoundedPlan:
        """A plan that one worker rounds."""
        workload, before = self._workload, None if known is None else PlanCodes.of(known)
        progress.start("rounding", len(plan.bits))
        sent = workload.engine.share(self._sent)
        tasks = [workload.begin(rounded_whole, sent, plan, before)]
        (codes,) = workload.taken(tasks, progress)
        progress.step(workload.where, len(plan.bits))
        rounded: RoundedPlan = codes.rounded(workload.classifier.layers)
        return rounded

    def _given(
        self, plan: BitPlan, known: RoundedPlan | None
    ) -> Iterator[tuple[str, RoundedLayer]]:
        """Layers that need no look: of the table, of float32, or those of a known plan."""
        sites = {site.layer.name: site for site in self._workload.classifier.sites}
        unseen = plan.bits.keys() - set(self._order)
        for name in unseen:
            yield name, layer_from_table(self._table, name, plan, sites[name])
        for name in self._order:
            if (plan.bits[name] == FLOAT_BITS).all():
                yield name, RoundedLayer.of(sites[name].layer.weight, plan.bits[name], {})
        if known is not None and same_bits(known.plan, plan, unseen):
            for name in self._order:
                if not same_bits(known.plan, plan, [name]):
                    break
                yield name, known.layers[name]

    def _tasks(self, plan: BitPlan, codes: dict[str, Any]) -> Iterator[Any]:
        """A task for each layer that is not given, in the order of the way.

        Args:
            plan: Bits of every target channel.
            codes: Of the layers that are given; tasks of the others are added.
        """
        there: list[Any] = [{} for _ in self._shares]
        for number, step in enumerate(self._steps):
            for place, (target_output, part) in enumerate(step.target_outputs):
                name = target_output.layer.name
                if name not in codes:
                    request = LayerRequest.of(target_output, plan, self._table, self._settings)
                    looks = [Look(number, place, self._seed, own.blocks) for own in self._shares]
                    codes[name] = self._rounded(looks, request, there, known_of(part, codes))
                    yield codes[name]
            if step.keeps:
                there = [
                    share.workload.begin(
                        go_on, tensors, share.blocks, number, known_of(step.onward, codes)
                    )
                    for share, tensors in zip(self._shares, there, strict=True)
                ]

    def _rounded(
        self, looks: list[Look], request: LayerRequest, there: list[Any], codes: Mapping[str, Any]
    ) -> Any:
        """A task: the codes of a layer."""
        total: Any = None
        *before, (last, look, tensors) = zip(self._shares, looks, there, strict=True)
        for share, own, values in before:
            if total is None:
                total = share.workload.begin(own.total, values, share.wanted, codes)
            else:
                sums = share.workload.begin(own.sums, values, share.wanted, codes)
                total = self._workload.engine.begin(added, total, sums)
        sums = last.workload.begin(look.sums, tensors, last.wanted, codes)
        return last.workload.begin(look.codes, request, total, sums)


def shares_for(workers: int, images: int, seconds: float, layers: Sequence[TargetOutput]) -> int:
    """Into how many shares images are dealt. Changes no result.

    A share is worth the tasks that it takes, and the sums that go through it: with T the time of
    all blocks and t that of a share, T / S + S t is least for S = sqrt(T / t). And its tasks are to
    take no more than a twentieth of the work: small models are rounded by one, or by few.

    Args:
        workers: How many work.
        images: That plans are rounded on.
        seconds: A forward pass of an image.
        layers: The layers.
    """
    count = max(1, images // BLOCK_IMAGES)
    handling = max(1, len(layers)) * TASKS * HANDLING
    each = handling + sum(one.sum_bytes for one in layers) / BANDWIDTH
    work = images * PASSES * seconds
    fastest, cheapest = (work / each) ** 0.5, _OVERHEAD * work / handling
    return max(1, min(workers, count, int(fastest), int(cheapest)))


def share_count(workload: Workload) -> int:
    """The same for a workload."""
    layers = find_target_outputs(workload.classifier, workload.image)
    workers, images = workload.engine.workers, len(workload.images)
    return shares_for(workers, images, workload.image_seconds, layers)


def _dealt(workload: Workload, count: int, seed: int) -> list[Share]:
    """The blocks of images, dealt to so many workers: neighbours to each."""
    every, found = list(enumerate(blocks(workload))), list[Share]()
    for places in np.array_split(np.arange(len(every)), count):
        own = [every[place] for place in places.tolist()]
        start, stop = own[0][1].start, own[-1][1].stop
        some = workload.part(slice(start, stop))
        here = {number: Batch(one.start - start, one.stop - start) for number, one in own}
        found.append(Share(some, here, some.begin(float_outputs, here, seed)))
    return found


def known_of(part: Segment, codes: Mapping[str, Any]) -> dict[str, Any]:
    """Codes of the layers of a part that are rounded so far."""
    return {name: codes[name] for name in sorted(part.layers) if name in codes}


def float_outputs(workload: Workload, share: Mapping[int, Batch], seed: int) -> Tensors:
    """Layer -> the float model's target output at the drawn positions, block by block."""
    every = find_target_outputs(workload.classifier, workload.image)
    found: dict[str, list[Float32Array]] = {one.layer.name: [] for one in every}
    with workload.running() as runner:
        for group in in_groups(every, lambda one: one.held):
            names = list(dict.fromkeys(one.tensor for one in group))
            model = with_outputs(workload.classifier.proto, names)
            session = workload.open(model.SerializeToString())
            for number, block in share.items():
                pixels, where = images_of(workload, block), (seed, number)
                drawn = drawn_outputs(group, pixels, session, runner, where)
                for one, values in zip(group, drawn, strict=True):
                    found[one.layer.name].append(values)
    return found


def go_on(
    workload: Workload, there: Tensors, share: Mapping[int, Batch], number: int, codes: Codes
) -> Tensors:
    """What the next step takes.

    Args:
        workload: The images.
        there: What this one takes, but for the image.
        share: Blocks of the images.
        number: Of this step.
        codes: Of its layers.
    """
    step = find_way(workload.classifier, workload.image)[number]
    gone = _given(workload, step.onward, there, share, codes)
    return {name: gone[name] if name in gone else there[name] for name in step.keeps}


def _given(
    workload: Workload, part: Segment, there: Tensors, share: Mapping[int, Batch], codes: Codes
) -> Tensors:
    """What a part of the model gives."""
    if not part.gives:
        return {}
    found: dict[str, list[Float32Array]] = {name: [] for name in part.gives}
    session = _session(workload, part, codes)
    with workload.running() as runner:
        for place, block in enumerate(share.values()):
            values = runner.run_rows(session, _taken(workload, part.takes, there, place, block))
            for name, own in found.items():
                own.append(values[name])
    return found


def _session(workload: Workload, part: Segment, codes: Codes) -> Session:
    """A part of the model as far as it is quantized."""
    rounded = {n: own.rounded(workload.classifier.site(n).layer) for n, own in codes.items()}
    weights = {name: own.weight for name, own in rounded.items()}
    biases = {name: own.bias for name, own in rounded.items() if own.bias is not None}
    return workload.open(segment_model(workload.classifier, part, weights, biases))


def _taken(
    workload: Workload, names: Iterable[str], there: Tensors, place: int, block: Batch
) -> dict[str, Float32Array]:
    """Tensors that are there, for a block of images."""
    return {
        name: there[name][place] if name in there else images_of(workload, block)[name]
        for name in names
    }


def added(total: MomentSums, sums: Iterable[list[BlockSums]]) -> MomentSums:
    """Sums with those of further blocks; the former are not changed."""
    more = deepcopy(total)
    for block in sums:
        more.add(block)
    return more
