"""Whether an execution provider runs a model at all, and gives an image the same bits each time.

On the processor an image's answer has the same bits in whatever batch (tests hold ONNX Runtime to
it), and so results do not depend on threads and memory. Of other providers that is not known.
"""

from collections.abc import Iterator

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.sent import sight_of
from onnxsemi._errors import SettingsError
from onnxsemi._evaluation.batch_independence import check_own_answers
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.head import Ends
from onnxsemi._model.outputs import with_outputs
from onnxsemi._runtime.batch_sizes import BACKWARD_IMAGES, CHAIN_IMAGES, COMPANIONS, FORWARD_IMAGES
from onnxsemi._runtime.providers import CPU, Provider, nodes_run
from onnxsemi._runtime.reference_run import ReferenceRun
from onnxsemi._runtime.runner import Batch, padded


def check_provider(workload: Workload) -> tuple[str, ...]:
    """Run some images on a workload's provider.

    Returns:
        What it does less well than the processor: nodes that it leaves to that, and answers whose
        bits are others in other batches, or each time.

    Raises:
        SettingsError: If it runs nothing of the model.
        ModelError: If its answers are no answers (:func:`check_own_answers`).
    """
    provider, classifier = workload.provider, workload.classifier
    if provider.on_cpu:
        return ()
    ends, few = classifier.ends, reference_run_of(workload)
    ran = nodes_run(few.model, dict(few.feeds), provider)
    named, left = f"`provider` {provider.flag}", ran[CPU.name]
    if not ran[provider.name]:
        raise SettingsError(
            f"{named}: it runs nothing of this model, whose {left} nodes run on the cpu: leave "
            "`provider` away"
        )
    check_own_answers(classifier.proto, ends, workload.images, provider)
    said = []
    if left:
        of = f"{left} of {ran.total()} nodes, counted as the provider has fused them,"
        said.append(f"{named}: {of} run on the cpu")
    if _varies(workload):
        said.append(
            f"{named}: an image's answer has other last bits in another batch, or each time: "
            "another number of threads, less memory or the same command again may end otherwise"
        )
    return tuple(said)


def reference_run_of(workload: Workload) -> ReferenceRun:
    """A few images through the float model."""
    classifier = workload.classifier
    return reference_run(classifier.proto, classifier.ends, workload.images, workload.provider)


def reference_run(
    model: onnx.ModelProto, ends: Ends, images: ImageSet, provider: Provider = CPU
) -> ReferenceRun:
    """A few images through a model.

    Args:
        model: The graph.
        ends: Names of its image input and logits.
        images: Images laid out for it.
        provider: What runs it.
    """
    few = images.batch(0, min(COMPANIONS, len(images)))
    feeds = {ends.image.name: padded(few, ends.image.batch)}
    run = with_outputs(model, [ends.logits]).SerializeToString()
    return ReferenceRun(run, feeds, provider, sight_of(images))


def _varies(workload: Workload) -> bool:
    """Whether the bits of an answer depend on how many images are run at once, or on the time."""
    first, *others = _answers(workload.first(FORWARD_IMAGES))
    return any(first.tobytes() != other.tobytes() for other in others)


def _answers(workload: Workload) -> Iterator[Float32Array]:
    """Logits of all images, run in batches of each size that there is, and once more."""
    ends, count = workload.classifier.ends, len(workload.images)
    session = workload.open(
        with_outputs(workload.classifier.proto, [ends.logits]).SerializeToString()
    )
    sizes = (FORWARD_IMAGES, FORWARD_IMAGES, CHAIN_IMAGES, BACKWARD_IMAGES, 1)
    with workload.running() as runner:
        for size in sizes if ends.image.batch is None else [ends.image.batch] * 2:
            parts = [
                runner.run(session, {ends.image.name: workload.images.batch(b.start, b.stop)})
                for b in Batch(0, count).cut(size)
            ]
            yield np.concatenate([part[ends.logits] for part in parts])
