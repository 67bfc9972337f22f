"""``compress``: the whole way from a float model and images to a verified, smaller file."""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onnxsemi import __about__
from onnxsemi.atomic import check_writable, whole_file
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.data.load import Data
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.model import emit
from onnxsemi.errors import AccuracyError, BudgetError
from onnxsemi.kernels import kernels_of
from onnxsemi.measure.evaluator import ModelEvaluator
from onnxsemi.measure.metrics import hits
from onnxsemi.measure.paired import Paired
from onnxsemi.measure.recorded import RecordedEvaluator
from onnxsemi.pipeline.activations import recorded_ranges
from onnxsemi.pipeline.choice import Chooser
from onnxsemi.pipeline.prepare import Prepared, prepare
from onnxsemi.pipeline.runs import Clock, Limited, check_folder, identity, opened
from onnxsemi.pipeline.sensitivity import Sensitivity, measure_sensitivity
from onnxsemi.pipeline.sizes import sizes_of
from onnxsemi.pipeline.write import check_output, write_best, write_verified
from onnxsemi.plan import BitPlan
from onnxsemi.plan_file import PlanFile
from onnxsemi.progress import Progress, Silent
from onnxsemi.results import CompressResult, Cost
from onnxsemi.run.folder import RunFolder
from onnxsemi.run.journal import Reply
from onnxsemi.search.run import search
from onnxsemi.search.semilayers import Split
from onnxsemi.search.trajectory import Point, Trajectory
from onnxsemi.search.watch import Watch
from onnxsemi.settings import Settings


@dataclass(frozen=True, eq=False)
class Found:
    """What the search came to.

    Attributes:
        trajectory: Everything that it did.
        chosen: The most compressed point that holds the accuracy.
        search: Float against chosen on the search images, as the file is to run.
        ranges: Ranges of the activations, if those are quantized.
    """

    trajectory: Trajectory
    chosen: Point
    search: Paired
    ranges: Ranges | None


