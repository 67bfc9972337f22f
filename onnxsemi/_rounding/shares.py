"""Blocks of images, dealt to the workers of an engine: who sums what is seen of them.

Sums of the blocks are added in the blocks' order, whoever has them: the shares change no result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsemi._evaluation.workload import Workload
from onnxsemi._rounding.observed_layers import ObservedLayer, blocks
from onnxsemi._rounding.target_output import find_target_outputs
from onnxsemi._runtime.batch_sizes import BLOCK_IMAGES
from onnxsemi._runtime.engine import HANDLING
from onnxsemi._runtime.runner import Batch

PASSES = 3.3
"""Forward passes that a block of images takes in a plan, on the way and for the sums: 3.2 measured
on a ResNet-18, 3.4 on a ResNet-50 (``benchmarks/cluster.py``)."""
TASKS = 2
"""Tasks of a layer for each share: a look, and going on."""
ADDED = 8
"""Shares whose sums are added by one task: it fetches them side by side."""
PART_BYTES, MOST_PARTS = 2**22, 6
"""Of the products of a wide layer's columns, what one worker adds up; parts at the most."""
_OVERHEAD = 0.1  # of the work that handing over its tasks may take


@dataclass(frozen=True, eq=False)
class Share:
    """Blocks of images that one worker works on.

    Attributes:
        workload: Their images.
        blocks: Number of each block among all -> where its images lie among these.
    """

    workload: Workload
    blocks: Mapping[int, Batch]


def shares_for(workers: int, images: int, seconds: float, layers: int) -> int:
    """Into how many shares images are dealt. Changes no result.

    As many as there are blocks and workers, if the tasks of a share take no more than a tenth of
    its work: small models are rounded by one, or by few.

    Args:
        workers: How many work.
        images: That plans are rounded on.
        seconds: A forward pass of an image.
        layers: How many.
    """
    count = max(1, images // BLOCK_IMAGES)
    work, handling = images * PASSES * seconds, max(1, layers) * TASKS * HANDLING
    return max(1, min(workers, count, int(_OVERHEAD * work / handling)))


def share_count(workload: Workload) -> int:
    """The same for a workload; 1 where nothing is handed over."""
    workers, images = workload.engine.workers, len(workload.images)
    if not workers:
        return 1
    layers = len(find_target_outputs(workload.classifier, workload.image))
    return shares_for(workers, images, workload.image_seconds, layers)


def dealt(workload: Workload, count: int) -> list[Share]:
    """The blocks of images, dealt to so many workers: neighbours to each."""
    every, found = list(enumerate(blocks(workload))), list[Share]()
    for places in np.array_split(np.arange(len(every)), min(count, len(every))):
        own = [every[place] for place in places.tolist()]
        start, stop = own[0][1].start, own[-1][1].stop
        here = {number: Batch(one.start - start, one.stop - start) for number, one in own}
        found.append(Share(workload.part(slice(start, stop)), here))
    return found


def sum_parts(layer: ObservedLayer) -> int:
    """In how many parts the products of a layer's columns are added. Changes no result.

    Those of wide layers would keep one worker for seconds.
    """
    if len(layer.panels) > 1:
        return 1
    return max(1, min(MOST_PARTS, layer.moment_bytes // PART_BYTES))


def in_turns(sums: Sequence[Any]) -> list[list[Any]]:
    """Sums of shares, those together that are added together, in order.

    >>> in_turns(range(10))
    [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    """
    return [list(sums[start : start + ADDED]) for start in range(0, len(sums), ADDED)]
