"""What a run is likely to take on so many workers, from what its tasks take.

    plan    = answers + walk + serial
    answers = ceil(tasks / W) * images of a task * forward
    walk    = ceil(blocks / S) * block + (S - 1) * sums / bandwidth,     S = shares_for(W, ...)
    serial  = codes of all layers, one after the other; sending them to all, and taking the answers
    run     = float pass + table + Δloss + plans + looks

The rounding table takes as long as its largest layer at least. The client hands over all tasks, and
takes their results.
"""

import math
from dataclasses import dataclass, field

from onnxsemi._evaluation.outcomes import OUTCOME_BYTES
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._results.check import ClusterForecast
from onnxsemi._rounding.spread_walk import shares_for
from onnxsemi._rounding.target_output import TargetOutput, find_target_outputs
from onnxsemi._rounding.task_times import WalkTimes, walk_times
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

PLANS, LOOKS = 6, 4
"""Plans that a run measures and looks at, about (``benchmarks/search_cost.py``)."""
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
        targets: The layers that are rounded.
    """

    image: float
    walk: WalkTimes
    backward: BackwardTimes
    bitwidths: int
    rounding: int
    delta_loss: int
    weights: int
    logits: int
    targets: tuple[TargetOutput, ...] = field(repr=False)


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
        targets=find_target_outputs(prepared.classifier, workload.image),
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
class _Run:
    times: TaskTimes
    images: int
    workers: int

    @property
    def seconds(self) -> float:
        """Wall time of the whole run."""
        plan = self._answers(self.images) + self._walk(self.times.rounding)
        look = self._answers(math.ceil(LOOKED_AT * self.images)) + self._walk(LOOK_IMAGES)
        once = self._answers(self.images) + self._table + self._delta_loss
        return once + PLANS * plan + LOOKS * look + self.serial

    @property
    def serial(self) -> float:
        """Seconds of it in which one machine works, or the network alone."""
        return (PLANS + LOOKS) * self._codes + self._moved_alone / BANDWIDTH + self._handled

    @property
    def moved(self) -> float:
        """Bytes that go over the network."""
        if self.workers == 1:
            return 0.0
        sums = sum(layer.moved for layer in self.times.walk.layers)
        hops = PLANS * (self._shares(self.times.rounding) - 1) + LOOKS * (
            self._shares(LOOK_IMAGES) - 1
        )
        copies = (PLANS + LOOKS) * self.times.weights * self.workers
        once = self.images * self.times.logits + self.times.delta_loss * self.times.backward.moved
        return once + self._answered * OUTCOME_BYTES + hops * sums + copies

    @property
    def _moved_alone(self) -> float:
        """Bytes that nothing is done beside: from share to share, in a tree to all, to here."""
        if self.workers == 1:
            return 0.0
        sums = sum(layer.moved for layer in self.times.walk.layers)
        hops = PLANS * (self._shares(self.times.rounding) - 1) + LOOKS * (
            self._shares(LOOK_IMAGES) - 1
        )
        depth = math.ceil(math.log2(self.workers))
        return hops * sums + (PLANS + LOOKS) * depth * self.times.weights

    @property
    def _answered(self) -> float:
        """Answers of images to plans."""
        return self.images * (PLANS + LOOKS * LOOKED_AT)

    @property
    def _codes(self) -> float:
        return sum(layer.codes for layer in self.times.walk.layers)

    @property
    def _handled(self) -> float:
        """What the client does for the tasks of the walks, which wait for each other."""
        if self.workers == 1:
            return 0.0
        layers = len(self.times.walk.layers)
        return (
            HANDLING
            * 3
            * layers
            * (PLANS * self._shares(self.times.rounding) + LOOKS * self._shares(LOOK_IMAGES))
        )

    def _shares(self, images: int) -> int:
        times = self.times
        return shares_for(self.workers, images, times.image, times.targets)

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
        """Seconds of the rounding table: moments, then every bitwidth, a layer with one worker."""
        blocks = math.ceil(self.times.rounding / BLOCK_IMAGES)
        layers = [
            blocks * layer.look + self.times.bitwidths * layer.table
            for layer in self.times.walk.layers
        ]
        forward = self.times.rounding * self.times.image
        return forward + max(sum(layers) / self.workers, max(layers, default=0.0))

    @property
    def _delta_loss(self) -> float:
        """Seconds of the backward passes; each worker builds each graph."""
        backward = self.times.backward
        tasks = math.ceil(self.times.delta_loss / BACKWARD_IMAGES)
        rounds = math.ceil(tasks / self.workers)
        each = backward.graph + rounds * BACKWARD_IMAGES * backward.image
        return backward.parts * each
