"""``compress``: the whole way from a float model and images to a verified, smaller file."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from onnxsemi import __about__
from onnxsemi.atomic import check_writable, whole_file
from onnxsemi.data.load import Data
from onnxsemi.errors import AccuracyError
from onnxsemi.measure.delta_loss import exact_delta_loss
from onnxsemi.measure.evaluator import ModelEvaluator
from onnxsemi.measure.forward import forward
from onnxsemi.measure.metrics import hits
from onnxsemi.measure.paired import Paired
from onnxsemi.measure.seam import DeltaLossTable
from onnxsemi.pipeline.prepare import Prepared, prepare
from onnxsemi.pipeline.write import check_output, sizes, write_verified
from onnxsemi.plan import BitPlan
from onnxsemi.plan_file import PlanFile
from onnxsemi.progress import Progress, Silent
from onnxsemi.results import CompressResult, Cost
from onnxsemi.search.run import search
from onnxsemi.search.semilayers import Split
from onnxsemi.search.trajectory import Point, Trajectory
from onnxsemi.settings import Settings


@dataclass(frozen=True, eq=False)
class Found:
    """What the search came to.

    Attributes:
        trajectory: Everything that it did.
        chosen: The most compressed point that holds the accuracy.
        search: Float against chosen on the search images.
        cost: What it took, Δloss included.
    """

    trajectory: Trajectory
    chosen: Point
    search: Paired
    cost: Cost


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
        OnnxSemiError: If the model, the data or a setting cannot be used, if nothing could be
            compressed at the accuracy asked for, or if the written file is not what was measured.
            No file is written then, and an existing one is left as it is.
    """
    settings, target = settings or Settings(), Path(output)
    check_output(target, model, data, report_data)
    check_writable(plan_path(target))
    prepared = prepare(model, data, report_data, settings)
    report_bench = prepared.bench(prepared.report)
    before = forward(  # first, so that images that the model cannot take are found at once
        prepared.classifier.proto, prepared.classifier.ends, prepared.report, report_bench.threads
    )
    found = find(prepared, measure_delta_loss(prepared, progress), progress)
    plan = found.chosen.plan
    with whole_file(plan_path(target)) as scratch:
        scratch.write_text(plan_file(prepared, plan).to_json(), encoding="utf-8")
        after = write_verified(report_bench, plan, target)
    labels = report_bench.labels
    return CompressResult(
        output=target,
        plan_file=plan_path(target),
        plan=plan,
        chosen=found.chosen,
        trajectory=found.trajectory,
        sizes=sizes(model, target, prepared.classifier, plan),
        search=found.search,
        report=Paired.of(hits(before, labels), hits(after, labels)),
        delta_loss_samples=0 if _unsplit(settings) else len(prepared.delta_loss),
        has_labels=prepared.has_labels,
        cost=found.cost,
        skipped=prepared.classifier.skipped,
        notes=prepared.classifier.notes,
    )


@dataclass(frozen=True)
class MeasuredDeltaLoss:
    """Δloss and the time it took.

    Attributes:
        table: Δloss of every target channel; None if layers are not split.
        seconds: Wall time.
    """

    table: DeltaLossTable | None
    seconds: float


def measure_delta_loss(prepared: Prepared, progress: Progress | None = None) -> MeasuredDeltaLoss:
    """Δloss of every target channel at every bitwidth of the ladder."""
    if _unsplit(prepared.settings):
        return MeasuredDeltaLoss(None, 0.0)
    began = time.perf_counter()
    bits = prepared.settings.search.bits
    bench, free = prepared.bench(prepared.delta_loss), prepared.free()
    table = exact_delta_loss(bench, free, bits, progress or Silent())
    return MeasuredDeltaLoss(table, time.perf_counter() - began)


def find(
    prepared: Prepared, delta_loss: MeasuredDeltaLoss, progress: Progress | None = None
) -> Found:
    """Search a plan.

    Raises:
        AccuracyError: If no compression holds the accuracy asked for.
    """
    settings, start = prepared.settings, prepared.start()
    evaluator = ModelEvaluator(prepared.bench(prepared.search), progress or Silent())
    before = evaluator.hits(start.all_float())
    began = time.perf_counter()
    evaluator.score(start.all_float())
    searching = time.perf_counter()
    trajectory = search(
        start, prepared.free(), delta_loss.table, evaluator, settings.search, progress or Silent()
    )
    ended = time.perf_counter()
    chosen = _checked(trajectory, settings)
    return Found(
        trajectory,
        chosen,
        Paired.of(before, evaluator.hits(chosen.plan)),
        Cost(
            seconds=delta_loss.seconds + ended - searching,
            pass_seconds=searching - began,
            trials=len(trajectory.trials),
        ),
    )


def plan_path(output: Path) -> Path:
    """Where the plan is written: ``small.onnx`` -> ``small.plan.json``."""
    return output.with_suffix(".plan.json")


def plan_file(prepared: Prepared, plan: BitPlan) -> PlanFile:
    """The plan with what is needed to apply it."""
    settings = prepared.settings
    return PlanFile(
        model=prepared.classifier.fingerprint,
        targets=settings.model.targets,
        exclude=settings.model.exclude,
        output=settings.model.output,
        scheme=settings.scheme,
        bits=plan.bits,
        tool=f"onnxsemi {__about__.VERSION}",
    )


def _checked(trajectory: Trajectory, settings: Settings) -> Point:
    allowed = settings.search.max_drop
    chosen, baseline = trajectory.choose(allowed), trajectory.baseline
    lost = baseline.correct - chosen.score.correct
    if chosen.plan.saved_parameters == 0 or lost > allowed / 100 * baseline.total + 1e-9:
        raise AccuracyError(
            f"nothing could be compressed with a drop of at most {allowed:g} points on "
            f"{baseline.total} search images ({len(trajectory.trials)} trials): allow more with "
            "--max-drop, give more images, or begin with wider --bits"
        )
    return chosen


def _unsplit(settings: Settings) -> bool:
    return settings.search.split is Split.NONE
