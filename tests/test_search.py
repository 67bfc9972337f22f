"""The search on a fake evaluator: no model, no runtime."""

import itertools

import numpy as np
import pytest
from fake_evaluator import FakeEvaluator, FakeMeasures, plan_of, problem, random_damage

from onnxsemi._errors import SettingsError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._search.protocols import DeltaLossTable, Score
from onnxsemi._search.ranking import Order, rank
from onnxsemi._search.semilayer_phases import unsettled
from onnxsemi._search.semilayer_search import SemilayerSearch, SemilayerSettings
from onnxsemi._search.semilayers import Split, by_sign, whole_layers
from onnxsemi._search.settings import SearchSettings
from onnxsemi._search.trajectory import Decision, Phase, Point, Trajectory, best_point

LADDER = (8, 6, 4)
CHANNELS = {"a": 3, "b": 2, "c": 4}


def run(evaluator, channels=CHANNELS, settings=None, start=None):
    settings = settings or SemilayerSettings(bits=LADDER)
    table = evaluator.table(settings.bits, channels)
    start, measures = start or plan_of(channels), FakeMeasures(evaluator=evaluator)
    given = problem(start, list(channels), measures, delta_loss=table)
    return SemilayerSearch(settings).search(given)


def evaluators(count=30):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield FakeEvaluator(random_damage(rng, CHANNELS, LADDER))


class TestSemilayers:
    def test_partition_is_disjoint_and_complete(self):
        rng = np.random.default_rng(0)
        table = DeltaLossTable((8,), {"a": rng.normal(size=(20, 1))}, samples=1)
        parts = by_sign({"a": range(20)}, table, 8)
        assert sorted(c for part in parts for c in part.channels) == list(range(20))
        assert [part.sign for part in parts] == [Sign.NEGATIVE, Sign.POSITIVE]
        for part in parts:
            values = table.column("a", 8)[list(part.channels)]
            assert ((values > 0) == (part.sign is Sign.POSITIVE)).all()

    def test_zero_is_negative(self):
        table = DeltaLossTable((8,), {"a": np.array([[0.0], [-0.0], [1e-300]])}, samples=1)
        assert by_sign({"a": [0, 1, 2]}, table, 8) == [
            Semilayer("a", Sign.NEGATIVE, (0, 1), 8),
            Semilayer("a", Sign.POSITIVE, (2,), 8),
        ]

    def test_empty_semilayer_is_left_out(self):
        table = DeltaLossTable((8,), {"a": np.ones((2, 1))}, samples=1)
        assert [part.sign for part in by_sign({"a": [0, 1]}, table, 8)] == [Sign.POSITIVE]

    def test_split_uses_the_column_of_its_bitwidth(self):
        table = DeltaLossTable((8, 4), {"a": np.array([[1.0, -1.0]])}, samples=1)
        signs = {bits: by_sign({"a": [0]}, table, bits)[0].sign for bits in (8, 4)}
        assert signs == {8: Sign.POSITIVE, 4: Sign.NEGATIVE}

    def test_layer_wise_ablation_does_not_split(self):
        assert whole_layers({"a": [2, 0], "b": []}, 6) == [Semilayer("a", Sign.BOTH, (0, 2), 6)]

    @pytest.mark.shared
    @pytest.mark.parametrize(
        ("model", "channels", "shares"),
        [
            ("resnet18", 3840, {8: 50.3, 6: 48.0, 4: 39.7, 2: 8.0}),
            ("resnet34", 7552, {8: 50.9, 6: 49.9, 4: 44.7, 2: 17.3}),
        ],
    )
    def test_published_tables_have_the_published_shares(self, shared, model, channels, shares):
        table = published(shared / f"reference/imagenet_{model}_deltaloss.csv")
        everything = {layer: range(len(values)) for layer, values in table.nats.items()}
        assert sum(map(len, everything.values())) == channels
        for bits, share in shares.items():
            parts = by_sign(everything, table, bits)
            assert sum(len(part.channels) for part in parts) == channels
            negative = sum(len(p.channels) for p in parts if p.sign is Sign.NEGATIVE)
            assert round(100 * negative / channels, 1) == share


