"""The plain way: run the whole model over all images."""

import time

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._data.images import ImageSet
from onnxsemi._errors import ModelError
from onnxsemi._head import Head
from onnxsemi._model.head import Ends
from onnxsemi._model.outputs import with_outputs
from onnxsemi._progress import Progress
from onnxsemi._run.spent import Spent
from onnxsemi._runtime.batch_sizes import FORWARD_IMAGES
from onnxsemi._runtime.providers import CPU, Provider
from onnxsemi._runtime.runner import Batch, Rows, Runner
from onnxsemi._runtime.sessions import Session


def forward(
    model: onnx.ModelProto,
    ends: Ends,
    images: ImageSet,
    runner: Runner,
    progress: Progress,
    *,
    integers: bool = False,
    provider: Provider = CPU,
) -> Float32Array:
    """Logits of a model over all images, in order: float32[N, K].

    Args:
        model: The graph, with whatever weights.
        ends: Names of its image input and logits.
        images: Images laid out for it.
        runner: Runs it.
        progress: Told of every image.
        integers: Whether to run quantized activations on integer kernels.
        provider: What runs it.

    Raises:
        ModelError: If ONNX Runtime refuses the model or the images, or a logit is not finite.
    """
    # in one expression: a name would keep the serialized model while the session lives
    session = Session(
        with_outputs(model, [ends.logits]).SerializeToString(), provider, integers=integers
    )
    progress.start("forward pass", len(images))
    return answers(session, ends, images, runner, progress)


def answers(
    session: Session,
    ends: Ends,
    images: ImageSet,
    runner: Runner,
    progress: Progress,
    spent: list[Spent] | None = None,
) -> Float32Array:
    """The same of a model that is open.

    Args:
        session: Gives the logits.
        ends: Names of its image input and logits.
        images: Images laid out for it.
        runner: Runs it.
        progress: Told of every image.
        spent: Is given what an image took on its thread, in each batch but the first.
    """

    def run(batch: Batch) -> Float32Array:
        pixels = images.batch(batch.start, batch.stop)
        rows, each = timed_run(runner, session, {ends.image.name: pixels})
        if spent is not None and batch.start:
            spent.append(each)
        return logit_rows(rows[ends.logits], len(pixels), ends.head)

    found = []
    for part in runner.map(run, runner.batches(len(images), FORWARD_IMAGES)):
        found.append(part)
        progress.step("", len(part))
    return finite_logits(np.concatenate(found), images.name, images.places)


def timed_run(runner: Runner, session: Session, given: Rows) -> tuple[Rows, Spent]:
    """What a run gives, and what an image of it took on the thread that it ran on."""
    began, on_thread = time.perf_counter(), time.thread_time()
    found, count = runner.run(session, given), len(next(iter(given.values())))
    seconds, cpu_seconds = time.perf_counter() - began, time.thread_time() - on_thread
    return found, Spent(seconds / count, cpu_seconds / count)


def finite_logits(logits: Float32Array, name: str, images: Int64Array) -> Float32Array:
    """The logits themselves.

    Args:
        logits: float32[M, K].
        name: Name of the image set.
        images: int64[M], the indices of the images.

    Raises:
        ModelError: If one of them is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if bad.size:
        raise ModelError(f"the model gives NaN or infinity on image {images[bad[0]]} of {name}")
    return logits


def logit_rows(scores: Float32Array, rows: int, head: Head = Head.SOFTMAX) -> Float32Array:
    """float32[rows, K, 1, ...] -> float32[rows, K]; one Sigmoid's z as the logits (0, z).

    Raises:
        ModelError: If the scores are not one vector of at least two classes an image, or for one
            Sigmoid not one value.
    """
    if head is Head.ONE_SIGMOID and scores.size == rows:
        column = np.asarray(scores, np.float32).reshape(rows, 1)
        return np.concatenate([np.zeros_like(column), column], axis=1)
    if scores.ndim < 2 or len(scores) != rows or scores.size != rows * scores.shape[1]:
        raise ModelError(
            f"the output has shape {list(scores.shape)} for {rows} images; "
            "a classifier gives [images, classes]"
        )
    if scores.shape[1] < 2:
        raise ModelError(
            "the output has one value an image; a classifier has two classes or more: if it is one "
            "logit z, export the model with a Sigmoid behind it, its shape [N, 1] given, or the "
            "two scores Concat(0, z)"
        )
    return np.asarray(scores, np.float32).reshape(rows, -1)


def score_gradients(gradients: Float32Array, head: Head) -> Float32Array:
    """Gradients at the logits of :func:`logit_rows` -> at the scores that they come from.

    Args:
        gradients: float32[N, S, K].
        head: What the scores are; of one Sigmoid only the second logit depends on its z.

    Returns:
        float32[N, S, K], of one Sigmoid float32[N, S, 1].
    """
    return gradients[..., 1:] if head is Head.ONE_SIGMOID else gradients
