"""``compress``: the whole way from a float model and images to a verified, smaller file."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from onnxsemi import __about__
from onnxsemi.atomic import check_writable, whole_file
from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.data.load import Data
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.model import emit
from onnxsemi.errors import BudgetError
from onnxsemi.kernels import kernels_of
from onnxsemi.measure.checker import RoundingChecker
from onnxsemi.measure.comparison import compare
from onnxsemi.measure.evaluator import ModelEvaluator
from onnxsemi.measure.folds import Rounder
from onnxsemi.measure.forecast import forward_seconds
from onnxsemi.measure.recorded import RecordedChecker, RecordedEvaluator
from onnxsemi.measure.seam import Closeness
from onnxsemi.pipeline.activations import recorded_ranges
from onnxsemi.pipeline.choice import Chooser, Judged
from onnxsemi.pipeline.evidence import Answers, evidence_of
from onnxsemi.pipeline.found import Found, Searched
from onnxsemi.pipeline.nothing import best_measured, file_bytes, nothing_holds
from onnxsemi.pipeline.pareto import Anchor, kept_frontier
from onnxsemi.pipeline.prepare import Prepared, prepare
from onnxsemi.pipeline.rounding import Codes, codes_of
from onnxsemi.pipeline.runs import Clock, Limited, check_folder, identity, made_of, opened
from onnxsemi.pipeline.sensitivity import Sensitivity, measure_sensitivity
from onnxsemi.pipeline.sizes import sizes_of
from onnxsemi.pipeline.write import check_output, plan_path, write_best, write_verified
from onnxsemi.plan import BitPlan
from onnxsemi.plan_file import DIGEST, PlanFile, RoundingRecord
from onnxsemi.points.file import write_frontier
from onnxsemi.points.nothing_holds import NothingHoldsError
from onnxsemi.progress import Progress, Silent, warn
from onnxsemi.quantizer.rounded import Nearest, rounded
from onnxsemi.report.document import compress_document
from onnxsemi.results import CompressResult, Cost
from onnxsemi.run.folder import RunFolder
from onnxsemi.run.journal import Reply
from onnxsemi.run.kept import keep_result
from onnxsemi.search.run import search
from onnxsemi.search.semilayers import Split
from onnxsemi.search.settings import SearchMethod, SearchSettings
from onnxsemi.search.trajectory import Point, Trajectory
from onnxsemi.search.walk import Predictions, walk_frontier
from onnxsemi.search.watch import Watch
from onnxsemi.settings import Settings


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
        settings: Everything else; by default the frontier of all layers, on all images.
        progress: Told where the work is.

    Returns:
        The plan, accuracy on search and report images, sizes, and every decision.

    Raises:
        NothingHoldsError: If no plan holds the accuracy asked for. It has the best that was
            measured; the run keeps everything, and other settings that only judge (``max_drop``,
            ``tolerance``, ``guarantee``) can be tried with ``resume`` without measuring again.
        OnnxSemiError: If the model, the data, a setting or the run cannot be used, if nothing could
            be compressed in the time asked for, or if the written file is not what was measured. No
            file is written then, and an existing one is left as it is.
    """
    settings, target, told = settings or Settings(), Path(output), progress or Silent()
    clock = Clock(settings.run.time_budget)
    check_output(target, model, data, report_data)
    check_writable(plan_path(target))
    check_folder(settings.run, target, plan_path(target))
    told.start("reading the model and the images", 1)
    prepared = prepare(model, data, report_data, settings)
    warn(told, prepared.warnings)
    guard = settings.search.guard(has_labels=prepared.has_labels)
    guard.check_images(len(prepared.search))
    check_profile(prepared)
    report_bench = replace(prepared.bench(prepared.report), progress=told)
    # first, so that images that the model cannot take are found at once
    before = report_bench.forward(prepared.classifier.proto)
    with opened(settings.run, made_of(prepared)) as folder:
        seconds = pass_seconds(prepared, folder, told)
        limited = Limited(told, clock)
        codes = codes_of(prepared, folder, limited)
        sensitivity = measure_sensitivity(prepared, codes.rounding, folder, limited)
        search = Search(prepared, codes, sensitivity, folder, clock, told)
        found = search.find()
        plan = found.chosen.plan
        document = plan_file(prepared, plan, found.ranges)
        document = replace(document, evidence=found.evidence())
        with whole_file(plan_path(target)) as scratch:
            scratch.write_text(document.to_json(), encoding="utf-8")
            told.start("writing and verifying", 1)
            final, profile = search.rounder(plan), settings.profile
            after = write_verified(report_bench, final, target, profile, found.ranges)
        report = compare(before, after, report_bench.labels if prepared.has_labels else None)
        close = Closeness(report.kl, report.images - report.same)
        result = CompressResult(
            output=target,
            plan_file=plan_path(target),
            profile=settings.profile,
            plan=plan,
            chosen=found.chosen,
            trajectory=found.trajectory,
            sizes=sizes_of(target),
            search=found.search,
            report=report,
            finding=guard.judge(report.answers, close),
            sensitivity=sensitivity.summary,
            has_labels=prepared.has_labels,
            cost=Cost(folder.journal.seconds, seconds, len(found.trajectory.trials)),
            skipped=prepared.classifier.skipped,
            notes=(*prepared.classifier.notes, *warnings(prepared)),
            kernels=None if found.ranges is None else kernels_of(target, prepared.classifier, plan),
            pinned=prepared.pinned(),
            run=folder.path,
            warnings=prepared.warnings,
        )
        search.keep(result, Answers.of(before, after), os.fspath(model))
        if folder.path is not None:
            anchor = Anchor(document, plan, target.stat().st_size, found.search)
            write_frontier(kept_frontier(prepared, found, anchor), folder.path)
        if not found.trajectory.out_of_time:
            folder.finish(str(target))
    return result