class TestRanking:
    KL = np.array([3.0, 1.0, 1.0])
    GROUPS = (
        Semilayer("b", Sign.NEGATIVE, (0,), 8),
        Semilayer("b", Sign.POSITIVE, (1,), 8),
        Semilayer("a", Sign.POSITIVE, (0,), 8),
    )

    @pytest.mark.parametrize(
        ("order", "layers"),
        [(Order.DESCENDING, "b- a+ b+"), (Order.ASCENDING, "a+ b+ b-")],
    )
    def test_order_and_ties_by_name(self, order, layers):
        marks = {Sign.NEGATIVE: "-", Sign.POSITIVE: "+"}
        for shuffle in itertools.permutations(range(3)):
            groups = [self.GROUPS[i] for i in shuffle]
            ranked = rank(groups, self.KL[list(shuffle)], {"a": 10, "b": 10}, order)
            names = [item.semilayer.layer + marks[item.semilayer.sign] for item in ranked]
            assert " ".join(names) == layers

    def test_sensitivity_is_kl_per_saved_parameter(self):
        groups = [Semilayer("a", Sign.NEGATIVE, (0, 1), 8)]
        (item,) = rank(groups, np.array([3.0]), {"a": 10}, Order.DESCENDING)
        assert item.sensitivity == 3.0 / (2 * 10 * (1 - 8 / 32))
        assert item.kl == 3.0


