"""What the tasks of the backward passes take, measured on the images of one task."""

import time
from dataclasses import dataclass

import numpy as np

from onnxsemi._evaluation.forward import score_gradients
from onnxsemi._evaluation.workload import Workload
from onnxsemi._runtime.batch_sizes import BACKWARD_IMAGES
from onnxsemi._sensitivity.backward import SentPart, block_terms
from onnxsemi._sensitivity.parts import parts_of


@dataclass(frozen=True)
class BackwardTimes:
    """What the parts of the backward passes take, in CPU seconds of one thread.

    Attributes:
        parts: How many there are.
        graph: To build the graph of a part, as each worker does.
        image: The terms of an image in a part.
        moved: Bytes of the terms of an image in all parts.
    """

    parts: int
    graph: float
    image: float
    moved: int


def backward_times(workload: Workload, bits: tuple[int, ...]) -> BackwardTimes:
    """Measure the first part, which goes through the whole model.

    Args:
        workload: The float model and images with labels; the first are used.
        bits: The ladder, widest first.
    """
    few = workload.first(BACKWARD_IMAGES)
    parts = parts_of(few.classifier.layers, bits)
    generator = np.random.default_rng(0)
    drawn = few.likelihood.cotangents(few.float_logits(), few.labels, generator)
    cotangents = score_gradients(drawn, few.head)
    sent, began = SentPart(parts[0], cotangents.shape[1], products=False), time.process_time()
    sent.graph(few)
    built = time.process_time()
    block_terms(few, sent, cotangents)
    each = (time.process_time() - built) / len(few.images)
    channels = sum(layer.channels for layer in few.classifier.layers)
    moved = (4 + 8) * channels * len(bits)  # float32[O, B] and float64[O, B] of each layer
    return BackwardTimes(len(parts), built - began, each, moved)
