"""Predictions corrected by measurements: layers that were misjudged are found from few plans."""

import numpy as np
import pytest
from fake_evaluator import plan_of

from onnxsemi._search.correction import MOST_NATS, Measured, correction
from onnxsemi._search.frontier import frontier, layer_kl_increase, predicted
from onnxsemi._search.protocols import DeltaLossTable

LADDER = (8, 6, 4, 3, 2)
CHANNELS = {f"l{n}": 6 for n in range(12)}
START = plan_of(CHANNELS, 1000)


def table(seed=0):
    rng = np.random.default_rng(seed)
    nats = {
        layer: np.cumsum(rng.exponential(1e-5, (count, len(LADDER))) * 4.0 ** np.arange(5), axis=1)
        for layer, count in CHANNELS.items()
    }
    return DeltaLossTable(LADDER, nats, samples=1)


def uniform(bits):
    plan = START
    for layer, count in CHANNELS.items():
        plan = plan.with_bits(layer, range(count), bits)
    return plan


def measured(plans, kl_increase, factors, overall=1.0):
    return [
        Measured(
            plan,
            overall
            * sum(factors.get(n, 1.0) * v for n, v in layer_kl_increase(plan, kl_increase).items()),
        )
        for plan in plans
    ]


def frontier_plan(kl_increase, share):
    path = frontier(START, kl_increase, list(CHANNELS))
    return path.plan(int(share * len(path)))


def of_size(kl_increase, other):
    """The plan of the frontier that is as small as another."""
    path = frontier(START, kl_increase, list(CHANNELS))
    counts = range(len(path) + 1)
    return path.plan(next(n for n in counts if path.plan(n).weight_bits <= other.weight_bits))


@pytest.mark.parametrize("culprit", ["l0", "l3", "l7", "l11"])
@pytest.mark.parametrize("factor", [40.0, 200.0])
def test_a_layer_that_was_misjudged(culprit, factor):
    """Its KL increase was taken to be a hundredth: the frontier comes to the true one."""
    true = table()
    nats = {n: v / factor if n == culprit else v for n, v in true.nats.items()}
    kl_increase = DeltaLossTable(LADDER, nats, samples=1)
    best = predicted(frontier_plan(true, 0.5), true)
    costs, plans, known = [], [uniform(6), uniform(4), uniform(3)], kl_increase
    for _ in range(6):
        plan = of_size(known, frontier_plan(true, 0.5))
        costs.append(predicted(plan, true) / best)
        plans.append(plan)
        found = correction(kl_increase, measured(plans, kl_increase, {culprit: factor}))
        prediction = found.applied(kl_increase)
        known = prediction.kl_increase
    assert costs[0] > 1.6
    assert costs[-1] < 1.3
    if factor > 100:
        assert found.layers[culprit] == max(found.layers.values()) > 10
    assert prediction.of(plan) == pytest.approx(predicted(plan, true), rel=0.3)


def test_what_all_plans_share_is_no_layers_fault():
    kl_increase = table()
    plans = [uniform(bits) for bits in LADDER[:4]] + [frontier_plan(kl_increase, 0.5)]
    found = correction(kl_increase, measured(plans, kl_increase, {}, overall=0.5))
    assert found.scale == pytest.approx(0.5, rel=0.1)
    assert found.power == pytest.approx(1.0, abs=0.02)
    assert max(found.layers.values()) < 1.1
    assert min(found.layers.values()) > 0.9


def test_what_is_right_is_left_alone():
    kl_increase = table()
    plans = [uniform(bits) for bits in LADDER[:4]]
    found = correction(kl_increase, measured(plans, kl_increase, {}))
    assert (found.scale, found.power) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert found.layers == pytest.approx(dict.fromkeys(CHANNELS, 1.0), abs=1e-6)


def test_nothing_measured_and_what_says_nothing():
    kl_increase = table()
    useless = [Measured(uniform(2), MOST_NATS * 2), Measured(uniform(8), 0.0), Measured(START, 0.1)]
    for plans in ([], useless):
        found = correction(kl_increase, plans)
        assert (found.scale, found.power, set(found.layers.values())) == (1.0, 1.0, {1.0})


@pytest.mark.parametrize("seed", range(5))
def test_contradictions_end_in_finite_factors(seed):
    """The same plan measured with very different results."""
    rng, kl_increase = np.random.default_rng(seed), table(seed)
    plans = [Measured(uniform(bits), float(rng.uniform(1e-6, 0.9))) for bits in LADDER * 2]
    found = correction(kl_increase, plans)
    factors = [found.scale, found.power, *found.layers.values()]
    assert np.isfinite(factors).all()
    assert min(factors) > 0


def test_factors_keep_the_order_within_a_layer():
    kl_increase = table()
    found = correction(kl_increase, [Measured(uniform(4), 0.9)]).applied(kl_increase).kl_increase
    for name, nats in found.nats.items():
        assert np.allclose(nats / kl_increase.nats[name], (nats / kl_increase.nats[name])[0, 0])


def test_what_many_bits_lose_is_made_up_for_less():
    """Rounding layer after layer makes up for more where more is lost: that is no layer's fault."""
    kl_increase = table()
    plans = [uniform(bits) for bits in LADDER]
    found = correction(
        kl_increase, [Measured(p, 0.2 * predicted(p, kl_increase) ** 0.8) for p in plans]
    )
    assert found.power == pytest.approx(0.8, abs=0.05)
    assert max(abs(np.log(factor)) for factor in found.layers.values()) < 0.1
    other = frontier_plan(kl_increase, 0.5)
    expected = 0.2 * predicted(other, kl_increase) ** 0.8
    assert found.applied(kl_increase).of(other) == pytest.approx(expected, rel=0.15)