@dataclass(frozen=True, eq=False)
class Search:
    """A search under way.

    Attributes:
        prepared: Model and images.
        codes: Where codes come from.
        sensitivity: What to split and rank by.
        run: Recalls and keeps what is measured.
        clock: Says when the time has ended.
        progress: Told of every trial.
    """

    prepared: Prepared
    codes: Codes
    sensitivity: Sensitivity
    run: RunFolder
    clock: Clock
    progress: Progress

    @property
    def rounder(self) -> Rounder:
        """Gives plans their codes."""
        return self.codes.rounder

    def find(self) -> Found:
        """Search a plan.

        Raises:
            AccuracyError: If no compression holds the accuracy asked for; everything is kept then.
        """
        prepared, journal = self.prepared, self.run.journal
        start, settings = prepared.start(), prepared.settings
        self.progress.start("first plans", 1)
        ranges = recorded_ranges(prepared, journal)
        measured = "top-1" if prepared.has_labels else "agreement"
        keep = partial(self._keep_best, ranges)
        watch = Watch(self.progress, self._out_of_time, keep, measured)
        if settings.search.method is SearchMethod.FRONTIER:
            trajectory, checker = self.frontier(start, watch)
        else:
            trajectory, checker = self.semilayers(start, watch)
        _check_time(trajectory, settings.search)
        before = checker.check(start.all_float()).right
        searched = Searched(trajectory, ranges, checker, before, self.sensitivity)
        chooser = Chooser(prepared, self.codes, ranges, checker, before, journal)
        judged = chooser.choose(trajectory, self.progress)
        if not judged or judged[-1].objection is not None:
            raise self._nothing(searched, chooser, judged)
        taken = judged[-1]
        return Found(**vars(searched), chosen=taken.point, search=taken.paired)

    def _nothing(
        self, searched: Searched, chooser: Chooser, refused: list[Judged]
    ) -> NothingHoldsError:
        """Keep what was measured, and say what holds best."""
        prepared, run = self.prepared, self.run
        best = best_measured(chooser, searched, refused)
        judged, plan = best.judged, best.judged.point.plan
        told = [(item.point, item.objection or "") for item in (*refused, judged)]
        document = plan_file(prepared, plan, searched.ranges)
        size = file_bytes(prepared, plan, searched.ranges)
        anchor = Anchor(document, plan, size, others=told)
        frontier = kept_frontier(prepared, searched, anchor)
        if run.path is not None:
            write_frontier(frontier, run.path)
        if not searched.trajectory.out_of_time:
            run.finish(None)
        return nothing_holds(best, frontier, chooser, run.path)

    def frontier(self, start: BitPlan, watch: Watch) -> tuple[Trajectory, RecordedChecker]:
        """The search along the frontier, and what measured its plans."""
        prepared, sensitivity = self.prepared, self.sensitivity
        assert sensitivity.table is not None
        assert sensitivity.harm is not None
        plain = RoundingChecker(self.codes.folds, prepared.unseen)
        checker = RecordedChecker(plain, self.run.journal)
        predictions = Predictions(
            delta_loss=sensitivity.table, harm=sensitivity.harm, has_labels=prepared.has_labels
        )
        settings, free = prepared.settings.search, prepared.free()
        return walk_frontier(start, free, predictions, checker, settings, watch), checker

    def semilayers(self, start: BitPlan, watch: Watch) -> tuple[Trajectory, RecordedChecker]:
        """The paper's search, and what measured its plans."""
        prepared, journal = self.prepared, self.run.journal
        told = Limited(self.progress, self.clock)
        kl = partial(self.sensitivity.kl, progress=told, journal=journal)
        settings, bench = prepared.settings, prepared.bench(prepared.search)
        evaluator = RecordedEvaluator(ModelEvaluator(bench, kl, settings.seed), journal)
        table, free = self.sensitivity.table, prepared.free()
        return search(start, free, table, evaluator, settings.search, watch), evaluator

    def keep(self, result: CompressResult, answers: Answers, model: str) -> None:
        """Write what the report needs into the run's folder."""
        prepared, codes = self.prepared, self.codes
        if self.run.path is None:
            return
        made = {
            "command": prepared.settings.run.command,
            "model": model,
            "search_data": prepared.search.name,
            "report_data": prepared.report.name,
            "made_from": identity(prepared),
            "channel_parameters": dict(result.plan.channel_params),
        }
        evidence = evidence_of(
            prepared, codes.rounding, self.sensitivity, result.trajectory, answers
        )
        keep_result(self.run, compress_document(result) | made, evidence)

    def _out_of_time(self) -> bool:
        if self.run.journal.recalling or not self.clock.ended:
            return False
        self.run.journal.close()  # the full search does not ask for what follows
        return True

    def _keep_best(self, ranges: Ranges | None, best: Point) -> None:
        """Write the best so far into the run's folder."""
        prepared, run = self.prepared, self.run
        model, plan = run.file("best.onnx"), run.file("best.plan.json")
        if model is None or plan is None or run.journal.recalling:
            return
        if best.plan.saved_parameters == 0 or not best.score.in_full:
            return
        with whole_file(plan) as scratch:
            document = plan_file(prepared, best.plan, ranges)
            scratch.write_text(document.to_json(), encoding="utf-8")
            bench, profile = prepared.bench(prepared.search), prepared.settings.profile
            write_best(bench, self.rounder(best.plan), model, profile, ranges)


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
    """Time of one float32 forward pass over the search images: the unit of cost."""
    bench = replace(prepared.bench(prepared.search), progress=progress)

    def measure() -> Reply:
        return {"seconds": forward_seconds(bench)}

    return float(run.journal.ask("pass", len(bench.images), measure)["seconds"])


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
        rounding=_rounding_record(prepared),
        tool=f"onnxsemi {__about__.VERSION}",
        plan_sha256=plan.sha256,
    )


def _rounding_record(prepared: Prepared) -> RoundingRecord | None:
    """How the weights are rounded and on which images, to do it again."""
    settings = prepared.settings
    if settings.rounds is None:
        return None
    digests = tuple(digest.hex()[:DIGEST] for digest in prepared.rounding.digests())
    return RoundingRecord(settings.rounds, settings.seed, digests)


def warnings(prepared: Prepared) -> tuple[str, ...]:
    """What is to be said of the search images, whatever is found."""
    guard = prepared.settings.search.guard(has_labels=prepared.has_labels)
    warning = guard.warning(len(prepared.search))
    return () if warning is None else (warning,)


def _check_time(trajectory: Trajectory, settings: SearchSettings) -> None:
    holding = settings.allowed_drop
    if trajectory.choose(holding).plan.saved_parameters == 0 and trajectory.out_of_time:
        raise BudgetError(
            f"the time budget ended after {len(trajectory.trials)} trials, before anything could "
            "be compressed: go on with --resume, or give more time"
        )
