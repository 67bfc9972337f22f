"""Rounding a plan layer after layer on many machines.

Each has some blocks of images, of which it keeps what goes on between the layers. A layer is looked
at by all; its sums go from one to the next, each adds its blocks in their order, and the last one
rounds. So the sums have the bits that they have on one machine, and of a layer's second moments one
copy goes over the network for each machine, not one for each block.

All of it are tasks that follow from others: what goes on, sums, codes. What is lost with a machine
is computed again from the images on, by another.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsemi._evaluation.workload import Workload
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Progress
from onnxsemi._quantizer.plan_codes import LayerCodes, PlanCodes
from onnxsemi._quantizer.rounded_plan import RoundedLayer, RoundedPlan
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.aimed_layer import LayerRequest, row_parts
from onnxsemi._rounding.observed_layers import blocks
from onnxsemi._rounding.sent_rounder import SentRounder, rounded_whole
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._rounding.target_output import (
    TargetOutput,
    find_target_outputs,
    find_way,
    same_bits,
)
from onnxsemi._rounding.walk import layer_from_table
from onnxsemi._rounding.walk_tasks import (
    Look,
    added,
    float_outputs,
    go_on,
    known_of,
    row_codes,
)
from onnxsemi._runtime.batch_sizes import BLOCK_IMAGES
from onnxsemi._runtime.engine import BANDWIDTH, HANDLING
from onnxsemi._runtime.runner import Batch

PASSES = 3.3
"""Forward passes that a block of images takes in a plan, on the way and for the sums: 3.2 measured
on a ResNet-18, 3.4 on a ResNet-50 (``benchmarks/cluster.py``)."""
TASKS = 3
"""Tasks of a layer for each share: a look, its sums added, and going on."""
_OVERHEAD = 0.05  # of the work that handing over its tasks may take


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
        return self._by_rows(look, request, total, sums)

    def _by_rows(self, look: Look, request: LayerRequest, total: Any, sums: Any) -> Any:
        """A task: the same of the sums of all blocks; of a wide layer its rows are dealt."""
        engine, last = self._workload.engine, self._shares[-1].workload
        target_output, _ = self._steps[look.step].target_outputs[look.place]
        parts = row_parts(target_output, engine.workers)
        if len(parts) == 1:
            return last.begin(look.codes, request, total, sums)
        aimed = last.begin(look.aimed, request, total, sums)
        codes = [engine.begin(row_codes, aimed, request, part) for part in parts]
        return last.begin(look.joined, request, aimed, codes)


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
