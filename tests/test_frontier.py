"""The frontier, what is asked of plans, and the walk along it, on made-up harm and answers."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from fake_evaluator import plan_of
from fake_evaluator import tested as outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsemi.layers import Sign
from onnxsemi.measure.paired import Paired
from onnxsemi.measure.seam import DeltaLossTable, Score
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Silent
from onnxsemi.search.frontier import (
    GROUP_BYTES,
    between,
    frontier,
    hull,
    monotone,
    predicted,
    tidied,
)
from onnxsemi.search.guard import Guard
from onnxsemi.search.settings import SearchSettings
from onnxsemi.search.trajectory import Decision, Phase
from onnxsemi.search.walk import Predictions, walk_frontier
from onnxsemi.search.watch import Watch

BITS = (8, 4, 2, 1)
LAYERS = {"b": 3, "a": 2}


def tables(seed, channels=LAYERS, bits=BITS):
    """Δloss of either sign, and harm that grows about fourfold with every bit taken away."""
    rng = np.random.default_rng(seed)
    nats = {
        name: rng.uniform(0.3, 3, (count, len(bits))) * 4.0 ** -np.array(bits)
        for name, count in channels.items()
    }
    signs = {name: rng.normal(size=values.shape) for name, values in nats.items()}
    harm = DeltaLossTable(bits, monotone(nats), 1)
    return DeltaLossTable(bits, signs, 1), harm


class TestHull:
    @given(st.lists(st.floats(0, 10), min_size=len(BITS), max_size=len(BITS)))
    def test_is_the_lower_convex_hull(self, values):
        harm = np.array(values)
        kept = hull(harm, BITS)
        assert kept[0] == 0
        assert kept[-1] == len(BITS) - 1
        saved = [BITS[0] - b for b in BITS]
        below = np.interp(saved, [saved[k] for k in kept], harm[kept])
        assert (below <= harm + 1e-9).all()
        slopes = [(harm[b] - harm[a]) / (saved[b] - saved[a]) for a, b in pairwise(kept)]
        assert all(one <= other + 1e-9 for one, other in pairwise(slopes))


class TestFrontier:
    @pytest.mark.parametrize("seed", range(6))
    def test_no_plan_of_no_more_bits_has_less_harm(self, seed):
        """Every beginning of the walk, against all plans there are."""
        channels = {"a": 2, "b": 2}
        _, harm = tables(seed, channels)
        start = BitPlan({n: (32,) * c for n, c in channels.items()}, {"a": 5, "b": 9})
        path = frontier(start, harm, list(channels))
        every = [
            BitPlan({"a": bits[:2], "b": bits[2:]}, start.channel_params)
            for bits in product(BITS, repeat=4)
        ]
        least = [(plan.weight_bits, predicted(plan, harm)) for plan in every]
        for count in range(len(path.steps) + 1):
            plan = path.plan(count)
            mine = predicted(plan, harm)
            better = [h for bits, h in least if bits <= plan.weight_bits]
            assert mine <= min(better) + 1e-12

    def test_walk_goes_from_the_widest_to_the_narrowest(self):
        _, harm = tables(0)
        path = frontier(plan_of(LAYERS), harm, list(LAYERS))
        assert {b for bits in path.plan(0).bits.values() for b in bits} == {8}
        last = path.plan(len(path.steps))
        assert {b for bits in last.bits.values() for b in bits} == {1}
        prices = [step.price for step in path.steps]
        assert prices == sorted(prices)

    def test_equal_prices_go_by_layer_channel_and_bits(self):
        nats = {name: np.zeros((count, len(BITS))) for name, count in LAYERS.items()}
        path = frontier(plan_of(LAYERS), DeltaLossTable(BITS, nats, 1), list(LAYERS))
        order = [(step.layer, step.channel) for step in path.steps]
        assert order == sorted(order, key=lambda item: (list(LAYERS).index(item[0]), item[1]))

    def test_stops_are_equally_far_apart(self):
        _, harm = tables(1, {"a": 40, "b": 30})
        path = frontier(plan_of({"a": 40, "b": 30}), harm, ["a", "b"])
        stops = path.stops(10)
        sizes = [path.plan(stop).weight_bits for stop in stops]
        assert stops[0] == 0
        assert stops[-1] == len(path.steps)
        assert np.ptp(np.diff(sizes)) <= 2 * 10 * 4  # a step of a channel of 10 weights and 4 bits

    def test_pinned_layers_stay(self):
        _, harm = tables(0)
        start = plan_of(LAYERS).with_bits("a", range(2), 6)
        path = frontier(start, harm, ["b"])
        assert path.plan(len(path.steps)).bits["a"] == (6, 6)

    def test_harm_never_falls_with_fewer_bits(self):
        found = monotone({"a": np.array([[1.0, 0.5, 2.0, 1.0]])})
        assert found["a"].tolist() == [[1.0, 1.0, 2.0, 2.0]]


class TestTidied:
    @given(st.lists(st.sampled_from(BITS), min_size=5, max_size=5), st.integers(1, 2000))
    @settings(max_examples=60)
    def test_smaller_and_never_narrower(self, bits, weights):
        plan = BitPlan({"a": tuple(bits)}, {"a": weights})
        found = tidied(plan, ["a"])
        assert all(new >= old for new, old in zip(found.bits["a"], bits, strict=True))
        assert size(found) <= size(plan)
        assert tidied(found, ["a"]) == found

    def test_small_groups_join_the_next_wider(self):
        plan = BitPlan({"a": (8, 4, 4, 4, 2)}, {"a": 100})
        assert tidied(plan, ["a"]).bits["a"] == (8, 4, 4, 4, 4)

    def test_large_ones_and_pinned_ones_stay(self):
        plan = BitPlan({"a": (8, 4, 4), "b": (8, 4, 4)}, {"a": 10**6, "b": 1})
        assert tidied(plan, ["a"]) == plan


def size(plan):
    return plan.weight_bits + 8 * GROUP_BYTES * sum(len(set(bits)) for bits in plan.bits.values())


class TestBetween:
    def test_semilayers_by_layer_bits_and_sign(self):
        table, harm = tables(3)
        plan = plan_of(LAYERS).with_bits("a", range(2), 8).with_bits("b", range(3), 8)
        ahead = plan.with_bits("a", [0, 1], 4).with_bits("b", [1], 2).with_bits("b", [2], 4)
        found = between(plan, ahead, table, harm)
        assert [price for price, _ in found] == sorted(price for price, _ in found)
        lowered = plan
        for _, semilayer in found:
            positive = table.column(semilayer.layer, semilayer.bits)[list(semilayer.channels)] > 0
            assert (positive == (semilayer.sign is Sign.POSITIVE)).all()
            lowered = lowered.with_semilayer(semilayer)
        assert lowered == ahead


class TestGuard:
    def test_point_of_the_papers_method(self):
        guard = Guard(max_drop=0.1)
        assert guard.against(Paired(1000, 900, lost=2, won=1)) is None
        assert "2 more lost than won" in str(guard.against(Paired(1000, 900, lost=2, won=0)))

    @pytest.mark.parametrize(("lost", "won"), [(0, 0), (20, 13), (45, 45), (10, 60)])
    def test_interval_holds(self, lost, won):
        assert Guard(max_drop=0, tolerance=0.5).against(Paired(4000, 3500, lost, won)) is None

    @pytest.mark.parametrize(("lost", "won"), [(20, 0), (60, 50), (80, 80)])
    def test_interval_reaches_too_far(self, lost, won):
        guard = Guard(max_drop=0, tolerance=0.5)
        assert guard.against(Paired(4000, 3500, lost, won)) is not None
        more = Guard(max_drop=1, tolerance=0.5)
        assert more.against(Paired(4000, 3500, lost, won)) is None

    def test_without_labels_half_of_what_changes_is_lost(self):
        guard = Guard(max_drop=0, tolerance=0.5, has_labels=False)
        assert guard.against(Paired(4000, 4000, lost=80, won=0)) is None
        assert guard.against(Paired(4000, 4000, lost=120, won=0)) is not None

    @pytest.mark.parametrize("count", [10, 60, 500])
    def test_few_images_can_hold_too(self, count):
        guard = Guard(max_drop=0, tolerance=0.5)
        assert guard.against(Paired(count, count, lost=0, won=0)) is None
        assert guard.against(Paired(count, count, lost=count // 2, won=0)) is not None


class FakeChecker:
    """Every weight bit saved changes some answers; ``bias`` more of them are lost than won."""

    def __init__(self, harm, bias=0, count=4000):
        self.harm, self.bias, self.count = harm, bias, count
        self.checked = []

    def check(self, plan):
        self.checked.append(plan)
        right = np.ones(self.count, np.bool_)
        right[::2] = False
        if plan != plan.all_float():
            flips = min(self.count // 2, int(2e4 * predicted(plan, self.harm)))
            right[1 : 2 * (flips // 2 + self.bias) : 2] = False
            right[0 : 2 * (flips // 2) : 2] = True
        score = Score(int(right.sum()), self.count, self.count, 1.0)
        return replace(outcome(score), right=right)


BIG = {"a": 40, "b": 30, "c": 20}


def walk(seed=0, bias=0, watch=None, start=None, **changes):
    table, harm = tables(seed, BIG, tuple(range(8, 0, -1)))
    checker = FakeChecker(harm, bias)
    predictions = Predictions(delta_loss=table, harm=harm, has_labels=True)
    how = SearchSettings(**changes)
    found = walk_frontier(
        start or plan_of(BIG, params=1000),
        list(BIG),
        predictions,
        checker,
        how,
        watch or Watch(Silent()),
    )
    return found, checker


class TestWalk:
    def test_only_plans_that_hold_are_points(self):
        found, checker = walk()
        guard, base = SearchSettings().guard(has_labels=True), checker.check(checker.checked[0])
        assert len(found.points) > 1
        for point in found.points[1:]:
            assert guard.objection(base.right, checker.check(point.plan).right) is None
        assert found.choose(100).plan.compression == max(p.plan.compression for p in found.points)

    def test_every_decision_is_recorded_with_a_reason(self):
        found, checker = walk()
        assert [trial.number for trial in found.trials] == list(range(1, len(found.trials) + 1))
        assert all(trial.reason and trial.compression is not None for trial in found.trials)
        kept = [trial for trial in found.trials if trial.decision is Decision.KEPT]
        assert len(kept) == len(found.points) - 1
        assert {trial.decision for trial in found.trials} == {Decision.KEPT, Decision.REJECTED}
        assert len(checker.checked) <= len(found.trials) + 2

    def test_the_next_stop_would_not_hold(self):
        """Harm grows along the walk, so bisection ends at the last stop that holds."""
        found, checker = walk(tries=0)
        best, base = found.choose(100).plan, checker.check(checker.checked[0])
        guard = SearchSettings().guard(has_labels=True)
        path = frontier(plan_of(BIG, params=1000), checker.harm, list(BIG))
        for stop in path.stops(128):
            plan = tidied(path.plan(stop), list(BIG))
            if plan.compression > best.compression + 0.01:
                assert guard.objection(base.right, checker.check(plan).right) is not None

    def test_retreat_from_a_plan_that_loses_more_than_it_wins(self):
        found, _ = walk(bias=12)
        phases = {trial.phase for trial in found.trials}
        assert Phase.RETREAT in phases
        rejected = [t for t in found.trials if t.decision is Decision.REJECTED]
        assert any("12" not in t.reason and "lost" in t.reason for t in rejected)

    def test_descent_lowers_semilayers(self):
        found, _ = walk(tries=6)
        tried = [trial for trial in found.trials if trial.phase is Phase.DESCENT]
        assert 0 < len(tried) <= 6
        assert all(trial.ranked is not None for trial in tried)

    def test_nothing_holds(self):
        found, _ = walk(bias=1000)
        assert len(found.points) == 1
        assert not found.holding(100)

    def test_again_is_the_same(self):
        one, other = (walk(seed=2)[0] for _ in range(2))
        assert one == other

    def test_out_of_time(self):
        asked = iter([False, False, True, *[True] * 99])
        found, _ = walk(watch=Watch(Silent(), lambda: next(asked)))
        assert found.out_of_time
        assert len(found.trials) == 2

    def test_pins_stay(self):
        start = plan_of(BIG, params=1000).with_bits("a", range(40), 7)
        table, harm = tables(0, {"b": 30, "c": 20}, tuple(range(8, 0, -1)))
        predictions = Predictions(delta_loss=table, harm=harm, has_labels=True)
        checker = FakeChecker(harm)
        found = walk_frontier(
            start, ["b", "c"], predictions, checker, SearchSettings(), Watch(Silent())
        )
        assert all(set(point.plan.bits["a"]) == {7} for point in found.points)
