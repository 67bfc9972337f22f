"""An evaluator whose measurements are kept in a journal and recalled from it."""

from collections.abc import Sequence

from onnxsemi._arrays import Float64Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import Semilayer
from onnxsemi._run.journal import Journal, Question
from onnxsemi._run.store import digest_of
from onnxsemi._search.protocols import Checker, Evaluator, Scout, Scouted, Tested, foresee


class Check(Question, frozen=True):
    """A plan, by its digest, on all images; and the metric that it is judged by."""

    plan: str
    metric: str | None


class Look(Question, frozen=True):
    """A quick look at a plan, by its digest."""

    plan: str


class TrialOf(Question, frozen=True):
    """A plan against the current one.

    What is looked at follows from what is known of the current plan's images: from the plan that
    was last checked, and from every one that was kept after it.
    """

    plan: str
    bar: float | None
    current: str


class RecordedChecker:
    """Recalls checks from a journal; measures and records those that are not in it."""

    def __init__(self, checker: Checker, journal: Journal, metric: str | None = None) -> None:
        """Record what ``checker`` measures.

        Args:
            checker: Measures plans.
            journal: Recalls and keeps what is measured.
            metric: Which metric plans are judged by: by another one they are measured anew.
        """
        self._checker = checker
        self._journal = journal
        self._metric = metric
        self._checks: dict[str, Tested] = {}

    def known(self, plan: BitPlan) -> Tested | None:
        """What was measured of a plan; None if it never was on all images."""
        return self._checks.get(plan.sha256)

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """Pass on which plans are likely to come."""
        foresee(self._checker, plans)

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images; once, however often it is asked for."""
        asked = Check(plan.sha256, self._metric)
        tested = self._journal.ask(asked, Tested, lambda: self._checker.check(plan))
        return self._checks.setdefault(plan.sha256, tested)


class RecordedScout:
    """The same for quick looks."""

    def __init__(self, scout: Scout, journal: Journal) -> None:
        """Record what ``scout`` sees."""
        self._scout, self._journal = scout, journal

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """Pass on which plans are likely to come."""
        foresee(self._scout, plans)

    def look(self, plan: BitPlan) -> Scouted:
        """What a plan is likely to do to all images."""
        return self._journal.ask(Look(plan.sha256), Scouted, lambda: self._scout.look(plan))


class RecordedEvaluator(RecordedChecker):
    """The same for trials."""

    def __init__(self, evaluator: Evaluator, journal: Journal) -> None:
        """Record what ``evaluator`` measures."""
        super().__init__(evaluator, journal)
        self._evaluator = evaluator
        self._current = ""

    def trial(self, plan: BitPlan, bar: float | None) -> Tested:
        """Measure a plan on the images whose answer may change against the current plan."""
        asked = TrialOf(plan.sha256, bar, self._current)
        return self._journal.ask(asked, Tested, lambda: self._evaluator.trial(plan, bar))

    def keep(self, plan: BitPlan, tested: Tested) -> None:
        """Make a plan the current one."""
        before = "" if tested.score.in_full else self._current
        self._current = digest_of((before, plan.sha256, tested.score.measured))
        self._evaluator.keep(plan, tested)

    def kl(self, semilayers: Sequence[Semilayer]) -> Float64Array:
        """KL of each semilayer quantized alone."""
        return self._evaluator.kl(semilayers)
