"""What a forward pass takes, the unit of cost, and how many the exact measurement of layers does.

passes = sum over layers of channels * bitwidths * share of the model's nodes behind the layer
"""

import statistics
from collections.abc import Collection, Iterator, Sequence
from itertools import cycle, islice

from onnxsemi._evaluation.forward import timed_run
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.outputs import with_outputs
from onnxsemi._run.spent import Spent
from onnxsemi._runtime.batch_sizes import FORWARD_IMAGES
from onnxsemi._runtime.runner import Batch, Runner
from onnxsemi._runtime.sessions import Session

_RUNS = 32
"""Batches that a pass is timed by."""


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


def forward_pass(workload: Workload, runs: int = _RUNS) -> Spent:
    """What one float32 forward pass over the images takes: the unit of cost.

    Each batch runs on one thread, whose own time is taken, with as many beside it as there are
    threads; the images are read before. The median of some, of a session that has run before, is
    not moved by what else the machine does for a while. Those that gave the float model's answers
    are taken; only where they are fewer than ``runs`` are others run.

    Args:
        workload: Model, images and threads.
        runs: Batches to time, at least.
    """
    images, each = workload.images, [*workload.float_runs]
    with workload.running() as runner:
        batches = runner.batches(len(images), FORWARD_IMAGES)
        if len(each) < runs:
            each += _timed(workload, runner, batches[:runs], runs - len(each))
    beside = min(workload.threads, len(batches))
    seconds = statistics.median(spent.seconds for spent in each) / beside
    cpu_seconds = statistics.median(spent.cpu_seconds for spent in each)
    return Spent(len(images) * seconds, len(images) * cpu_seconds)


def _timed(
    workload: Workload, runner: Runner, batches: Sequence[Batch], runs: int
) -> Iterator[Spent]:
    """What an image takes, in so many batches of a session that has run before."""
    ends, images, progress = workload.classifier.ends, workload.images, workload.progress
    model = with_outputs(workload.classifier.proto, [ends.logits]).SerializeToString()
    session = Session(model)

    def run(batch: Batch) -> Spent:
        pixels = {ends.image.name: images.batch(batch.start, batch.stop)}
        return timed_run(runner, session, pixels)[1]

    progress.start("forward pass", runs)
    run(batches[0])
    for spent in runner.map(run, islice(cycle(batches), runs)):
        yield spent
        progress.step("")


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
