"""The walk along the frontier on a fake checker: what becomes a point, and why."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fake_search import (
    CHANNELS,
    FRONTIER_PHASES,
    LADDER,
    NEAR,
    SEEDS,
    SETTINGS,
    Fake,
    points_between,
)

from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Silent
from onnxsemi._search.frontier import between, predicted
from onnxsemi._search.frontier_course import PLACES, Course
from onnxsemi._search.frontier_search import REACH, FrontierSearch
from onnxsemi._search.frontier_walk import MOST_MEASURED
from onnxsemi._search.observer import Watch
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._search.trajectory import OUT_OF_TIME, Decision, Phase


class Asked:
    """Ends the time at the question that is told."""

    def __init__(self, most):
        self.most, self.count = most, 0

    def __call__(self):
        self.count += 1
        return self.count > self.most


@pytest.fixture(params=SEEDS)
def fake(request):
    return Fake(request.param)


class TestDecisions:
    def test_only_plans_without_objection_become_points(self, fake):
        found = fake.walk()
        assert found.points[0].phase is Phase.START
        assert found.points[0].plan == fake.start
        assert len(found.points) > 1
        for point in found.points[1:]:
            assert fake.objection(point.plan) is None
            assert point.score == fake.checker.check(point.plan).score
            assert point.score.in_full

    def test_every_trial_has_its_reason(self, fake):
        found = fake.walk()
        assert [trial.number for trial in found.trials] == list(range(1, len(found.trials) + 1))
        points = {point.trial: point for point in found.points[1:]}
        kept = [trial for trial in found.trials if trial.decision is Decision.KEPT]
        assert sorted(points) == [trial.number for trial in kept]
        # the float model and the start first
        for trial, plan in zip(found.trials, self.tried(fake, found), strict=True):
            objection = fake.objection(plan)
            if trial.phase is Phase.LAYERS and trial.reason.startswith("a KL of"):
                assert trial.decision is Decision.REJECTED
                continue
            assert trial.decision is (Decision.REJECTED if objection else Decision.KEPT)
            assert trial.reason == (objection or "nothing speaks against it")
            assert trial.kl == fake.checker.check(plan).kl
            assert trial.compression == plan.compression
            if trial.number in points:
                assert points[trial.number].plan == plan
                assert points[trial.number].phase is trial.phase

    def tried(self, fake, found):
        fake.checker.checked.clear()
        fake.walk()
        return fake.checker.checked[2 : 2 + len(found.trials)]

    def test_phases_follow_one_another(self, fake):
        found = fake.walk()
        order = [*FRONTIER_PHASES, Phase.LAYERS, Phase.DESCENT]
        places = [order.index(trial.phase) for trial in found.trials]
        assert places == sorted(places)
        assert all(t.ranked is None or t.phase is Phase.DESCENT for t in found.trials)
        assert found.stop == "the tries were used up"
        assert not found.out_of_time
        assert found.baseline == fake.checker.check(fake.start).score

    def test_no_plan_of_the_frontier_is_tried_twice(self, fake):
        found = fake.walk(replace(SETTINGS, tries=0))
        fake.checker.checked.clear()
        fake.walk(replace(SETTINGS, tries=0))
        plans = fake.checker.checked[2:]
        assert len(plans) == len(found.trials)
        assert len(set(plans)) == len(plans)

    def test_plans_that_follow_from_plans_are_not_checked_again(self, fake, monkeypatch):
        checked = []
        monkeypatch.setattr("onnxsemi._plan.bits._checked", lambda *given: checked.append(given))
        assert len(fake.walk().trials) > 5
        assert not checked

    def test_the_plans_of_the_descent_are_foreseen(self, fake):
        plain, foreseen, likely = fake.walk(), {}, [[], []]
        check = fake.checker.check

        def foresee(plans):
            likely[1] = list(plans)

        def checked(plan):
            foreseen[plan] = plan in likely[0]
            likely[:] = [likely[1], []]
            return check(plan)

        fake.checker.foresee, fake.checker.check = foresee, checked
        found = fake.walk()
        assert found.trials == plain.trials
        _, *later = [trial.plan for trial in found.trials if trial.phase is Phase.DESCENT] or [None]
        assert all(foreseen[plan] for plan in later)

    def test_the_frontier_as_it_was_drawn_last_is_kept(self, fake):
        found = fake.walk()
        course = Course(fake.start, fake.free, found.prediction.kl_increase)
        assert found.points_between == course.plans
        assert len(found.points_between) == PLACES + 1

    def test_again_is_the_same(self, fake):
        one, other = fake.walk(), fake.walk()
        assert one == other
        nats = [found.prediction.kl_increase.nats for found in (one, other)]
        assert all((nats[0][name] == values).all() for name, values in nats[1].items())

    def test_what_is_best_is_told_and_only_grows(self, fake):
        told = []
        found = fake.walk(watch=Watch(Silent(), improved=told.append))
        sizes = [point.plan.compression for point in told]
        assert sizes == sorted(sizes)
        assert told[-1] == found.smallest

    def test_the_best_is_settled_when_the_frontier_and_the_descent_end(self, fake):
        told = []
        found = fake.walk(watch=Watch(Silent(), settled=told.append))
        assert told[0] == max(
            (point for point in found.points if point.phase in FRONTIER_PHASES),
            key=lambda point: point.plan.compression,
        )
        assert told[-1] == found.smallest
        assert len(told) == len({point.plan.sha256 for point in told}) <= 2


class TestFrontier:
    def reached(self, fake):
        """Where the descent begins, by brute force over all places.

        The answers that are turned grow along the frontier. From the last that turns few enough
        the way leads back to the first that the guard takes with its labels.
        """
        plans = points_between(fake)
        few = [fake.objection(plan, has_labels=False) is None for plan in plans]
        assert few == sorted(few, reverse=True)
        last = sum(few) - 1
        return next(p for p in range(last, -1, -1) if fake.objection(plans[p]) is None)

    def test_the_smallest_stop_that_holds_is_nearly_found(self, fake):
        place, plans = self.reached(fake), points_between(fake)
        found = fake.walk(replace(SETTINGS, tries=0))
        assert all(fake.objection(point.plan) is None for point in found.points[1:])
        chosen = found.smallest
        assert chosen.phase is Phase.UNIFORM or chosen.plan in plans[place - NEAR :]

    def test_some_searches_have_to_go_back(self):
        """What changes few answers may still lose more of them than is allowed."""
        fakes = [Fake(seed, share=0.6) for seed in SEEDS]
        refused = [
            trial
            for fake in fakes
            for trial in fake.walk(replace(SETTINGS, tries=0)).trials
            if trial.phase is Phase.FRONTIER and trial.decision is Decision.REJECTED
        ]
        assert any("if half of what changed" not in trial.reason for trial in refused)

    def test_few_plans_are_measured(self):
        found = [Fake(seed).walk() for seed in SEEDS]
        measured = [sum(t.phase is Phase.FRONTIER for t in one.trials) for one in found]
        assert max(measured) <= MOST_MEASURED
        assert np.mean(measured) < 3
        uniform = [sum(t.phase is Phase.UNIFORM for t in one.trials) for one in found]
        assert max(uniform) <= len(LADDER).bit_length()

    def test_descent_adds_semilayers_of_the_plan_ahead(self, fake):
        found, without = (fake.walk(replace(SETTINGS, tries=tries)) for tries in (5, 0))
        assert found.trials[: len(without.trials)] == without.trials
        plans = points_between(fake)
        kept = [t.plan for t in without.trials if t.decision is Decision.KEPT]
        plan = next(plan for plan in reversed(kept) if plan in plans)
        ahead = plans[min(plans.index(plan) + REACH, len(plans) - 1)]
        wanted = between(plan, ahead, fake.delta_loss, fake.kl_increase)[:5]
        lowered = [plan]
        for _, semilayer in wanted:
            lowered.append(lowered[-1].with_semilayer(semilayer))
        descent = found.trials[len(without.trials) :]
        assert len(descent) <= len(wanted).bit_length()
        points, known = [point.plan for point in found.points], [t.plan for t in found.trials]
        assert known[len(without.trials)] == lowered[-1]
        for trial in descent:
            count = lowered.index(trial.plan)
            assert trial.compression == lowered[count].compression
            if trial.ranked is not None:
                assert (trial.ranked.sensitivity, trial.ranked.semilayer) == wanted[count - 1]
                one, other = (predicted(lowered[n], fake.kl_increase) for n in (count, count - 1))
                assert trial.ranked.kl == one - other
        last = max(n for n, plan in enumerate(lowered) if plan in points)
        if last < len(wanted):  # with one more it does not hold
            assert lowered[last + 1] in known
            assert fake.objection(lowered[last + 1]) is not None
        holds = {n: plan in points for n, plan in enumerate(lowered) if plan in known}
        assert sorted(holds, key=lambda n: not holds[n]) == sorted(holds)

    def test_a_descent_may_find_what_the_frontier_has_not(self):
        """Of several seeds some go on, and no search gets worse by trying."""
        gains = []
        for seed in SEEDS:
            few, many = (Fake(seed).walk(replace(SETTINGS, tries=n)) for n in (0, 8))
            sizes = [found.smallest.plan.compression for found in (few, many)]
            gains.append(sizes[1] - sizes[0])
        assert min(gains) >= 0
        assert max(gains) > 0


class TestUniform:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_never_worse_than_one_bitwidth_for_all(self, seed):
        """Of all uniform plans none is as small as the choice and holds."""
        fake = Fake(seed)
        chosen = fake.walk().smallest.plan
        for bits in LADDER:
            plan = Course(fake.start, fake.free, fake.kl_increase).uniform(bits)
            if plan.weight_bits < chosen.weight_bits:
                assert fake.objection(plan) is not None

    def test_where_predictions_are_worthless_one_bitwidth_is_left(self):
        """KL increases that say the opposite of what is true: the frontier's plans fail."""
        fake = Fake(2)
        nats = {layer: 1 / values[:, ::-1] for layer, values in fake.kl_increase.nats.items()}
        wrong = DeltaLossTable(LADDER, {n: np.cumsum(v, axis=1) for n, v in nats.items()}, 1)
        fake.kl_increase = wrong
        found = fake.walk()
        uniform = [t for t in found.trials if t.phase is Phase.UNIFORM]
        held = [t.plan for t in uniform if t.decision is Decision.KEPT]
        assert held
        smallest = min(plan.weight_bits for plan in held)
        assert found.smallest.plan.weight_bits <= smallest


