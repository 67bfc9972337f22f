"""``check``: what ``compress`` will work with, before anything long begins."""

from onnxsemi._data.checks import sample
from onnxsemi._data.load import Data
from onnxsemi._errors import SettingsError
from onnxsemi._field_types import check_argument
from onnxsemi._model.loader import Model, name_of
from onnxsemi._pipeline.cluster_forecast import cluster_forecast, task_times
from onnxsemi._pipeline.memory_need import least_memory
from onnxsemi._pipeline.nothing_holds import file_bytes
from onnxsemi._pipeline.preflight import warnings
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.remaining_time import passes_of
from onnxsemi._progress import Progress, warn
from onnxsemi._progress_callback import Listener, listening
from onnxsemi._results.check import CheckResult, ClusterForecast, Forecast
from onnxsemi._search.few_images import images_to_show, least_tolerance
from onnxsemi._sensitivity.forecast import forward_pass
from onnxsemi._settings import Settings
from onnxsemi._stats.metric import Metric

SHOWN_BITS = (8, 4, 2)
"""One bitwidth for all: sizes between which the search ends."""
_TIMED = 4  # batches


def check(
    model: Model,
    data: Data,
    *,
    test_data: Data | None = None,
    settings: Settings | None = None,
    metric: Metric | None = None,
    progress: Listener | None = None,
    workers: int | None = None,
) -> CheckResult:
    """Look at a model and images as :func:`compress` would, and say what to expect.

    Nothing is written, and no plan is measured: the float model runs on 512 images at most.

    Args:
        model: An ONNX model, as for :func:`compress`.
        data: Images to search on, as for :func:`compress`.
        test_data: Images that the search would never see; a part of ``data`` unless given.
        settings: As for :func:`compress`.
        metric: As for :func:`compress`.
        progress: Told where the work is.
        workers: Say what to expect of a run on so many workers of a cluster, too: tasks of each
            kind are measured here, which takes longer.

    Raises:
        OnnxSemiError: If ``compress`` would refuse the model, the images or the settings.
        TypeError: If the metric does not give one number an image.
        ValueError: If it raises, gives NaN or infinity, or changes what it is given.
    """
    settings, progress = settings or Settings(), listening(progress)
    check_argument("settings", settings, Settings)
    progress.start("reading the model and the images", 1)
    prepared = prepare(model, data, test_data, settings, metric)
    said = warnings(prepared)
    warn(progress, said)
    guard = prepared.guard
    guard.check_images(len(prepared.search))
    workload = prepared.judging(sample(prepared.search))
    logits = workload.float_logits()
    classifier, image = prepared.classifier, prepared.classifier.ends.image
    values = None if workload.judge is None else workload.judge(logits)
    classes = prepared.has_labels and values is None
    right = int(workload.likelihood.right(logits, workload.labels).sum()) if classes else None
    return CheckResult(
        model=name_of(model),
        input_name=image.name,
        input_shape=image.shape,
        classes=logits.shape[1],
        search_images=len(prepared.search),
        report_images=len(prepared.report),
        looked_at=len(workload.images),
        correct=right,
        targets=len(classifier.layers),
        target_bytes=sum(layer.weight.nbytes for layer in classifier.layers),
        file_bytes=classifier.source_bytes,
        left_float=classifier.left_float,
        asked=guard.asked,
        shown=least_tolerance(len(prepared.search)),
        images_needed=images_to_show(guard.asked) if guard.asked else None,
        sizes={bits: _size(prepared, bits) for bits in SHOWN_BITS},
        forecast=_forecast(prepared),
        warnings=said,
        metric=None if values is None else values.name,
        mean=None if values is None else float(values.each.mean()),
        head=workload.head,
        notes=classifier.notes,
        cluster=None if workers is None else _on_cluster(prepared, workers, progress),
    )


def _on_cluster(prepared: Prepared, workers: int, progress: Progress) -> ClusterForecast:
    """From what tasks take here."""
    if workers < 1:
        raise SettingsError(f"`workers`: {workers} must be 1 or more")
    progress.start("tasks of each kind", 1)
    return cluster_forecast(task_times(prepared), len(prepared.search), workers)


def _size(prepared: Prepared, bits: int) -> int:
    """Bytes of the file with one bitwidth for all targets that are not pinned."""
    plan = prepared.start().with_layers(prepared.free(), bits)
    return file_bytes(prepared, plan, None)


def _forecast(prepared: Prepared) -> Forecast:
    """From what a few images take."""
    settings, images = prepared.settings, prepared.search
    workload = prepared.workload(images)
    return Forecast(
        pass_seconds=forward_pass(workload, _TIMED).seconds,
        images=len(images),
        passes=passes_of(settings, len(images)),
        least_memory=least_memory(workload, settings),
        memory=prepared.memory,
    )
