"""``evaluate``: accuracy and loss of any ONNX classifier, and how it differs from another."""

from functools import partial

import numpy as np
import onnx

from onnxsemi.arrays import Float32Array
from onnxsemi.data.checks import too_few
from onnxsemi.data.images import ImageSet
from onnxsemi.data.load import Data, DataOptions, load_images
from onnxsemi.errors import ModelError
from onnxsemi.listening import Listener, listening
from onnxsemi.measure.companions import check_own_answers
from onnxsemi.measure.comparison import compare
from onnxsemi.measure.forward import gathered, parts
from onnxsemi.measure.likelihood import LIKELIHOODS
from onnxsemi.measure.metric import Judge, Metric
from onnxsemi.measure.shards import worker_threads
from onnxsemi.model.head import Ends, find_ends
from onnxsemi.model.load import Model, load_proto, name_of
from onnxsemi.model.plain import make_plain
from onnxsemi.pipeline.sanity import LEAST_IMAGES, Judged, check_answers, checked
from onnxsemi.progress import Progress, Silent, warn
from onnxsemi.results import EvaluateResult
from onnxsemi.runtime import quantizes_activations


def evaluate(  # noqa: PLR0913  a flag each
    model: Model,
    data: Data,
    *,
    reference: Model | None = None,
    output: str | None = None,
    data_options: DataOptions | None = None,
    force: bool = False,
    threads: int | None = None,
    metric: Metric | None = None,
    progress: Listener | None = None,
) -> EvaluateResult:
    """Measure a classifier, float or compressed, on images.

    Args:
        model: An ONNX file, its bytes, or its proto.
        data: Images, with labels if accuracy is asked for.
        reference: Another ONNX model that takes the same images: the float model, say.
        output: Name of the output that holds the class scores, if there are several.
        data_options: Preprocessing of the images.
        force: Go on with labels that the float model (``reference``, if given) meets no better than
            by guessing: that is a warning then.
        threads: Shards of images worked on at once; None for every core.
        metric: What is measured instead of accuracy and loss, as for :func:`compress`.
        progress: Told where the work is.

    Raises:
        OnnxSemiError: If a model or the data cannot be used.
        TypeError: If the metric does not give one number an image.
        ValueError: If it raises, gives NaN or infinity, or changes what it is given.
    """
    workers, told = worker_threads(threads), listening(progress)
    told.start("reading the model and the images", 1)
    proto, ends = _open(model, output)
    image, head, rule = ends.image, ends.head, LIKELIHOODS[ends.head]
    images = load_images(
        data,
        image.name,
        image.shape,
        data_options,
        for_metric=metric is not None,
        head=head,
        raw=image.pixels,
    )
    forward = partial(_logits, proto, ends, threads=workers)
    fitting = checked(images, forward)
    check_own_answers(proto, ends, fitting.images)
    images, labels = fitting.images, fitting.images.labels
    logits, comparison = forward(images, progress=told), None
    judge = None if metric is None or images.targets is None else Judge(metric, images.targets)
    values = None if judge is None else judge(logits)
    judged = Judged(images, logits, forward, head)
    if reference is not None:
        proto, ends = _open(reference, output)
        if ends.head is not head:
            raise ModelError(
                f"{name_of(reference)} and {name_of(model)}: only one ends in a Sigmoid, or one in "
                "several: their answers cannot be compared"
            )
        forward = partial(_logits, proto, ends, threads=workers)
        images = images.fit(ends.image.shape)
        other = forward(images, progress=told)
        judged = Judged(images, other, forward, head)
        if other.shape != logits.shape:
            raise ModelError(
                f"{name_of(reference)} has {other.shape[1]} {head.scored}, {name_of(model)} has "
                f"{logits.shape[1]}"
            )
        comparison = compare(other, logits, labels, judge, head)
    few = too_few(images, LEAST_IMAGES)
    warnings = (
        *fitting.warnings,
        *(() if few is None else (few,)),
        *check_answers(judged, fitting.doubts, force=force),
    )
    warn(told, warnings)
    return EvaluateResult(
        total=len(images),
        correct=None if labels is None else int(rule.right(logits, labels).sum()),
        loss=None if labels is None else float(np.mean(rule.loss(logits, labels))),
        comparison=comparison,
        warnings=warnings,
        metric=None if values is None else values.name,
        mean=None if values is None else float(values.each.mean()),
        head=head,
    )


def _open(model: Model, output: str | None) -> tuple[onnx.ModelProto, Ends]:
    proto = load_proto(model)
    try:
        make_plain(proto, output)
        return proto, find_ends(proto, output)
    except ModelError as error:
        raise ModelError(f"{name_of(model)}: {error}") from error


def _logits(
    proto: onnx.ModelProto,
    ends: Ends,
    images: ImageSet,
    *,
    threads: int,
    progress: Progress | None = None,
) -> Float32Array:
    found = parts(proto, ends, images, threads, integers=quantizes_activations(proto))
    return gathered(found, images, progress or Silent())
