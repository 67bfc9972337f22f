"""What a time budget gives at the least: one bitwidth for all, the widest, at the nearest levels.

That takes no tables and no rounding on images. Where time is limited it is measured first, and
given if the time ends before the search has found anything. What it took tells what has to be left
at the end to write a plan, verify it and judge it.
"""

from dataclasses import dataclass, replace

from onnxsemi._errors import BudgetError
from onnxsemi._pipeline.measures import RecordedMeasures
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.rounding import nearest_codes
from onnxsemi._pipeline.run_identity import Clock
from onnxsemi._pipeline.search import Search
from onnxsemi._pipeline.search_outcome import SearchOutcome
from onnxsemi._pipeline.sensitivity import not_measured
from onnxsemi._progress import Progress, Within
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.spent import Spent
from onnxsemi._search.protocols import Recalling, Tested
from onnxsemi._search.trajectory import OUT_OF_TIME, Decision, Phase, Point, Trajectory, Trial
from onnxsemi._sensitivity.forecast import forward_pass
from onnxsemi._stats.pairing import pair

_ROUNDING = 10
"""Forward passes over the images that a plan is rounded on, from above."""
_AFTERWARDS = 1.25
"""How many times as long what follows is taken to take as it took."""


@dataclass(frozen=True, eq=False)
class FirstPlan:
    """A plan that could be given at once.

    Attributes:
        search: What it was measured with.
        found: What that came to.
    """

    search: Search
    found: SearchOutcome


def first_plan(
    prepared: Prepared, run: RunFolder, clock: Clock, progress: Progress, one_pass: Spent
) -> FirstPlan | None:
    """Measure the plan, and tell the clock what has to be left at the end.

    Args:
        prepared: Model and images.
        run: What is measured here is not recorded: the search does not ask for it.
        clock: Has a budget.
        progress: Told that it begins, and of every batch of images; may end it.
        one_pass: One float32 forward pass over the calibration images.

    Returns:
        None if it does not hold, or cannot be a file.

    Raises:
        BudgetError: If there is no time for a single plan.
    """
    tested = len(prepared.report) / len(prepared.search)
    check_budget(prepared, clock, one_pass)
    progress.start("first plan", 1)
    apart = replace(run, journal=run.journal.apart())
    workload = replace(prepared.workload(prepared.search), progress=Within(progress))
    codes = nearest_codes(prepared, workload)
    search = Search(prepared, codes, not_measured(prepared), apart, clock, progress)
    times = [clock.elapsed]
    trajectory, checker = _trajectory(search)
    times.append(clock.elapsed)
    judged = search.judge(trajectory, checker)
    times.append(clock.elapsed)
    measuring, writing = (times[1] - times[0]) / 2, times[2] - times[1]  # the float model, the plan
    if prepared.settings.rounds is not None:
        share = len(prepared.rounding) / len(prepared.search)
        clock.rounding = _ROUNDING * one_pass.seconds * share
    again = clock.rounding + measuring if judged.chooser.as_written else 0.0
    if not prepared.strategy.independent:  # its trials look at some of the images only
        again += measuring
    clock.after = _AFTERWARDS * (2 * writing + tested * measuring + again)
    return None if judged.outcome is None else FirstPlan(search, judged.outcome)


def check_budget(prepared: Prepared, clock: Clock, one_pass: Spent | None = None) -> None:
    """Refuse a budget that is too short for one plan, as soon as that is known.

    Args:
        prepared: Model and images.
        clock: May have a budget.
        one_pass: One float32 forward pass over the calibration images; unless given, as the batches
            tell that the model was run on to read the images.

    Raises:
        BudgetError: With what one plan takes.
    """
    if clock.budget is None:
        return
    searched, tested = (prepared.judging(images) for images in (prepared.search, prepared.report))
    each = (one_pass or forward_pass(searched, 1)).seconds / len(prepared.search)
    runs = 2 * len(prepared.search) + len(prepared.report)  # to measure, to write, to judge
    whole = clock.elapsed + (runs + searched.unanswered + tested.unanswered) * each
    if whole > clock.budget:
        raise BudgetError(
            f"the time budget of {clock.budget:g} seconds ended before anything could be "
            f"compressed: reading, measuring and judging one plan takes about {whole:.1f} seconds; "
            "go on with `resume` and more time"
        )


def _trajectory(search: Search) -> tuple[Trajectory, Recalling]:
    """The plan as the only trial of a search that time has ended."""
    prepared, strategy = search.prepared, search.prepared.strategy
    start = prepared.start()
    plan = start.with_layers(prepared.free(), max(prepared.settings.search.bits))
    journal, progress = search.run.journal, search.progress
    measures = RecordedMeasures(prepared, search.codes, search.sensitivity, journal, progress)
    checker = measures.checker
    before, first, tested = map(checker.check, (start.all_float(), start, plan))
    paired = pair(before.judged, tested.judged)
    guards = (prepared.guard, *strategy.guards(has_labels=prepared.has_labels))
    objections = (guard.against(paired, tested.close) for guard in guards)
    reason = next((said for said in objections if said is not None), None)
    points = [Point(start, first.score, Phase.START)]
    if reason is None:
        points.append(Point(plan, tested.score, Phase.UNIFORM, trial=1))
    trial = _trial(tested, reason)
    trial = replace(trial, compression=plan.compression, plan=plan, paired=paired, kl=tested.kl)
    return Trajectory(before.score, tuple(points), (trial,), OUT_OF_TIME), checker


def _trial(tested: Tested, reason: str | None) -> Trial:
    decision = Decision.REJECTED if reason else Decision.KEPT
    said = reason or "nothing speaks against it"
    return Trial(1, Phase.UNIFORM, None, tested.score, None, decision, said)
