"""An evaluator whose measurements are kept in a journal and recalled from it."""

from collections.abc import Sequence

from onnxsemi.arrays import Float64Array
from onnxsemi.layers import Semilayer
from onnxsemi.measure.seam import Checker, Closeness, Evaluator, Score, Tested
from onnxsemi.plan import BitPlan
from onnxsemi.run.journal import Journal, Reply, packed, unpacked


class RecordedChecker:
    """Recalls checks from a journal; measures and records those that are not in it."""

    def __init__(self, checker: Checker, journal: Journal) -> None:
        """Record what ``checker`` measures."""
        self._checker = checker
        self._journal = journal
        self._checks: dict[tuple[object, ...], Tested] = {}

    def known(self, plan: BitPlan) -> Tested | None:
        """What was measured of a plan; None if it never was on all images."""
        return self._checks.get(_asked(plan))

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images; once, however often it is asked for."""
        asked, measure = _asked(plan), self._checker.check
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

    def trial(self, plan: BitPlan, bar: int | None) -> Tested:
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
    return tuple(plan.bits.items())


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
    }


def _tested(reply: Reply) -> Tested:
    score = Score(reply["correct"], reply["total"], reply["measured"], reply["loss"])
    images, margins, right = (unpacked(reply[name]) for name in ("images", "margins", "right"))
    close = None if reply["close"] is None else Closeness(**reply["close"])
    return Tested(score, images, margins, right, reply["change"], reply["kl"], close)
