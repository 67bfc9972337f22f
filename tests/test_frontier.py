"""The frontier against brute force: hulls, plans of least KL increase, groups of channels."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.groups import GROUP_BYTES, SCALE_BITS
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._search.frontier import (
    between,
    frontier,
    hulls,
    merged_groups,
    monotone,
    predicted,
    price,
)
from onnxsemi._search.protocols import DeltaLossTable

LADDER = (8, 5, 3, 1)
CHANNELS = {"a": 2, "b": 1, "c": 1}
PARAMS = {"a": 3, "b": 7, "c": 1}
quickly = settings(deadline=None, derandomize=True)
# KL increase in whole units: sums of it are exact
RISES = st.lists(st.integers(0, 40), min_size=len(LADDER), max_size=len(LADDER))


def start(channels=CHANNELS, params=PARAMS, bits=32):
    return BitPlan({name: (bits,) * count for name, count in channels.items()}, params)


def table(rows, bits=LADDER, channels=CHANNELS):
    """Rows of all channels, layer after layer."""
    rows = iter(rows)
    nats = {name: np.array([next(rows) for _ in range(n)], float) for name, n in channels.items()}
    return DeltaLossTable(bits, nats, samples=1)


@st.composite
def kl_increases(draw):
    return table([np.cumsum(draw(RISES)) for _ in range(sum(CHANNELS.values()))])


def seeded(seed, channels, bits):
    rng = np.random.default_rng(seed)
    rows = [np.cumsum(rng.exponential(size=len(bits))) for _ in range(sum(channels.values()))]
    return table(rows, bits, channels)


def hull(kl_increase, bits):
    """Places on the hull of one channel."""
    return np.flatnonzero(
        hulls(np.array([kl_increase], float), np.array([bits], float))[0]
    ).tolist()


def steps(path):
    """Price, layer, channel of it and bitwidth of every step."""
    owners = [(name, c) for name, bits in path.start.bits.items() for c in range(len(bits))]
    rows = zip(path.prices.tolist(), path.channels.tolist(), path.bits.tolist(), strict=True)
    return [(price, *owners[channel], bits) for price, channel, bits in rows]


class TestHull:
    @quickly
    @given(st.lists(st.integers(-50, 50), min_size=1, max_size=8), st.randoms())
    def test_against_brute_force(self, kl_increase, random):
        """A place is on it if it lies below every line between one before and one behind."""
        bits = tuple(sorted(random.sample(range(1, 9), len(kl_increase)), reverse=True))
        last = len(kl_increase) - 1

        def below(place):
            return all(
                (kl_increase[place] - kl_increase[one]) * (bits[one] - bits[other])
                < (kl_increase[other] - kl_increase[one]) * (bits[one] - bits[place])
                for one in range(place)
                for other in range(place + 1, last + 1)
            )

        expected = [place for place in range(last + 1) if place in (0, last) or below(place)]
        assert hull(kl_increase, bits) == expected

    @quickly
    @given(st.lists(RISES, max_size=5))
    def test_channels_do_not_look_at_one_another(self, rows):
        kl_increase = np.array(rows, float).reshape(-1, len(LADDER))
        found = hulls(kl_increase, np.tile(np.array(LADDER, float), (len(kl_increase), 1)))
        assert [np.flatnonzero(row).tolist() for row in found] == [
            hull(row, LADDER) for row in rows
        ]

    def test_equal_kl_increase_is_one_step(self):
        assert hull([0] * 4, LADDER) == [0, 3]


class TestFrontier:
    @pytest.mark.slow
    @quickly
    @given(kl_increases())
    def test_no_plan_of_no_more_bits_has_less_kl_increase(self, kl_increase):
        path = frontier(start(), kl_increase, list(CHANNELS))
        every = []
        for bits in itertools.product(LADDER, repeat=4):
            plan = BitPlan({"a": bits[:2], "b": bits[2:3], "c": bits[3:]}, PARAMS)
            every.append((plan.weight_bits, predicted(plan, kl_increase)))
        for count in range(len(path) + 1):
            plan = path.plan(count)
            own = predicted(plan, kl_increase)
            assert own == min(total for size, total in every if size <= plan.weight_bits)

    @quickly
    @given(kl_increases())
    def test_every_step_narrows_one_channel_at_no_lower_price(self, kl_increase):
        path = frontier(start(), kl_increase, list(CHANNELS))
        assert (np.diff(path.prices) >= 0).all()
        assert path.plan(0) == start(bits=8)
        assert path.plan(len(path)) == start(bits=1)
        for count, (its_price, layer, channel, bits) in enumerate(steps(path)):
            before, after = path.plan(count), path.plan(count + 1)
            assert after.bits[layer][channel] < before.bits[layer][channel]
            assert after == before.with_bits(layer, [channel], bits)
            saved = before.weight_bits - after.weight_bits
            added = predicted(after, kl_increase) - predicted(before, kl_increase)
            assert its_price == pytest.approx(added / saved)

    def test_ties_go_by_layer_channel_and_bitwidth(self):
        """Layers in the order in which they are searched, not by name."""
        row = [0.0, 3.0, 7.0]  # steps of 3 and of 4 bits at a price of 1; a hull of two places
        bent = [0.0, 3.0, 10.0]
        channels = {"z": 2, "a": 1}
        params = dict.fromkeys(channels, 1)
        straight = frontier(
            start(channels, params), table([row] * 3, (8, 5, 1), channels), ["z", "a"]
        )
        assert [step[1:] for step in steps(straight)] == [*(("z", 0, 1), ("z", 1, 1), ("a", 0, 1))]
        path = frontier(start(channels, params), table([bent] * 3, (8, 5, 1), channels), ["z", "a"])
        assert steps(path) == [
            *((1.0, "z", 0, 5), (1.0, "z", 1, 5), (1.0, "a", 0, 5)),
            *((1.75, "z", 0, 1), (1.75, "z", 1, 1), (1.75, "a", 0, 1)),
        ]

    def test_no_bits_save_the_scale_too(self):
        channels = {"few": 1, "many": 1}
        params = {"few": 9, "many": 900}
        kl_increase = table([[0.0, 1.0, 2.0]] * 2, (2, 1, 0), channels)
        path = frontier(start(channels, params), kl_increase, list(channels))
        saved = [2 * 900 + SCALE_BITS, 2 * 9 + SCALE_BITS]
        assert steps(path) == [
            (pytest.approx(2 / saved[0]), "many", 0, 0),
            (pytest.approx(2 / saved[1]), "few", 0, 0),
        ]
        moved = Semilayer("few", Sign.NEGATIVE, (0,), 0)
        assert price(moved, path.plan(0), kl_increase) == pytest.approx(2 / saved[1])

    def test_entropy_coded_weights_take_what_their_codes_do(self):
        channels, params = {"a": 2}, {"a": 10}
        rates = {"a": np.array([[8.0, 4.0, 1.0], [8.0, 6.0, 5.5]])}
        nats = table([[0.0, 1.0, 3.0]] * 2, (8, 5, 1), channels)
        path = frontier(start(channels, params), replace(nats, rates=rates), ["a"])
        assert [step[1:] for step in steps(path)] == [
            ("a", 0, 5),
            ("a", 1, 5),
            ("a", 0, 1),
            ("a", 1, 1),
        ]
        assert path.prices == pytest.approx([1 / 40, 1 / 20, 2 / 30, 2 / 5])
        assert path.saved == pytest.approx([40, 20, 30, 5])
        moved = Semilayer("a", Sign.NEGATIVE, (0, 1), 1)
        assert price(moved, path.plan(2), replace(nats, rates=rates)) == pytest.approx(4 / 35)
        assert price(moved, path.plan(2), nats) == pytest.approx(4 / 80)

    def test_pinned_layers_stay(self):
        pinned = start().with_bits("b", [0], 4)
        kl_increase = table([[0, 1, 2, 3]] * 3, channels={"a": 2, "c": 1})
        path = frontier(pinned, kl_increase, ["a", "c"])
        assert {path.plan(count).listed()["b"] for count in range(len(path) + 1)} == {(4,)}

    def test_one_bitwidth_leaves_one_plan(self):
        kl_increase = table([[0.5]] * 4, bits=(4,))
        path = frontier(start(), kl_increase, list(CHANNELS))
        assert len(path) == 0
        assert set(path.points_between(128)) == {0}
        assert path.plan(0) == start(bits=4)

    @quickly
    @given(st.integers(0, 2**32), st.integers(1, 40))
    def test_stops_are_about_equally_far_apart(self, seed, count):
        channels = {"a": 6, "b": 4}
        params = {"a": 10, "b": 30}
        path = frontier(start(channels, params), seeded(seed, channels, LADDER), list(channels))
        points_between = path.points_between(count)
        assert points_between == sorted(points_between)
        assert (points_between[0], points_between[-1]) == (0, len(path))
        assert len(points_between) == count + 1
        sizes = [path.plan(stop).weight_bits for stop in points_between]
        whole, largest = sizes[0] - sizes[-1], 7 * 30  # a step saves 7 bits of 30 weights at most
        assert max(np.abs(np.diff(sizes))) <= whole / count + largest


class TestBetween:
    @pytest.fixture
    def plans(self):
        rng = np.random.default_rng(3)
        plan = BitPlan({"a": tuple(rng.choice((8, 5), 9)), "b": (5,) * 5, "c": (3,)}, PARAMS)
        ahead = {
            name: tuple(int(rng.choice([x for x in LADDER if x <= b])) for b in bits)
            for name, bits in plan.bits.items()
        }
        return plan, BitPlan({**ahead, "c": (3,)}, PARAMS)

    def test_all_of_them_lead_from_one_plan_to_the_other(self, plans):
        plan, ahead = plans
        channels = {"a": 9, "b": 5, "c": 1}
        rng = np.random.default_rng(4)
        loss = table(rng.normal(size=(15, 4)), channels=channels)
        kl_increase = seeded(5, channels, LADDER)
        found = between(plan, ahead, loss, kl_increase)
        prices = [price for price, _ in found]
        assert prices == sorted(prices)
        changed = [(s.layer, channel) for _, s in found for channel in s.channels]
        assert sorted(changed) == sorted(
            (name, channel)
            for name, bits in plan.bits.items()
            for channel, wide in enumerate(bits)
            if ahead.bits[name][channel] < wide
        )
        for its_price, semilayer in found:
            signs = loss.column(semilayer.layer, semilayer.bits)[list(semilayer.channels)] > 0
            assert (signs == (semilayer.sign is Sign.POSITIVE)).all()
            lowered = plan.with_semilayer(semilayer)
            added = predicted(lowered, kl_increase) - predicted(plan, kl_increase)
            saved = plan.weight_bits - lowered.weight_bits
            assert its_price == price(semilayer, plan, kl_increase) == pytest.approx(added / saved)
            plan = lowered
        assert plan == ahead

    def test_the_same_plan_leaves_nothing(self, plans):
        zeros = table(np.zeros((15, 4)), channels={"a": 9, "b": 5, "c": 1})
        assert between(plans[0], plans[0], zeros, zeros) == []

    def test_no_change_of_the_loss_is_negative_and_ties_go_by_name(self):
        channels = {"z": 2, "a": 2}
        params = dict.fromkeys(channels, 1)
        wide, narrow = start(channels, params, 8), start(channels, params, 5)
        loss = table([[0, 0, 0, 0], [0, 1, 1, 1]] * 2, channels=channels)
        kl_increase = table([[0, 3, 5, 7]] * 4, channels=channels)
        found = [(s.layer, s.sign) for _, s in between(wide, narrow, loss, kl_increase)]
        assert found == [
            *(("a", Sign.NEGATIVE), ("a", Sign.POSITIVE)),
            *(("z", Sign.NEGATIVE), ("z", Sign.POSITIVE)),
        ]

    def test_less_kl_increase_at_fewer_bits_costs_nothing(self):
        kl_increase = table([[2, 1, 3, 4]] * 4)
        loss = table(np.zeros((4, 4)))
        found = between(start(bits=8), start(bits=5), loss, kl_increase)
        assert {price for price, _ in found} == {0}


BITS = st.lists(st.sampled_from((0, 1, 2, 3, 4, 6, 8, 32)), min_size=1, max_size=12)


def size(plan):
    """Bits in the file: codes, scales, and what groups of channels take."""
    scales = SCALE_BITS * int((plan.channel_bits > 0).sum())
    groups = sum(len(set(bits)) for bits in plan.listed().values())
    return plan.weight_bits + scales + 8 * GROUP_BYTES * groups


class TestTidied:
    @quickly
    @given(BITS, BITS, st.integers(1, 700), st.integers(1, 700))
    def test_smaller_and_nowhere_narrower(self, one, other, params, more):
        plan = BitPlan({"a": tuple(one), "b": tuple(other)}, {"a": params, "b": more})
        found = merged_groups(plan, ["a"])
        assert found.listed()["b"] == plan.listed()["b"]
        assert (found.channel_bits >= plan.channel_bits).all()
        assert set(found.listed()["a"]) <= set(plan.listed()["a"])
        assert size(found) <= size(plan)
        assert merged_groups(found, ["a"]) == found
        ladder = sorted(set(found.listed()["a"]))
        for narrow, wide in itertools.pairwise(ladder):
            each = params * (wide - narrow) + SCALE_BITS * (narrow == 0)
            added = found.listed()["a"].count(narrow) * each
            assert added > 8 * GROUP_BYTES  # nothing is left to gain

    def test_small_groups_join_large_ones_stay(self):
        plan = BitPlan({"a": (2,) * 3 + (3,) * 40}, {"a": 144})
        assert merged_groups(plan, ["a"]).listed()["a"] == (3,) * 43  # 432 bits
        plan = BitPlan({"a": (2,) * 10 + (3,) * 40}, {"a": 144})
        assert merged_groups(plan, ["a"]) == plan  # 1,440 bits


@quickly
@given(kl_increases(), st.lists(st.sampled_from(LADDER), min_size=4, max_size=4))
def test_predicted_is_the_sum_over_free_channels(kl_increase, bits):
    plan = BitPlan(
        {"p": (32,), "a": tuple(bits[:2]), "b": (bits[2],), "c": (bits[3],)}, {"p": 1, **PARAMS}
    )
    rows = [row for values in kl_increase.nats.values() for row in values]
    expected = sum(row[LADDER.index(b)] for row, b in zip(rows, bits, strict=True))
    assert predicted(plan, kl_increase) == expected


@quickly
@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_monotone_never_falls_and_leaves_what_rises(rows):
    values = np.array(rows)
    found = monotone({"a": values})["a"]
    for row, raised in zip(rows, found, strict=True):
        assert raised.tolist() == [max(row[: place + 1]) for place in range(4)]
