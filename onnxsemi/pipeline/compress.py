"""``compress``: the whole way from a float model and images to a verified, smaller file."""

import os
from dataclasses import replace
from pathlib import Path

from onnxsemi.arguments import check_argument
from onnxsemi.atomic import check_writable
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.data.load import Data
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.model import emit
from onnxsemi.listening import Listener
from onnxsemi.measure.forecast import forward_seconds
from onnxsemi.measure.metric import Metric
from onnxsemi.model.load import Model
from onnxsemi.pipeline.prepare import Prepared, prepare
from onnxsemi.pipeline.remaining import Remaining, passes_of
from onnxsemi.pipeline.rounding import codes_of
from onnxsemi.pipeline.runs import (
    Clock,
    Limited,
    check_folder,
    made_of,
    opened,
)
from onnxsemi.pipeline.search import Search, warnings
from onnxsemi.pipeline.sensitivity import measure_sensitivity
from onnxsemi.pipeline.write import check_output, plan_path
from onnxsemi.progress import Progress, warn
from onnxsemi.quantizer.rounded import Nearest, rounded
from onnxsemi.results import CompressResult
from onnxsemi.run.folder import RunFolder
from onnxsemi.run.journal import Question
from onnxsemi.search.semilayers import Split
from onnxsemi.settings import Settings


class ForwardPass(Question, frozen=True):
    """Seconds of one float32 forward pass over so many images."""

    images: int


def compress(
    model: Model,
    data: Data,
    *,
    output: str | os.PathLike[str],
    report_data: Data | None = None,
    settings: Settings | None = None,
    metric: Metric | None = None,
    progress: Listener | None = None,
) -> CompressResult:
    """Compress a classifier without losing accuracy and without retraining.

    Args:
        model: An ONNX file, opset 7 or newer, float32 or float16; its bytes, or its proto.
        data: Images to search on: a ``.npz`` file, a folder of class folders, an
            :class:`~onnxsemi.ImageSet`, an array, a pair (images, labels), or an iterable of
            batches, such as an ``onnxruntime.quantization.CalibrationDataReader``.
        output: Where to write the compressed model; the plan is written beside it as
            ``<name>.plan.json``.
        report_data: Images that the search never sees; a part of ``data`` unless given.
        settings: Everything else; by default the frontier of all layers, on all images.
        metric: What plans are judged by instead of top-1: a function of logits, float32[N, K], and
            labels, [N, ...], that gives one number an image, higher is better. Its mean is guarded;
            a point is a hundredth of it. Labels may be any numbers then. For the frontier.
        progress: Told where the work is: a function, which is given an
            :class:`~onnxsemi.Event`, or an object of :class:`~onnxsemi.Progress`.

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
    settings = settings or Settings()
    check_argument("settings", settings, Settings)
    check_argument("output", output, str, os.PathLike)
    target = Path(output)
    clock = Clock(settings.run.time_budget)
    told = Remaining(progress, settings.run.time_budget)
    check_output(target, model, data, report_data)
    check_writable(plan_path(target))
    check_folder(settings.run, target, plan_path(target))
    told.start("reading the model and the images", 1)
    prepared = prepare(model, data, report_data, settings, metric)
    warn(told, warnings(prepared))
    guard = settings.search.guard(has_labels=prepared.has_labels)
    guard.check_images(len(prepared.search))
    check_profile(prepared)
    report_bench = replace(prepared.bench(prepared.report), progress=told)
    # first, so that images that the model or the metric cannot take are found at once
    before = report_bench.forward(prepared.classifier.proto)
    if report_bench.judge is not None:
        report_bench.judge(before)
    with opened(settings.run, made_of(prepared), force=settings.force) as folder:
        seconds = pass_seconds(prepared, folder, told)
        told.forecast(passes_of(settings, len(prepared.search)), seconds)
        limited = Limited(told, clock)
        codes = codes_of(prepared, folder, limited)
        sensitivity = measure_sensitivity(prepared, codes.rounding, folder, limited)
        search = Search(prepared, codes, sensitivity, folder, clock, told)
        return search.deliver(search.find(), target, before, seconds)


def check_profile(prepared: Prepared) -> None:
    """Refuse a profile that cannot hold what the search may come to, before the search.

    Raises:
        PlanError: With the layer.
    """
    settings, plan = prepared.settings, prepared.start()
    found = (FLOAT_BITS, *settings.search.bits)
    for number, name in enumerate(prepared.free()):
        channels = range(len(plan.bits[name]))
        if settings.search.split is Split.NONE:
            plan = plan.with_bits(name, channels, found[number % len(found)])
            continue
        for place, bits in enumerate(found):
            plan = plan.with_bits(name, channels[place :: len(found)], bits)
    ranges: Ranges | None = {} if settings.profile.quantizes_activations else None
    codes = rounded(prepared.classifier.layers, plan, Nearest(settings.grids))
    emit(prepared.classifier, codes, settings.profile, ranges)


def pass_seconds(prepared: Prepared, run: RunFolder, progress: Progress) -> float:
    """Time of one float32 forward pass over the calibration images: the unit of cost."""
    bench = replace(prepared.bench(prepared.search), progress=progress)

    return run.journal.ask(ForwardPass(len(bench.images)), float, lambda: forward_seconds(bench))
