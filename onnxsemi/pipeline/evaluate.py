"""``evaluate``: accuracy and loss of any ONNX classifier, and how it differs from another."""

import os

import numpy as np
import onnx

from onnxsemi.arrays import Float32Array
from onnxsemi.data.images import ImageSet
from onnxsemi.data.load import Data, DataOptions, load_images
from onnxsemi.errors import ModelError
from onnxsemi.measure.comparison import compare
from onnxsemi.measure.forward import forward
from onnxsemi.measure.metrics import cross_entropy, hits
from onnxsemi.measure.shards import worker_threads
from onnxsemi.model.head import Ends, find_ends
from onnxsemi.model.load import load_proto
from onnxsemi.model.widen import is_float16, widen
from onnxsemi.results import EvaluateResult
from onnxsemi.runtime import quantizes_activations


def evaluate(
    model: str | os.PathLike[str],
    data: Data,
    *,
    reference: str | os.PathLike[str] | None = None,
    output: str | None = None,
    data_options: DataOptions | None = None,
    threads: int | None = None,
) -> EvaluateResult:
    """Measure a classifier, float or compressed, on images.

    Args:
        model: An ONNX file.
        data: Images, with labels if accuracy is asked for.
        reference: Another ONNX file that takes the same images: the float model, say.
        output: Name of the output that holds the class scores, if there are several.
        data_options: Preprocessing of the images.
        threads: Shards of images worked on at once; None for every core.

    Raises:
        OnnxSemiError: If a model or the data cannot be used.
    """
    workers = worker_threads(threads)
    proto, ends = _open(model, output)
    images = load_images(data, ends.image.name, ends.image.shape, data_options)
    logits = forward(proto, ends, images, workers, integers=quantizes_activations(proto))
    images.check_labels(logits.shape[1])
    labels = images.labels
    comparison = None
    if reference is not None:
        other = _reference_logits(reference, output, images, workers)
        if other.shape != logits.shape:
            raise ModelError(
                f"{reference} has {other.shape[1]} classes, {model} has {logits.shape[1]}"
            )
        comparison = compare(other, logits, labels)
    return EvaluateResult(
        total=len(images),
        correct=None if labels is None else int(hits(logits, labels).sum()),
        loss=None if labels is None else float(np.mean(cross_entropy(logits, labels))),
        comparison=comparison,
    )


def _open(path: str | os.PathLike[str], output: str | None) -> tuple[onnx.ModelProto, Ends]:
    proto = load_proto(path)
    proto = widen(proto) if is_float16(proto) else proto
    try:
        return proto, find_ends(proto.graph, output)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _reference_logits(
    path: str | os.PathLike[str], output: str | None, images: ImageSet, threads: int
) -> Float32Array:
    proto, ends = _open(path, output)
    fitted, integers = images.fit(ends.image.shape), quantizes_activations(proto)
    return forward(proto, ends, fitted, threads, integers=integers)