class TestCorrected:
    def misjudged(self, seed, factor=300.0):
        """The KL increase of layer b is taken to be next to nothing."""
        fake = Fake(seed)
        nats = dict(fake.kl_increase.nats)
        nats["b"] = nats["b"] / factor
        fake.kl_increase = DeltaLossTable(LADDER, nats, samples=1)
        return fake

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_frontier_is_drawn_anew(self, seed):
        fake = self.misjudged(seed)
        found = fake.walk()
        assert found.redrawn
        plan = found.smallest.plan
        measured = fake.checker.check(plan).kl
        assert 1 / 2 < found.prediction.of(plan) / measured < 2

    def test_what_is_found_is_nearly_as_small(self):
        sizes = []
        for seed in SEEDS:
            walks = (Fake(seed).walk(), self.misjudged(seed).walk())
            sizes.append([w.smallest.plan.mean_bits for w in walks])
        right, misjudged = np.mean(sizes, axis=0)
        assert misjudged < 1.1 * right

    def test_right_predictions_are_left_alone(self, fake):
        found = fake.walk()
        assert found.redrawn == ()
        for trial in found.trials:
            assert trial.predicted == pytest.approx(trial.kl, rel=1e-6)


class TestLimits:
    def test_what_is_lost_is_asked_of_labels(self):
        """Turned answers are fixed where most were wrong, broken where most were right."""
        sizes = []
        for share in (0.2, 0.98):
            found = Fake(1, share).walk()
            sizes.append(found.smallest.plan.compression)
        assert sizes[0] > sizes[1]

    def test_without_labels_it_is_not_asked_which(self):
        """Half of what changes counts as broken: the right answers play no part."""
        one, other = (Fake(1, share, has_labels=False).walk() for share in (0.2, 0.98))
        assert [p.plan for p in one.points] == [p.plan for p in other.points]
        assert [t.decision for t in one.trials] == [t.decision for t in other.trials]

    def test_nothing_holds(self):
        """Every channel, at any bitwidth, loses images: only the start is left."""
        fake = Fake(0, share=1.0)
        turned = {layer: np.full((n, len(LADDER)), 20.0) for layer, n in CHANNELS.items()}
        fake.checker = replace(
            fake.checker, turned=DeltaLossTable(LADDER, turned, samples=1), checked=[]
        )
        found = fake.walk()
        assert [point.plan for point in found.points] == [fake.start]
        assert FrontierSearch(SETTINGS).holding(found) == []
        assert {trial.decision for trial in found.trials} == {Decision.REJECTED}
        assert {trial.phase for trial in found.trials} <= {Phase.UNIFORM, Phase.FRONTIER}

    def test_the_way_back_comes_to_an_end(self):
        """Few answers change, and every one of them is broken."""
        fake = Fake(0, share=1.0)
        turned = {layer: np.full((n, len(LADDER)), 1.0) for layer, n in CHANNELS.items()}
        turned["a"][0] = 20.0
        fake.checker = replace(
            fake.checker, turned=DeltaLossTable(LADDER, turned, samples=1), checked=[]
        )
        found = fake.walk()
        measured = [trial for trial in found.trials if trial.phase is Phase.FRONTIER]
        assert 1 < len(measured) <= MOST_MEASURED
        assert len(found.points) == 1

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
    def test_time_ends(self, fake, share):
        counting = Asked(10**9)
        whole = fake.walk(watch=Watch(Silent(), counting))
        found = fake.walk(watch=Watch(Silent(), Asked(int(share * counting.count))))
        assert found.out_of_time
        assert found.stop == OUT_OF_TIME
        assert len(found.trials) < len(whole.trials)
        assert found.trials == whole.trials[: len(found.trials)]
        assert found.points == whole.points[: len(found.points)]

    def test_pinned_layers_stay(self, fake):
        pinned = fake.start.with_bits("b", range(6), 4)
        fake.start, fake.free = pinned, ["a", "c"]
        nats = {layer: fake.kl_increase.nats[layer] for layer in fake.free}
        fake.kl_increase = DeltaLossTable(LADDER, nats, samples=1)
        loss = {layer: fake.delta_loss.nats[layer] for layer in fake.free}
        fake.delta_loss = DeltaLossTable(LADDER, loss, samples=1)
        found = fake.walk()
        assert {point.plan.listed()["b"] for point in found.points} == {(4,) * 6}
        for point in found.points[1:]:
            assert FLOAT_BITS not in point.plan.widths

    def test_one_bitwidth(self, fake):
        """Eight bits or nothing."""
        fake.kl_increase, fake.delta_loss = (
            DeltaLossTable((8,), {n: v[:, :1] for n, v in whole.nats.items()}, samples=1)
            for whole in (fake.kl_increase, fake.delta_loss)
        )
        found = fake.walk(replace(SETTINGS, bits=(8,)))
        assert [point.plan.mean_bits for point in found.points] == [32, 8]

    def test_more_may_be_lost_with_more_allowed(self, fake):
        sizes = [
            fake.walk(replace(SETTINGS, max_drop=drop)).smallest.plan.compression
            for drop in (0, 1, 5)
        ]
        assert all(one <= other for one, other in pairwise(sizes))
        assert sizes[0] < sizes[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_walk_that_is_drawn_anew(seed):
    """Fewer steps than places: these mean the same sizes on every frontier."""
    fake = Fake(seed)
    nats = {
        **fake.kl_increase.nats,
        "b": fake.kl_increase.nats["b"] / 1000,
        "c": fake.kl_increase.nats["c"] * 50,
    }
    fake.kl_increase = DeltaLossTable(LADDER, nats, samples=1)
    found = fake.walk()
    assert found.redrawn
    assert found.smallest.plan.saved_parameters