def compress(
    model: str | os.PathLike[str],
    data: Data,
    *,
    output: str | os.PathLike[str],
    report_data: Data | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> CompressResult:
    """Compress a classifier without losing accuracy and without retraining.

    Args:
        model: An ONNX file, opset 7 or newer, float32 or float16.
        data: Images to search on: a ``.npz`` file, a folder of class folders, an
            :class:`~onnxsemi.ImageSet` or an ``onnxruntime.quantization.CalibrationDataReader``.
        output: Where to write the compressed model; the plan is written beside it as
            ``<name>.plan.json``.
        report_data: Images that the search never sees; a part of ``data`` unless given.
        settings: Everything else; the defaults are the paper's method on all images.
        progress: Told where the work is.

    Returns:
        The plan, accuracy on search and report images, sizes, and every decision.

    Raises:
        OnnxSemiError: If the model, the data, a setting or the run cannot be used, if nothing could
            be compressed at the accuracy and in the time asked for, or if the written file is not
            what was measured. No file is written then, and an existing one is left as it is.
    """
    settings, target, told = settings or Settings(), Path(output), progress or Silent()
    clock = Clock(settings.run.time_budget)
    check_output(target, model, data, report_data)
    check_writable(plan_path(target))
    check_folder(settings.run, target, plan_path(target))
    prepared = prepare(model, data, report_data, settings)
    check_profile(prepared)
    report_bench = prepared.bench(prepared.report)
    # first, so that images that the model cannot take are found at once
    before = report_bench.forward(prepared.classifier.proto)
    with opened(settings.run, identity(prepared)) as folder:
        seconds = pass_seconds(prepared, folder)
        sensitivity = measure_sensitivity(prepared, folder, Limited(told, clock))
        found = find(prepared, sensitivity, folder, clock, told)
        plan = found.chosen.plan
        with whole_file(plan_path(target)) as scratch:
            document = plan_file(prepared, plan, found.ranges)
            scratch.write_text(document.to_json(), encoding="utf-8")
            after = write_verified(report_bench, plan, target, settings.profile, found.ranges)
        if not found.trajectory.out_of_time:
            folder.finish(str(target))
    labels = report_bench.labels
    return CompressResult(
        output=target,
        plan_file=plan_path(target),
        profile=settings.profile,
        plan=plan,
        chosen=found.chosen,
        trajectory=found.trajectory,
        sizes=sizes_of(target),
        search=found.search,
        report=Paired.of(hits(before, labels), hits(after, labels)),
        sensitivity=sensitivity.summary,
        has_labels=prepared.has_labels,
        cost=Cost(folder.journal.seconds, seconds, len(found.trajectory.trials)),
        skipped=prepared.classifier.skipped,
        notes=prepared.classifier.notes,
        kernels=None if found.ranges is None else kernels_of(target, prepared.classifier, plan),
    )


def find(
    prepared: Prepared, sensitivity: Sensitivity, run: RunFolder, clock: Clock, progress: Progress
) -> Found:
    """Search a plan.

    Args:
        prepared: Model and images.
        sensitivity: What to split and rank by.
        run: Recalls and keeps what is measured.
        clock: Says when the time has ended.
        progress: Told of every trial.

    Raises:
        AccuracyError: If no compression holds the accuracy asked for.
    """
    settings, start = prepared.settings, prepared.start()
    bench, ranges = prepared.bench(prepared.search), recorded_ranges(prepared, run.journal)
    kl = partial(sensitivity.kl, progress=Limited(progress, clock), journal=run.journal)
    measured = ModelEvaluator(bench, kl, settings.seed)
    evaluator = RecordedEvaluator(measured, run.journal)

    def out_of_time() -> bool:
        if run.journal.recalling or not clock.ended:
            return False
        run.journal.close()  # the full search does not ask for what follows
        return True

    watch = Watch(progress, out_of_time, partial(_keep_best, prepared, run, ranges))
    trajectory = search(
        start, prepared.free(), sensitivity.table, evaluator, settings.search, watch
    )
    _check_found(trajectory, settings)
    before = evaluator.check(start.all_float()).right
    chosen = Chooser(prepared, ranges, evaluator, run.journal).choose(trajectory, progress)
    return Found(trajectory, chosen.point, Paired.of(before, chosen.right), ranges)


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
    emit(prepared.classifier, plan, settings.grids, settings.profile, ranges)


def pass_seconds(prepared: Prepared, run: RunFolder) -> float:
    """Time of one float32 forward pass over the search images: the unit of cost."""
    bench = prepared.bench(prepared.search)

    def measure() -> Reply:
        began = time.perf_counter()
        bench.forward(bench.classifier.proto)
        return {"seconds": time.perf_counter() - began}

    return float(run.journal.ask("pass", len(bench.images), measure)["seconds"])


def plan_path(output: Path) -> Path:
    """Where the plan is written: ``small.onnx`` -> ``small.plan.json``."""
    return output.with_suffix(".plan.json")


def plan_file(prepared: Prepared, plan: BitPlan, ranges: Ranges | None) -> PlanFile:
    """The plan with what is needed to apply it."""
    settings = prepared.settings
    return PlanFile(
        model=prepared.classifier.fingerprint,
        targets=settings.model.targets,
        exclude=settings.model.exclude,
        output=settings.model.output,
        scheme=settings.grids,
        bits=plan.bits,
        activations=ranges,
        tool=f"onnxsemi {__about__.VERSION}",
    )


def _check_found(trajectory: Trajectory, settings: Settings) -> None:
    allowed = settings.search.max_drop
    chosen, baseline = trajectory.choose(allowed), trajectory.baseline
    if chosen.plan.saved_parameters == 0 and trajectory.out_of_time:
        raise BudgetError(
            f"the time budget ended after {len(trajectory.trials)} trials, before anything could "
            "be compressed: go on with --resume, or give more time"
        )
    if not trajectory.holding(allowed):
        raise AccuracyError(
            f"nothing could be compressed with a drop of at most {allowed:g} points on "
            f"{baseline.total} search images ({len(trajectory.trials)} trials): allow more with "
            "--max-drop, give more images, or begin with wider --bits"
        )


def _keep_best(prepared: Prepared, run: RunFolder, ranges: Ranges | None, best: Point) -> None:
    """Write the best so far into the run's folder."""
    model, plan = run.file("best.onnx"), run.file("best.plan.json")
    if model is None or plan is None or run.journal.recalling:
        return
    if best.plan.saved_parameters == 0 or not best.score.in_full:
        return
    with whole_file(plan) as scratch:
        document = plan_file(prepared, best.plan, ranges)
        scratch.write_text(document.to_json(), encoding="utf-8")
        bench, profile = prepared.bench(prepared.search), prepared.settings.profile
        write_best(bench, best.plan, model, profile, ranges)