class TestSearch:
    def test_semilayers_that_do_not_hurt_are_kept_and_the_others_postponed(self):
        damage = {("a", 0, 8): -1, ("a", 1, 8): 2, ("b", 0, 8): 0, ("b", 1, 8): -3}
        channels = {"a": 2, "b": 2}
        settings = SemilayerSettings(bits=(8,), order=Order.DESCENDING)
        result = run(FakeEvaluator(damage), channels, settings)
        steps = [
            (
                t.ranked.semilayer.layer,
                t.ranked.semilayer.channels,
                t.decision,
                t.bar,
                t.score.correct,
            )
            for t in result.trials
            if t.phase is Phase.ACCURACY_INCREASING
        ]
        # b- has KL 3 over two channels, a+ 2 over one, a- 1 over one: a+ is the most sensitive
        assert steps == [
            ("a", (1,), Decision.POSTPONED, 500, 498),
            ("b", (0, 1), Decision.KEPT, 500, 503),
            ("a", (0,), Decision.KEPT, 503, 504),
        ]

    def test_the_bar_ratchets_up_and_postponed_channels_get_their_bits_back(self):
        for evaluator in evaluators():
            result = run(evaluator)
            bar, plan = result.baseline.correct, plan_of(CHANNELS)
            for trial in result.trials:
                if trial.phase is not Phase.ACCURACY_INCREASING:
                    break
                assert trial.bar == bar
                tried = evaluator.score(plan.with_semilayer(trial.ranked.semilayer))
                assert trial.score == tried  # tried on what was kept so far, nothing else
                if trial.score.correct >= bar:
                    assert trial.decision is Decision.KEPT
                    bar, plan = tried.correct, plan.with_semilayer(trial.ranked.semilayer)
                else:
                    assert trial.decision is Decision.POSTPONED
            kept = [p for p in result.points if p.phase is Phase.ACCURACY_INCREASING]
            assert (kept[-1].plan if kept else plan_of(CHANNELS)) == plan

    def test_a_channel_goes_from_a_wider_to_a_narrower_bitwidth(self):
        damage = {("a", 0, 8): -1, ("a", 0, 6): -2, ("a", 0, 4): 9}
        result = run(FakeEvaluator(damage), {"a": 1})
        kept = [p.plan.listed()["a"] for p in result.points if p.phase is Phase.ACCURACY_INCREASING]
        assert kept == [(8,), (6,)]
        assert result.choose(0).plan.listed()["a"] == (6,)

    @pytest.mark.parametrize(
        ("damages", "tried", "stop"),
        [
            ({8: -1, 6: -2, 4: 3}, [8, 6, 4], "4 bits raised nothing"),
            ({8: -1, 6: 3, 4: -5}, [8, 6], "6 bits raised nothing"),
            ({8: 1, 6: -5, 4: -5}, [8], "8 bits raised nothing"),
            ({8: 0, 6: 0, 4: 1}, [8, 6, 4], "4 bits raised nothing"),
            ({8: -1, 6: -2, 4: -3}, [8, 6, 4], "every bitwidth of the ladder was tried"),
        ],
        ids=["at-4", "at-6", "at-8", "equal-is-kept", "exhausted"],
    )
    def test_stop_rule(self, damages, tried, stop):
        evaluator = FakeEvaluator({("a", 0, bits): loss for bits, loss in damages.items()})
        result = run(evaluator, {"a": 1})
        phase = [t for t in result.trials if t.phase is Phase.ACCURACY_INCREASING]
        assert [t.ranked.semilayer.bits for t in phase] == tried
        assert result.stop.startswith(stop)

    def test_postponing_runs_once_a_bitwidth_from_the_same_start(self):
        for evaluator in evaluators():
            result = run(evaluator)
            kept = [p for p in result.points if p.phase is Phase.ACCURACY_INCREASING]
            start = kept[-1].plan if kept else plan_of(CHANNELS)
            left = unsettled(start, list(CHANNELS))
            for bits in LADDER:
                branch = [p for p in result.points if (p.phase, p.bits) == (Phase.POSTPONING, bits)]
                expected = {
                    layer: tuple(bits if b == 32 else b for b in start.listed()[layer])
                    for layer in CHANNELS
                }
                assert bool(branch) == bool(left)
                if branch:
                    assert branch[-1].plan.listed() == expected
                saved = [p.plan.saved_parameters for p in branch]
                assert saved == sorted(set(saved))
                for point in branch:  # untouched: what was quantized before keeps its bits
                    for layer, before in start.bits.items():
                        pairs = zip(before, point.plan.bits[layer], strict=True)
                        assert all(new == old for old, new in pairs if old != 32)

    def test_the_choice_is_the_most_compressed_point_that_holds(self):
        for evaluator in evaluators():
            result = run(evaluator)
            for max_drop in (0.0, 0.5, 100.0):
                chosen = result.choose(max_drop)
                floor = result.baseline.correct - max_drop / 100 * result.baseline.total
                assert chosen.score.correct >= floor
                holding = [p for p in result.points if p.score.correct >= floor]
                best = max(p.plan.compression for p in holding)
                assert chosen.plan.compression == best

    def test_every_decision_has_a_number_and_a_reason(self):
        result = run(next(evaluators()))
        assert [t.number for t in result.trials] == list(range(1, len(result.trials) + 1))
        assert all(t.reason for t in result.trials)
        reached = [p.trial for p in result.points if p.trial]
        assert reached == [t.number for t in result.trials if t.decision is not Decision.POSTPONED]

    def test_deterministic(self):
        for evaluator in evaluators(5):
            first, second = run(evaluator), run(FakeEvaluator(evaluator.damage))
            assert first == second

    def test_ascending_tries_the_least_sensitive_first(self):
        evaluator = next(evaluators())
        for order, direction in ((Order.ASCENDING, 1), (Order.DESCENDING, -1)):
            result = run(evaluator, settings=SemilayerSettings(bits=LADDER, order=order))
            by_bits = itertools.groupby(
                (t for t in result.trials if t.phase is Phase.ACCURACY_INCREASING),
                key=lambda t: t.ranked.semilayer.bits,
            )
            for _, trials in by_bits:
                values = [direction * t.ranked.sensitivity for t in trials]
                assert values == sorted(values)

    def test_pinned_layers_are_not_touched(self):
        evaluator = next(evaluators())
        start = plan_of(CHANNELS).with_bits("b", range(2), 8)
        free = ["a", "c"]
        table = evaluator.table(LADDER, CHANNELS)
        given = problem(start, free, FakeMeasures(evaluator=evaluator), delta_loss=table)
        result = SemilayerSearch(SemilayerSettings(bits=LADDER)).search(given)
        assert all(p.plan.listed()["b"] == (8, 8) for p in result.points)
        assert {t.ranked.semilayer.layer for t in result.trials} <= set(free)
        assert result.baseline == evaluator.score(plan_of(CHANNELS))

    def test_ablation_needs_no_table(self):
        method = SemilayerSearch(SemilayerSettings(bits=LADDER, split=Split.NONE))
        assert not method.splits
        measures = FakeMeasures(evaluator=next(evaluators()))
        result = method.search(problem(plan_of(CHANNELS), list(CHANNELS), measures))
        assert {t.ranked.semilayer.sign for t in result.trials} == {Sign.BOTH}
        for point in result.points:
            assert all(len(set(bits)) == 1 for bits in point.plan.bits.values())

    def test_brute_force_one_channel_a_layer(self):
        """With one channel a layer and independent damages, greedy keeps what does no damage.

        Descending or ascending, a semilayer is kept iff its own damage is <= 0, so after one
        bitwidth the accuracy phase ends at the maximum of accuracy over all subsets, and among
        those at the most compressed one. Brute force over every subset agrees.
        """
        channels = dict.fromkeys("abcdef", 1)
        for seed in range(40):
            rng = np.random.default_rng(seed)
            damage = random_damage(rng, channels, (8,))
            evaluator = FakeEvaluator(damage)
            for order in Order:
                settings = SemilayerSettings(bits=(8,), order=order)
                result = run(evaluator, channels, settings)
                kept = [p for p in result.points if p.phase is not Phase.POSTPONING][-1]
                best = max(
                    (-sum(damage[layer, 0, 8] for layer in chosen), len(chosen))
                    for size in range(7)
                    for chosen in itertools.combinations(channels, size)
                )
                quantized = sum(bits == (8,) for bits in kept.plan.listed().values())
                assert (kept.score.correct - 500, quantized) == best


