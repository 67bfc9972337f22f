"""``compress``: the whole way from a float model and images to a verified, smaller file."""

import os
from pathlib import Path
from typing import Any

from onnxsemi._data.load import Data
from onnxsemi._errors import BudgetError
from onnxsemi._model.loader import Model
from onnxsemi._pipeline.first_plan import check_budget, first_plan
from onnxsemi._pipeline.preflight import preflight
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.remaining_time import Remaining, forecast
from onnxsemi._pipeline.rounding import codes_of
from onnxsemi._pipeline.run_identity import Clock, Limited, check_places, made_of, open_run_of
from onnxsemi._pipeline.search import Search
from onnxsemi._pipeline.sensitivity import measure_sensitivity
from onnxsemi._progress import Within
from onnxsemi._progress_callback import Listener
from onnxsemi._results.results import CompressResult
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.spent import Spent
from onnxsemi._settings import Settings
from onnxsemi._stats.metric import Metric


def compress(
    model: Model,
    data: Data,
    *,
    output: str | os.PathLike[str],
    test_data: Data | None = None,
    settings: Settings | None = None,
    metric: Metric | None = None,
    progress: Listener | None = None,
    engine: Any = None,
) -> CompressResult:
    """Compress a classifier without losing accuracy and without retraining.

    Args:
        model: An ONNX file, opset 7 or newer, float32 or float16; its bytes, or its proto.
        data: Images to search on: a ``.npz`` file, a folder of class folders, an
            :class:`~onnxsemi.ImageSet`, an array, a pair (images, labels), or an iterable of
            batches, such as an ``onnxruntime.quantization.CalibrationDataReader``.
        output: Where to write the compressed model; the plan is written beside it as
            ``<name>.plan.json``.
        test_data: Images that the search never sees; a part of ``data`` unless given.
        settings: Everything else; by default the frontier of all layers, on all images.
        metric: What plans are judged by instead of top-1: a function of logits, float32[N, K], and
            labels, [N, ...], that gives one number an image, higher is better. Its mean is guarded;
            a point is a hundredth of it. Labels may be any numbers then. For the frontier.
        progress: Told where the work is: a function, which is given an
            :class:`~onnxsemi.Event`, or an object of :class:`~onnxsemi.Progress`.
        engine: A ``distributed.Client``: the workers of its cluster measure, and the result is the
            same; in place of the setting ``run.cluster``.

    Returns:
        The plan, accuracy on calibration and test images, sizes, and every decision.

    Raises:
        LossError: If the test images show a loss beyond what was asked for (``allow_loss`` writes
            the file nevertheless). It has the result; the run keeps everything.
        NothingHoldsError: If no plan holds the accuracy asked for. It has the best that was
            measured; the run keeps everything, and other settings that only judge (``max_drop``,
            ``tolerance``, ``guarantee``) can be tried with ``resume`` without measuring again.
        OnnxSemiError: If the model, the data, a setting or the run cannot be used, if nothing could
            be compressed in the time asked for, or if the written file is not what was measured. No
            file is written then, and an existing one is left as it is.
        TypeError: If the metric does not give one number an image.
        ValueError: If it raises, gives NaN or infinity, or changes what it is given.
    """
    began, settings = Spent.so_far(), settings or Settings()
    target = check_places(settings, output, model, data, test_data)
    clock = Clock(settings.run.time_budget)
    told, run = Remaining(progress, settings.run.time_budget), settings.run
    limited = Limited(told, clock)
    with run.engine(engine) as at:
        told.start("reading the model and the images", 1)
        prepared = prepare(model, data, test_data, settings, metric, Within(limited), at)
        check_budget(prepared, clock)
        return _compressed(prepared, target, clock, told, began)


def _compressed(
    prepared: Prepared, target: Path, clock: Clock, progress: Remaining, began: Spent
) -> CompressResult:
    """Search and deliver."""
    limited = Limited(progress, clock)
    before = preflight(prepared, limited)
    parts, settings = made_of(prepared), prepared.settings
    with open_run_of(settings.run, parts, force=settings.force, began=began) as folder:
        one_pass = forecast(prepared, folder, progress, limited)
        first = None
        if clock.budget is not None:
            first = first_plan(prepared, folder, clock, limited, one_pass)
        try:
            search = _search(prepared, folder, clock, progress)
            found = search.find()
        except BudgetError:
            if first is None:
                raise
            clock.stop()
            search, found = first.search, first.found
        return search.deliver(found, target, before, one_pass)


def _search(prepared: Prepared, run: RunFolder, clock: Clock, progress: Remaining) -> Search:
    """A search that may begin: how weights are rounded and what it goes by are measured."""
    limited = Limited(progress, clock)
    codes = codes_of(prepared, run, limited)
    sensitivity = measure_sensitivity(prepared, codes.rounding, run, limited)
    return Search(prepared, codes, sensitivity, run, clock, progress)
