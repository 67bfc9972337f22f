"""An evaluator whose measurements are kept in a journal and recalled from it."""

from collections.abc import Sequence

from onnxsemi.arrays import Float64Array
from onnxsemi.layers import Semilayer
from onnxsemi.measure.metric import Values
from onnxsemi.measure.seam import Checker, Closeness, Evaluator, Score, Tested
from onnxsemi.plan import BitPlan
from onnxsemi.run.journal import Journal, Reply, packed, unpacked


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
        self._metric = () if metric is None else (metric,)
        self._checks: dict[tuple[object, ...], Tested] = {}

    def known(self, plan: BitPlan) -> Tested | None:
        """What was measured of a plan; None if it never was on all images."""
        return self._checks.get(self.asked(plan))

    def asked(self, plan: BitPlan) -> tuple[object, ...]:
        """What the journal is asked for of a plan."""
        return (*_asked(plan), *self._metric)

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images; once, however often it is asked for."""
        asked, measure = self.asked(plan), self._checker.check
        if asked not in self._checks:
            reply = self._journal.ask("check", asked, lambda: _reply(measure(plan)))
            self._checks[asked] = _tested(reply)
        return self._checks[asked]


class RecordedEvaluator(RecordedChecker):
    """The same for trials."""

    def __init__(self, evaluator: Evaluator, journal: Journal) -> None:
        """Record what ``evaluator`` measures."""
        super().__init__(evaluator, journal)
        self._evaluator = evaluator

    def trial(self, plan: BitPlan, bar: float | None) -> Tested:
        """Measure a plan on the images whose answer may change against the current plan."""
        asked, measure = (*_asked(plan), bar), self._evaluator.trial
        return _tested(self._journal.ask("trial", asked, lambda: _reply(measure(plan, bar))))

    def keep(self, plan: BitPlan, tested: Tested) -> None:
        """Make a plan the current one."""
        self._evaluator.keep(plan, tested)

    def kl(self, semilayers: Sequence[Semilayer]) -> Float64Array:
        """KL of each semilayer quantized alone."""
        return self._evaluator.kl(semilayers)


def _asked(plan: BitPlan) -> tuple[object, ...]:
    return (plan.sha256,)


def _reply(tested: Tested) -> Reply:
    score = tested.score
    return {
        "correct": score.correct,
        "total": score.total,
        "measured": score.measured,
        "loss": score.loss,
        "change": tested.change,
        "kl": tested.kl,
        "close": None if tested.close is None else vars(tested.close),
        "images": packed(tested.images),
        "margins": packed(tested.margins),
        "right": packed(tested.right),
        **values_reply(tested.values),
    }


def values_reply(values: Values | None) -> Reply:
    """Values of a metric as part of a reply; nothing without one."""
    return {} if values is None else {"metric": values.name, "values": packed(values.each)}


def values_of(reply: Reply) -> Values | None:
    """What :func:`values_reply` was given."""
    if "values" not in reply:
        return None
    return Values(reply["metric"], unpacked(reply["values"]))


def _tested(reply: Reply) -> Tested:
    score = Score(reply["correct"], reply["total"], reply["measured"], reply["loss"])
    images, margins, right = (unpacked(reply[name]) for name in ("images", "margins", "right"))
    close = None if reply["close"] is None else Closeness(**reply["close"])
    change, kl, values = reply["change"], reply["kl"], values_of(reply)
    return Tested(score, images, margins, right, change, kl, close, values)