class TestBestPoint:
    BASE = Score(900, 1000, 1000, 0.1)

    def point(self, bits, correct):
        plan = BitPlan({"a": (bits,)}, {"a": 10})
        return Point(plan, Score(correct, 1000, 1000, 0.1), Phase.POSTPONING, bits, 1)

    @pytest.mark.parametrize(
        ("max_drop", "bits"), [(0.0, 8), (0.1, 6), (0.29, 6), (0.3, 4)], ids=str
    )
    def test_allowed_drop_is_in_percentage_points(self, max_drop, bits):
        points = [self.point(32, 900), self.point(8, 900), self.point(6, 899), self.point(4, 897)]
        assert best_point(points, self.BASE, max_drop).bits == bits

    def test_of_equally_compressed_the_more_accurate(self):
        points = [self.point(8, 900), self.point(8, 901), self.point(8, 901)]
        assert best_point(points, self.BASE, 0) is points[1]

    @pytest.mark.parametrize("max_drop", [-0.1, 100.5, float("nan")])
    def test_drop_out_of_range(self, max_drop):
        with pytest.raises(SettingsError, match="`max_drop`"):
            SearchSettings(method="semilayer", max_drop=max_drop)


def test_settings_take_names_and_refuse_others():
    """A choice given as a string is the choice, not silently another one."""
    settings = SearchSettings(method="semilayer", order="descending", split="none", bits=[4, 8])
    assert (settings.order, settings.split, settings.bits) == (Order.DESCENDING, Split.NONE, (8, 4))
    with pytest.raises(SettingsError, match="'sideways' is none of 'descending', 'ascending'"):
        SearchSettings(method="semilayer", order="sideways")
    with pytest.raises(SettingsError, match="9 is outside 0 to 8"):
        SearchSettings(method="semilayer", bits=(9,))


def test_trajectory_is_immutable():
    point = TestBestPoint().point(8, 900)
    trajectory = Trajectory(point.score, (point,), (), "")
    with pytest.raises(AttributeError):
        trajectory.points = ()


def published(path):
    """The authors' Δloss table: a column a channel.

    Rows: number of the layer, number of the channel, Δloss at 8, 6, 4 and 2 bits.
    """
    rows = [line.split(",") for line in path.read_text(encoding="utf-8-sig").splitlines()]
    values = np.array([[cell for cell in row if cell.strip()] for row in rows], np.float64)
    nats = {str(n): values[2:, values[0] == n].T for n in np.unique(values[0])}
    return DeltaLossTable((8, 6, 4, 2), nats, samples=50_000)
