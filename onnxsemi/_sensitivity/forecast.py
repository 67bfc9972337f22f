"""What the exact measurement of layers will take, in forward passes over its images.

passes = sum over layers of channels * bitwidths * share of the model's nodes behind the layer
"""

import time
from collections.abc import Collection

from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier


def exact_passes(classifier: Classifier, layers: Collection[str], bits: tuple[int, ...]) -> float:
    """Forward passes that Δloss of every channel takes, each bitwidth on its own.

    Args:
        classifier: The model.
        layers: Names of the target layers.
        bits: Bitwidths.
    """
    index = classifier.index
    total = 0.0
    for site in classifier.sites:
        if site.layer.name in layers:
            behind = index.downstream(name for n in classifier.users(site) for name in n.output)
            total += site.layer.channels * len(bits) * len(behind) / len(index.graph.node)
    return total


def forward_seconds(workload: Workload) -> float:
    """Wall time of one forward pass over the images."""
    began = time.perf_counter()
    workload.forward(workload.classifier.proto)
    return time.perf_counter() - began


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> duration(12.3), duration(300), duration(9000), duration(400000)
    ('12 seconds', '5 minutes', '2.5 hours', '4.6 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172800 else f"{seconds / 86400:.1f} days"
