"""The check after each bitwidth, the repair when it disagrees, and stopping early."""

from dataclasses import dataclass

import numpy as np
import pytest
from fake_evaluator import FakeEvaluator, FakeMeasures, plan_of, problem, random_damage

from onnxsemi._errors import BudgetError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._search.observer import Watch
from onnxsemi._search.semilayer_phases import OUT_OF_TIME
from onnxsemi._search.semilayer_search import SemilayerSearch, SemilayerSettings
from onnxsemi._search.trajectory import Decision, Phase

LADDER = (8, 6, 4)
CHANNELS = {"a": 3, "b": 2, "c": 4}


def run(evaluator, watch=None, channels=CHANNELS, bits=LADDER):
    table = evaluator.table(bits, channels)
    measures = FakeMeasures(evaluator=evaluator)
    given = problem(plan_of(channels), list(channels), measures, delta_loss=table, watch=watch)
    return SemilayerSearch(SemilayerSettings(bits=bits)).search(given)


def damages(count):
    for seed in range(count):
        yield random_damage(np.random.default_rng(seed), CHANNELS, LADDER)


@pytest.mark.parametrize("overlooked", [1, 2, 5])
def test_the_choice_holds_on_all_images_whatever_the_trials_overlooked(overlooked):
    for damage in damages(30):
        evaluator = FakeEvaluator(damage, overlooked=overlooked)
        result = run(evaluator)
        chosen = result.choose(0)
        assert chosen.score.in_full
        assert chosen.score == evaluator.score(chosen.plan)
        assert chosen.score.correct >= result.baseline.correct


def test_after_every_bitwidth_the_plan_holds_the_bar_that_it_began_with():
    for damage in damages(30):
        evaluator = FakeEvaluator(damage, overlooked=2)
        result = run(evaluator)
        bar = result.baseline.correct
        for bits in LADDER:
            kept = [
                p for p in result.points if (p.phase, p.bits) == (Phase.ACCURACY_INCREASING, bits)
            ]
            if not kept:
                break
            assert kept[-1].score == evaluator.score(kept[-1].plan)
            assert kept[-1].score.correct >= bar
            bar = kept[-1].score.correct


def test_what_is_undone_says_so_and_leaves_no_point():
    # each 8-bit step looks harmless; from the third on, all images tell otherwise
    damage = {(layer, 0, 8): loss for layer, loss in zip("abcd", (0, 0, 3, 3), strict=True)}
    evaluator = FakeEvaluator(damage, overlooked=5)
    result = run(evaluator, channels=dict.fromkeys("abcd", 1), bits=(8,))
    phase = [t for t in result.trials if t.phase is Phase.ACCURACY_INCREASING]
    undone = [t for t in phase if t.decision is Decision.UNDONE]
    assert [t.ranked.semilayer.layer for t in phase] == ["c", "d", "a", "b"]  # most sensitive first
    assert undone == phase  # the first step already fails
    assert all("on all images" in t.reason and "500" in t.reason for t in undone)
    assert result.stop.startswith("8 bits raised nothing")
    numbers = {t.number for t in undone}
    assert not any(point.trial in numbers for point in result.points)


def test_repair_keeps_the_longest_beginning_in_few_checks():
    letters = "abcdefghijklmnop"
    for harmless in range(17):
        # KL follows the damage: equal damages are tried in the order of their names
        damage = {(x, 0, 8): -1 if i < harmless else 1 for i, x in enumerate(letters)}
        evaluator = FakeEvaluator(damage, correct=500, overlooked=3)
        watch = Watch(CountingChecks(evaluator))
        result = run(evaluator, watch, channels=dict.fromkeys(letters, 1), bits=(8,))
        kept = [t for t in result.trials if t.decision is Decision.KEPT]
        assert len(kept) == min(16, 2 * harmless)
        assert all(count <= 1 + 5 for count in watch.progress.before_postponing)  # 2^4 steps


class CountingChecks(Silent):
    """Remembers how many checks there were when the postponing phase began."""

    def __init__(self, evaluator):
        self.evaluator = evaluator
        self.before_postponing = []

    def start(self, phase, _total):
        if phase.startswith("postponing"):
            self.before_postponing.append(len(self.evaluator.checked))


def test_no_image_overlooked_no_repair():
    for damage in damages(10):
        evaluator = FakeEvaluator(damage)
        result = run(evaluator)
        assert not any(t.decision is Decision.UNDONE for t in result.trials)


@pytest.mark.parametrize("trials", [0, 1, 5, 12, 1000])
def test_out_of_time_gives_the_best_so_far(trials):
    for damage in damages(10):
        evaluator = FakeEvaluator(damage, overlooked=1)
        left = iter(range(trials))
        done = []

        def out_of_time(left=left, done=done):
            if next(left, None) is None:
                done.append(True)
            return bool(done)

        result = run(evaluator, Watch(Silent(), out_of_time))
        assert len(result.trials) <= trials
        chosen = result.choose(0)
        assert chosen.score.in_full
        assert chosen.score.correct >= result.baseline.correct
        if trials < 9:
            assert result.stop == OUT_OF_TIME


@dataclass
class CutShort(FakeEvaluator):
    """The time ends within one of its measurements; told of it, it takes its time for the rest."""

    left: int = 0
    rest: list[BitPlan] | None = None

    def score(self, plan):
        if self.rest is not None:
            self.rest.append(plan)
        elif not self.left:
            raise BudgetError("the time ended")
        self.left -= 1
        return super().score(plan)

    def end(self):
        self.rest = []


@pytest.mark.parametrize("left", [2, 3, 7, 12, 25])
def test_cut_short_within_a_trial_or_a_check_gives_the_best_so_far(left):
    """One plan at most is measured after that: as long as was left for it."""
    given = []
    for damage in damages(10):
        evaluator = CutShort(damage, overlooked=1, left=left)
        result = run(evaluator, Watch(Silent(), ending=evaluator.end))
        if evaluator.rest is None:
            continue  # it needed no more
        assert result.stop == OUT_OF_TIME
        assert len(evaluator.rest) <= 1
        assert all(point.score.in_full for point in result.points)
        chosen = result.choose(0)
        assert chosen.score.correct >= result.baseline.correct
        given.append(chosen.plan.saved_parameters > 0)
    assert given
    assert any(given) or left == 2


def test_settled_is_told_of_checked_plans_that_compress_more_and_more():
    for damage in damages(10):
        told = []
        run(FakeEvaluator(damage, overlooked=1), Watch(Silent(), settled=told.append))
        assert all(point.score.in_full for point in told)
        saved = [point.plan.saved_parameters for point in told]
        assert saved == sorted(saved)
