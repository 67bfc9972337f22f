"""``evaluate``: accuracy and loss of any ONNX classifier, and how it differs from another."""

from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array
from onnxsemi._data.checks import too_few
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import Data
from onnxsemi._emit.seal import changed
from onnxsemi._errors import ModelError
from onnxsemi._evaluation.batch_independence import check_own_answers
from onnxsemi._evaluation.forward import forward
from onnxsemi._evaluation.provider_check import reference_run
from onnxsemi._evaluation.spread_forward import SentModel, spread_forward
from onnxsemi._field_types import check_argument
from onnxsemi._model.evaluation_form import make_plain
from onnxsemi._model.head import Ends, find_ends
from onnxsemi._model.loader import Model, load_proto, name_of, named
from onnxsemi._pipeline.sanity_checks import LEAST_IMAGES, JudgedImages, check_answers, checked
from onnxsemi._pipeline.user_images import given_images
from onnxsemi._progress import Progress, Silent, warn
from onnxsemi._progress_callback import Listener, listening
from onnxsemi._results.results import EvaluateResult
from onnxsemi._runtime.engine import TASK_IMAGES, THREADS, Engine
from onnxsemi._runtime.reference_run import ReferenceRun
from onnxsemi._runtime.runner import Runner
from onnxsemi._runtime.sessions import quantizes_activations
from onnxsemi._settings import EvaluateSettings
from onnxsemi._stats.comparison import comparison_of
from onnxsemi._stats.likelihood import LIKELIHOODS
from onnxsemi._stats.metric import Judge, Metric


def evaluate(
    model: Model,
    data: Data,
    *,
    reference: Model | None = None,
    settings: EvaluateSettings | None = None,
    metric: Metric | None = None,
    progress: Listener | None = None,
) -> EvaluateResult:
    """Measure a classifier, float or compressed, on images.

    Args:
        model: An ONNX file, its bytes, or its proto.
        data: Images, with labels if accuracy is asked for.
        reference: Another ONNX model that takes the same images: the float model, say.
        settings: Everything else. With ``force`` labels that the float model (``reference``, if
            given) meets no better than by guessing are a warning.
        metric: What is measured instead of accuracy and loss, as for :func:`compress`.
        progress: Told where the work is.

    Raises:
        OnnxSemiError: If a model or the data cannot be used.
        TypeError: If the metric does not give one number an image.
        ValueError: If it raises, gives NaN or infinity, or changes what it is given.
    """
    settings, progress = settings or EvaluateSettings(), listening(progress)
    check_argument("settings", settings, EvaluateSettings)
    progress.start("reading the model and the images", 1)
    opened = _Opened.of(model, settings)
    given = given_images(data, opened.ends, settings.data, for_metric=metric is not None)
    with settings.engine() as engine:
        opened = replace(opened, engine=engine)
        warn(progress, engine.admit(opened.reference_run(given)))
        return _evaluated(opened, given, reference, settings, metric, progress)


def _evaluated(
    opened: "_Opened",
    given: ImageSet,
    reference: Model | None,
    settings: EvaluateSettings,
    metric: Metric | None,
    progress: Progress,
) -> EvaluateResult:
    """A model on images, compared with another if there is one."""
    head, rule = opened.ends.head, LIKELIHOODS[opened.ends.head]
    fitting = checked(given, opened.logits)
    images, labels = fitting.images, fitting.images.labels
    check_own_answers(opened.proto, opened.ends, images)
    logits, comparison = opened.logits(images, progress), None
    judge = None if metric is None or images.targets is None else Judge(metric, images.targets)
    values = None if judge is None else judge(logits)
    judged = JudgedImages(images, logits, opened.logits, head)
    said = opened.changed
    if reference is not None:
        other = replace(_Opened.of(reference, settings), engine=opened.engine)
        said += other.changed
        judged = _referred(opened, judged, other, progress)
        comparison = comparison_of(judged.logits, logits, labels, judge, head)
    few = too_few(images, LEAST_IMAGES)
    warnings = (
        *said,
        *fitting.warnings,
        *(() if few is None else (few,)),
        *check_answers(judged, fitting.doubts, force=settings.force),
    )
    warn(progress, warnings)
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


@dataclass(frozen=True, eq=False)
class _Opened:
    """A model to be run as it is, and where."""

    name: str
    proto: onnx.ModelProto
    ends: Ends
    threads: int
    engine: Engine = THREADS

    @classmethod
    def of(cls, model: Model, settings: EvaluateSettings) -> "_Opened":
        proto, output = load_proto(model), settings.output
        with named(model):
            make_plain(proto, output)
            return cls(name_of(model), proto, find_ends(proto, output), settings.worker_threads)

    @property
    def changed(self) -> tuple[str, ...]:
        """What to say of a file of onnxsemi's that is not what was written."""
        return tuple(f"{self.name}: {said}" for said in changed(self.proto))

    def logits(self, images: ImageSet, progress: Progress | None = None) -> Float32Array:
        """float32[N, K]."""
        integers, progress = quantizes_activations(self.proto), progress or Silent()
        if self.engine.workers and len(images) > TASK_IMAGES:
            sent = SentModel(self.proto, self.ends, integers=integers)
            return spread_forward(sent, images, self.engine, progress)
        with Runner(self.ends.image.batch, self.threads) as runner:
            return forward(self.proto, self.ends, images, runner, progress, integers=integers)

    def reference_run(self, images: ImageSet) -> ReferenceRun:
        """A few images through the model."""
        return reference_run(self.proto, self.ends, images)


def _referred(
    opened: _Opened, judged: JudgedImages, reference: _Opened, progress: Progress
) -> JudgedImages:
    """The same images with what the reference answers.

    Raises:
        ModelError: If its answers are no others of the same kind.
    """
    head, count = judged.head, judged.logits.shape[1]
    if reference.ends.head is not head:
        raise ModelError(
            f"{reference.name} and {opened.name}: only one ends in a Sigmoid, or one in several: "
            "their answers cannot be compared"
        )
    images = judged.images.fit(reference.ends.image.shape)
    logits = reference.logits(images, progress)
    if logits.shape != judged.logits.shape:
        raise ModelError(
            f"{reference.name} has {logits.shape[1]} {head.scored}, {opened.name} has {count}"
        )
    return JudgedImages(images, logits, reference.logits, head)
