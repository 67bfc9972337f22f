"""What a run is likely to take on so many workers, from what its tasks take.

    plan    = answers + walk + codes + sending them to all
    answers = ceil(tasks / W) * images of a task * forward
    walk    = ceil(blocks / S) * block + blocks * sums + handling,    S = shares_for(W, ...)
    sums    = bytes / bandwidth + adding them; those of one layer are added by one worker
    codes   = layer after layer: factor, and rows by those who share them
    table   = ceil(blocks / S) * looks + the longest of: all work / W, the widest layer's
    run     = float pass + table + Δloss + plans + looks

Where workers are many, some plans are rounded beside the one before, while most workers wait.
The client and the scheduler handle all tasks of a walk, which wait for each other.
"""

import math
from dataclasses import dataclass

from onnxsemi._evaluation.outcomes import OUTCOME_BYTES
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._results.check import ClusterForecast
from onnxsemi._rounding.observed_layers import observed_layers
from onnxsemi._rounding.shares import ADDED, TASKS, shares_for
from onnxsemi._rounding.spread_table import table_groups
from onnxsemi._rounding.spread_walk import ROOM
from onnxsemi._rounding.task_times import LayerTimes, WalkTimes, walk_times
from onnxsemi._runtime.batch_sizes import BACKWARD_IMAGES, BLOCK_IMAGES
from onnxsemi._runtime.engine import (
    BANDWIDTH,
    HANDLING,
    MOST_TASK_IMAGES,
    TASK_IMAGES,
    TASK_SECONDS,
    TASKS_A_WORKER,
)
from onnxsemi._sensitivity.forecast import forward_pass
from onnxsemi._sensitivity.task_times import BackwardTimes, backward_times

HANDED_OVER = 0.0017
"""CPU seconds of the client and the scheduler for a task that waits for others: Dask 2026.8."""
PLANS, LOOKS = 6, 4
"""Plans that a run measures and looks at, about (``benchmarks/search_cost.py``)."""
PLANS_FORESEEN, LOOKS_FORESEEN, BESIDE = 4, 1, 1.0
"""Of those, how many were begun beside the one before; and how many are for each, in vain or not:
as the search of the bundled model on 500 images went."""
LOOKED_AT, LOOK_IMAGES = 0.34, 256
"""Share of the images that a look answers, and images that it rounds on."""


@dataclass(frozen=True)
class TaskTimes:
    """What the tasks of a run take, in CPU seconds of one thread, and what they move.

    Attributes:
        image: Forward pass of an image.
        walk: Rounding.
        backward: Δloss.
        bitwidths: On the ladder.
        rounding: Images that weights are rounded on.
        delta_loss: Images of Δloss.
        weights: Quantized weights, a byte each as codes.
        logits: Bytes of an image's logits.
        groups: Of layers whose inputs are looked at together, each with a forward pass of its own.
    """

    image: float
    walk: WalkTimes
    backward: BackwardTimes
    bitwidths: int
    rounding: int
    delta_loss: int
    weights: int
    logits: int
    groups: int

    @property
    def blocks(self) -> int:
        """Of the images that weights are rounded on."""
        return math.ceil(self.rounding / BLOCK_IMAGES)


def task_times(prepared: Prepared) -> TaskTimes:
    """Measure tasks of each kind on a few images."""
    settings, workload = prepared.settings, prepared.judging(prepared.search)
    bits, layers = settings.search.bits, prepared.classifier.layers
    one = forward_pass(workload, 4)
    return TaskTimes(
        image=one.cpu_seconds / len(prepared.search),
        walk=walk_times(workload, settings.rounds or RoundingSettings()),
        backward=backward_times(prepared.judging(prepared.delta_loss), bits),
        bitwidths=len(bits),
        rounding=len(prepared.rounding),
        delta_loss=len(prepared.delta_loss),
        weights=sum(layer.weight.size for layer in layers),
        logits=4 * workload.first(1).float_logits().shape[1],
        groups=len(table_groups(observed_layers(prepared.classifier, workload.image))),
    )


def cluster_forecast(times: TaskTimes, images: int, workers: int) -> ClusterForecast:
    """A run on so many workers of one thread each.

    Args:
        times: What its tasks take.
        images: Calibration images.
        workers: How many.
    """
    alone, spread = _Run(times, images, 1), _Run(times, images, workers)
    return ClusterForecast(
        workers=workers,
        seconds=spread.seconds,
        efficiency=alone.seconds / (workers * spread.seconds),
        serial=spread.serial,
        moved=spread.moved,
    )


@dataclass(frozen=True)
class _Rounded:
    """Plans that are rounded on so many images: those that are waited for, and those beside."""

    images: int
    waited: int
    beside: float


