"""A search under way: what it measures with, what it keeps, and what it comes to."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from msgspec import structs

from onnxsemi._arrays import Float32Array
from onnxsemi._atomic_file import whole_files
from onnxsemi._emit.integer_kernels import Kernels, kernels_of
from onnxsemi._emit.narrow_types import narrow_types
from onnxsemi._errors import BudgetError
from onnxsemi._evaluation.folds import Remembering
from onnxsemi._output_size import write_text
from onnxsemi._pipeline.activations import recorded_ranges
from onnxsemi._pipeline.advice import next_command
from onnxsemi._pipeline.companions import companion_path, write_companion
from onnxsemi._pipeline.evidence import Answers, class_names, evidence_of
from onnxsemi._pipeline.measures import RecordedMeasures
from onnxsemi._pipeline.nothing_holds import best_measured, estimated_bytes, nothing_holds
from onnxsemi._pipeline.output import UNWRITABLE, Writer, plan_path, refuse_loss
from onnxsemi._pipeline.pareto import Anchor, kept_frontier
from onnxsemi._pipeline.plan_document import plan_file, rounded_file
from onnxsemi._pipeline.preflight import warnings
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.rounding import Codes
from onnxsemi._pipeline.run_identity import (
    Clock,
    Limited,
    identity,
    mixed,
    one_processor,
)
from onnxsemi._pipeline.search_outcome import SearchOutcome, SearchRecord
from onnxsemi._pipeline.selection import Chooser, Judged, objections
from onnxsemi._pipeline.sensitivity import Sensitivity
from onnxsemi._pipeline.sizes import sizes_of
from onnxsemi._pipeline.speed import timed
from onnxsemi._progress import Progress, Within, warn
from onnxsemi._report.conversion import compress_document
from onnxsemi._report.document import RunResult
from onnxsemi._report.record import keep_result
from onnxsemi._results.results import CompressResult, Cost
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.frontier_file import write_frontier
from onnxsemi._run.looks import count_look
from onnxsemi._run.nothing_holds import NothingHoldsError
from onnxsemi._run.spent import Spent
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import Recalling
from onnxsemi._search.strategy import Problem
from onnxsemi._search.trajectory import Point, Trajectory
from onnxsemi._search.verdict import verdict
from onnxsemi._stats.comparison import comparison_of
from onnxsemi._stats.metric import metric_name


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
    def rounder(self) -> Remembering:
        """Gives plans their codes."""
        return self.codes.rounder

    @cached_property
    def writer(self) -> Writer:
        """Writes plans in the profile that was asked for."""
        prepared = self.prepared
        ranges = recorded_ranges(prepared, self.run.journal, Within(self.progress))
        return Writer(prepared.judging(prepared.search), prepared.settings.profile, ranges)

    def problem(self, watch: Watch) -> Problem:
        """What a method is to solve."""
        prepared, sensitivity = self.prepared, self.sensitivity
        limited = Limited(self.progress, self.clock)
        return Problem(
            start=prepared.start(),
            free=prepared.free(),
            delta_loss=sensitivity.table,
            kl_increase=sensitivity.kl_increase,
            has_labels=prepared.has_labels,
            measures=RecordedMeasures(prepared, self.codes, sensitivity, self.run.journal, limited),
            watch=watch,
        )

    def find(self) -> SearchOutcome:
        """Search a plan.

        Raises:
            AccuracyError: If no compression holds the accuracy asked for; everything is kept then.
            BudgetError: If the time ended before anything could be compressed.
        """
        prepared, strategy = self.prepared, self.prepared.strategy
        self.progress.start("first plans", 1)
        head = prepared.classifier.ends.head
        measured = head.measured if prepared.has_labels else "agreement"
        if prepared.metric is not None:
            measured = metric_name(prepared.metric)
        watch = Watch(
            self.progress, self._out_of_time, self._end, self._remember, self._keep, measured
        )
        problem = self.problem(watch)
        trajectory, checker = strategy.search(problem), strategy.measured_by(problem.measures)
        if trajectory.out_of_time:
            self._end()
            if not strategy.holding(trajectory):
                raise BudgetError(
                    f"the time budget ended after {len(trajectory.trials)} trials, before anything "
                    "could be compressed: go on with `resume`, or give more time"
                )
        self.clock.stop()
        judged = self.judge(trajectory, checker)
        if judged.outcome is None:
            raise self._nothing(judged)
        return judged.outcome

    def judge(self, trajectory: Trajectory, checker: Recalling) -> Judged:
        """Measure the points of a search as they are to run.

        Args:
            trajectory: What the search did.
            checker: Knows the answers of the plans that were measured.
        """
        prepared, writer = self.prepared, self.writer
        start = prepared.start()
        before = checker.check(start.all_float()).judged
        searched = SearchRecord(trajectory, writer.ranges, checker, before, self.sensitivity)
        chooser = Chooser(prepared, self.codes, writer, checker, before, self.run.journal)
        return Judged(searched, chooser, chooser.choose(trajectory, self.progress))

    def _nothing(self, found: Judged) -> NothingHoldsError:
        """Keep what was measured, and say what holds best."""
        prepared, run = self.prepared, self.run
        searched, chooser, refused = found.searched, found.chooser, found.points
        best = best_measured(chooser, searched, refused)
        judged, plan = best.judged, best.judged.point.plan
        others = objections((*refused, judged))
        document = plan_file(prepared, plan, searched.ranges, nearest=self.codes.nearest)
        document = structs.replace(document, processor=one_processor(run))
        size = estimated_bytes(prepared, plan, searched.ranges)
        anchor = Anchor(document, plan, size, others=others)
        frontier = kept_frontier(prepared, searched, anchor)
        if run.path is not None:
            write_frontier(frontier, run.path)
        if not searched.trajectory.out_of_time:
            run.finish(held=False)
        return nothing_holds(best, frontier, chooser, run.path)

    def deliver(
        self, found: SearchOutcome, target: Path, before: Float32Array, one_pass: Spent
    ) -> CompressResult:
        """Write what was found, and keep everything that is said of it.

        Args:
            found: What the search came to.
            target: Where the file is to be.
            before: float32[N, K], logits of the float model on the test images.
            one_pass: One float32 forward pass over the calibration images.

        Raises:
            LossError: If the test images show a loss; no file is written then.
        """
        prepared, run, progress = self.prepared, self.run, self.progress
        settings, plan, ranges = prepared.settings, found.chosen.plan, found.ranges
        workload = replace(prepared.judging(prepared.report), progress=progress)
        progress.start("writing and verifying", 1)
        codes = self.rounder(plan)
        document = rounded_file(prepared, codes, ranges, run, nearest=self.codes.nearest)
        document = structs.replace(document, evidence=found.evidence())
        plan_file, beside = plan_path(target), companion_path(settings, target)
        with whole_files(target, *filter(None, (plan_file, beside))) as scratches:
            file = self.writer.written(codes, scratches[target], target, workload)
            write_text(scratches[plan_file], document.to_json(), plan_file)
            write_companion(settings, prepared.classifier, codes, scratches, target)
            size = file.path.stat().st_size
            anchor = Anchor(document, plan, size, found.search, found.refused)
            kept = kept_frontier(prepared, found, anchor)
            labels = workload.labels if prepared.has_labels else None
            report = comparison_of(before, file.logits, labels, workload.judge, workload.head)
            guard = prepared.guard
            looks = count_look(run.path, prepared.report.fingerprint(), plan.sha256)
            claim = verdict(guard, report, looks)
            result = CompressResult(
                output=target,
                plan_file=plan_path(target),
                profile=settings.profile,
                plan=plan,
                chosen=found.chosen,
                trajectory=found.trajectory,
                sizes=sizes_of(file.path),
                search=found.search,
                report=report,
                sensitivity=self.sensitivity.summary,
                has_labels=prepared.has_labels,
                cost=self._cost(found, one_pass),
                skipped=prepared.classifier.skipped,
                left_float=prepared.classifier.left_float,
                notes=(*prepared.classifier.notes, *mixed(run), *self._short()),
                kernels=_kernels(file.path, prepared, found),
                types=narrow_types(codes, settings.profile),
                made_from={**identity(prepared), "processor": "; ".join(map(str, run.processors))},
                pinned=prepared.pinned(),
                coded=codes.coded,
                run=run.path,
                warnings=warnings(prepared),
                finding=guard.judge(found.search, found.close),
                verdict=claim,
                next_command=None if claim.holds else next_command(kept, plan, run.path, target),
            )
            answers = Answers.of(before, file.logits, workload.likelihood)
            self.keep(result, answers)
            if run.path is not None:
                write_frontier(kept, run.path)
            refuse_loss(result, allowed=settings.allow_loss)
        return self._finish(result, answers)

    def _short(self) -> tuple[str, ...]:
        """What is to be said where the time ended before the weights could be rounded on images."""
        if self.prepared.settings.rounds is None or not self.codes.nearest:
            return ()
        return (
            "the time budget ended before the search had found anything: all weights have one "
            "bitwidth, and their nearest levels",
        )

    def _cost(self, found: SearchOutcome, one_pass: Spent) -> Cost:
        """What the run took so far, all but the last of it."""
        spent, images = self.run.journal.spent, len(self.prepared.search)
        trials = len(found.trajectory.trials)
        return Cost(spent.seconds, spent.cpu_seconds, one_pass.cpu_seconds, images, trials)

    def _finish(self, result: CompressResult, answers: Answers) -> CompressResult:
        """Close the run; the file is there, and is timed if that was asked for."""
        prepared = self.prepared
        if not result.trajectory.out_of_time:
            self.run.finish(held=True)
        if not prepared.settings.bench:
            return result
        result = timed(result, prepared.files[0], self.progress)
        self.keep(result, answers)
        return result

    def keep(self, result: CompressResult, answers: Answers) -> None:
        """Write what the report needs into the run's folder."""
        prepared = self.prepared
        if self.run.path is None:
            return
        kept = RunResult(
            **structs.asdict(compress_document(result)),
            command=prepared.settings.run.command,
            model=str(prepared.files[0] or "in memory"),
            search_data=prepared.search.name,
            test_data=prepared.report.name,
            channel_parameters=dict(result.plan.channel_params),
            classes=class_names(prepared, answers.classes),
        )
        evidence = evidence_of(prepared, self.sensitivity, result.trajectory, answers)
        keep_result(self.run, kept, evidence)

    def _out_of_time(self) -> bool:
        return self.clock.ended and not self.run.journal.recalling

    def _end(self) -> None:
        self.run.journal.close()  # the full search does not ask for what follows
        self.clock.stop()

    def _remember(self, best: Point) -> None:
        self.rounder.keep(best.plan)
        self.clock.rounds_again = not self.rounder.keeps(best.plan)  # a plan that was recalled

    def _keep(self, best: Point) -> None:
        """Write the best so far into the run's folder."""
        prepared, run = self.prepared, self.run
        model, plan = run.file("best.onnx"), run.file("best.plan.json")
        if model is None or plan is None or run.journal.recalling:
            return
        if best.plan.saved_parameters == 0 or not best.score.in_full:
            return
        codes = self.rounder(best.plan)
        try:
            with whole_files(model, plan) as scratches:
                ranges, nearest = self.writer.ranges, self.codes.nearest
                document = rounded_file(prepared, codes, ranges, run, nearest=nearest)
                write_text(scratches[plan], document.to_json(), plan)
                self.writer.write(codes, scratches[model], model)
        except UNWRITABLE as error:
            said = f"{best.plan.compression:.2%} smaller, not kept on the way: {error}"
            warn(self.progress, [said])


def _kernels(path: Path, prepared: Prepared, found: SearchOutcome) -> Kernels | None:
    """How the targets of a file run, if activations are quantized."""
    return (
        None if found.ranges is None else kernels_of(path, prepared.classifier, found.chosen.plan)
    )