@dataclass(frozen=True)
class _Run:
    times: TaskTimes
    images: int
    workers: int

    @property
    def seconds(self) -> float:
        """Wall time of the whole run."""
        few = math.ceil(LOOKED_AT * self.images)
        once = self._answers(self.images) + self._table + self._delta_loss
        answers = PLANS * self._answers(self.images) + LOOKS * self._answers(few)
        rounding, rounded = self._rounded(self._plans), self._rounded(self._looks)
        return once + answers + rounding + rounded

    @property
    def serial(self) -> float:
        """Seconds of it in which one worker works, the network, or who hands over the tasks."""
        return sum(own.waited * self._alone(own.images) for own in (self._plans, self._looks))

    @property
    def _plans(self) -> "_Rounded":
        return self._foreseen(PLANS, PLANS_FORESEEN, self.times.rounding)

    @property
    def _looks(self) -> "_Rounded":
        return self._foreseen(LOOKS, LOOKS_FORESEEN, LOOK_IMAGES)

    def _foreseen(self, count: int, foreseen: int, images: int) -> "_Rounded":
        """Plans, of which some are begun beside others if there is room."""
        shares = self._shares(images)
        if shares == 1 or self.workers < ROOM * shares:
            return _Rounded(images, count, 0.0)
        return _Rounded(images, count - foreseen, BESIDE * count)

    def _rounded(self, plans: "_Rounded") -> float:
        """Seconds of rounding plans; what is begun beside them takes what the workers have left."""
        images, layers = plans.images, self.times.walk.layers
        blocks = math.ceil(images / BLOCK_IMAGES)
        work = sum(one.codes() + blocks * (one.look + one.add) for one in layers)
        work += blocks * self.times.walk.gone_on
        each = self._walk(images) + self._alone(images)
        return plans.waited * each + plans.beside * work / self.workers

    def _alone(self, images: int) -> float:
        """The same of a plan."""
        times, blocks, shares = self.times, math.ceil(images / BLOCK_IMAGES), self._shares(images)
        layers, codes = times.walk.layers, sum(one.codes(self.workers) for one in times.walk.layers)
        if shares == 1:
            adding = blocks * sum(one.add for one in layers)
            return codes + adding + self._copies / BANDWIDTH
        summed = sum(_summed(one, blocks) for one in layers)
        tasks = sum(_tasks(one, shares) for one in layers)
        return codes + summed + self._copies / BANDWIDTH + HANDED_OVER * tasks

    @property
    def _copies(self) -> int:
        """Bytes of a plan that go to all, in a tree: as many times as it is deep."""
        return math.ceil(math.log2(self.workers)) * self.times.weights

    @property
    def moved(self) -> float:
        """Bytes that go over the network."""
        if self.workers == 1:
            return 0.0
        blocks = sum(
            count * math.ceil(images / BLOCK_IMAGES)
            for count, images in ((PLANS + 1, self.times.rounding), (LOOKS, LOOK_IMAGES))
            if self._shares(images) > 1
        )
        copies = (PLANS + LOOKS) * self.times.weights * self.workers
        once = self.images * self.times.logits + self.times.delta_loss * self.times.backward.moved
        return once + self._answered * OUTCOME_BYTES + blocks * self._sum_bytes + copies

    @property
    def _sum_bytes(self) -> int:
        return sum(layer.moved for layer in self.times.walk.layers)

    @property
    def _answered(self) -> float:
        """Answers of images to plans."""
        return self.images * (PLANS + LOOKS * LOOKED_AT)

    def _shares(self, images: int) -> int:
        times = self.times
        return shares_for(self.workers, images, times.image, len(times.walk.layers))

    def _answers(self, images: int) -> float:
        """Seconds of a pass over images, in whole tasks."""
        least = max(TASK_IMAGES, min(MOST_TASK_IMAGES, math.ceil(TASK_SECONDS / self.times.image)))
        size = math.ceil(images / (TASKS_A_WORKER * self.workers))
        size = max(least, min(MOST_TASK_IMAGES, size))
        tasks = math.ceil(images / size)
        each = size * self.times.image + HANDLING
        return max(math.ceil(tasks / self.workers) * each, tasks * HANDLING)

    def _walk(self, images: int) -> float:
        """Seconds of what the shares do in a plan, side by side."""
        walk, blocks = self.times.walk, math.ceil(images / BLOCK_IMAGES)
        each = walk.gone_on + sum(layer.look for layer in walk.layers)
        return math.ceil(blocks / self._shares(images)) * each

    @property
    def _table(self) -> float:
        """Seconds of the rounding table: sums of all layers, then every bitwidth."""
        times, shares = self.times, self._shares(self.times.rounding)
        blocks, looks = times.blocks, sum(layer.look for layer in times.walk.layers)
        each = BLOCK_IMAGES * times.image * times.groups + looks
        network = 0.0 if self.workers == 1 else 1 / BANDWIDTH
        adding = [
            blocks * (one.add_spread + one.moved * network) + one.aimed for one in times.walk.layers
        ]
        work = sum(adding) + times.bitwidths * sum(one.table for one in times.walk.layers)
        every = zip(adding, times.walk.layers, strict=True)
        at_once = math.ceil(times.bitwidths / self.workers)
        widest = max((seconds + at_once * one.table for seconds, one in every), default=0.0)
        return math.ceil(blocks / shares) * each + max(work / self.workers, widest)

    @property
    def _delta_loss(self) -> float:
        """Seconds of the backward passes; each worker builds each graph."""
        backward = self.times.backward
        tasks = math.ceil(self.times.delta_loss / BACKWARD_IMAGES)
        rounds = math.ceil(tasks / self.workers)
        each = backward.graph + rounds * BACKWARD_IMAGES * backward.image
        return backward.parts * each


def _summed(layer: LayerTimes, blocks: int) -> float:
    """Seconds of fetching and adding the sums of a layer, by those who have a part of them each."""
    network, parts = layer.moved / BANDWIDTH, layer.sum_parts
    return blocks * (network + layer.add) / parts + (network if parts > 1 else 0.0)


def _tasks(layer: LayerTimes, shares: int) -> float:
    """Tasks of a layer in a plan."""
    rounded = 1 if layer.parts == 1 else 2 + layer.parts
    parted = 0 if layer.sum_parts == 1 else (1 + layer.sum_parts) * shares
    return TASKS * shares + parted + layer.sum_parts * shares / ADDED + rounded
