"""Quick looks at plans: where to measure, and no more."""

from dataclasses import replace

import numpy as np
import pytest
from fake_evaluator import FakeScout
from fake_search import LADDER, NEAR, SEEDS, SETTINGS, Fake, points_between

from onnxsemi._search.frontier_course import Course
from onnxsemi._search.frontier_walk import MOST_LOOKS, MOST_MEASURED
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._search.trajectory import Decision, Phase


@pytest.fixture(params=SEEDS)
def fake(request):
    return Fake(request.param)


@pytest.fixture
def scout(fake):
    return FakeScout(fake.checker)


def test_what_is_taken_was_measured(fake, scout):
    found = fake.walk(scout=scout)
    looked = [trial for trial in found.trials if trial.decision is Decision.SCOUTED]
    assert [trial.plan for trial in looked] == scout.looked[: len(looked)]
    assert {trial.phase for trial in looked} >= {Phase.UNIFORM}
    assert not any(trial.score.in_full for trial in looked)
    for point in found.points[1:]:
        assert point.plan in fake.checker.checked
        assert point.score.in_full
        assert fake.objection(point.plan) is None


def test_it_leads_to_the_same_place(fake, scout):
    found, plain = fake.walk(scout=scout), fake.walk()
    plans = points_between(fake)
    ends = [
        max(plans.index(t.plan) for t in one.trials if t.plan in plans[100:])
        for one in (found, plain)
    ]
    assert abs(ends[0] - ends[1]) <= 2 * NEAR
    assert found.smallest.plan.compression > 0.95 * plain.smallest.plan.compression


def test_few_plans_are_measured():
    counts, looks = [], []
    for seed in SEEDS:
        fake = Fake(seed)
        found = fake.walk(replace(SETTINGS, tries=0), scout=FakeScout(fake.checker))
        looks.append(sum(t.decision is Decision.SCOUTED for t in found.trials))
        counts.append(len(found.trials) - looks[-1])
    assert np.mean(counts) < 4
    assert max(looks) <= len(LADDER).bit_length() + MOST_LOOKS + 1


def test_predictions_are_for_plans_as_they_are_measured(fake, scout):
    found = fake.walk(replace(SETTINGS, tries=0), scout=scout)
    plan = found.smallest.plan
    assert found.prediction.of(plan) == pytest.approx(fake.checker.check(plan).kl, rel=0.05)
    assert found.redrawn == ()


def test_the_layers_are_measured_only_if_a_look_is_better(fake, scout):
    found = fake.walk(replace(SETTINGS, tries=0), scout=scout)
    [layers] = [trial for trial in found.trials if trial.phase is Phase.LAYERS]
    assert layers.decision is Decision.SCOUTED


@pytest.mark.parametrize(("share", "measured"), [(0.95, False), (0.5, True)])
def test_layers_that_look_but_a_little_better_are_not_measured(fake, share, measured):
    class AfterMeasuring(FakeScout):
        """Sees so much of the KL of the frontier's plan in every plan that comes after it."""

        def look(self, plan):
            found = super().look(plan)
            holds = [one for one in fake.checker.checked[2:] if fake.objection(one) is None]
            if not holds:
                return found
            best = min(holds, key=lambda one: one.weight_bits)
            return replace(found, kl=share * super().look(best).kl)

    found = fake.walk(replace(SETTINGS, tries=0), scout=AfterMeasuring(fake.checker))
    [layers] = [trial for trial in found.trials if trial.phase is Phase.LAYERS]
    assert (layers.decision is not Decision.SCOUTED) == measured


def test_where_predictions_are_worthless_one_bitwidth_is_left():
    fake = Fake(2)
    nats = {layer: 1 / values[:, ::-1] for layer, values in fake.kl_increase.nats.items()}
    wrong = {name: np.cumsum(values, axis=1) for name, values in nats.items()}
    fake.kl_increase = DeltaLossTable(LADDER, wrong, 1)
    chosen = fake.walk(scout=FakeScout(fake.checker)).smallest.plan
    for bits in LADDER:
        plan = Course(fake.start, fake.free, fake.kl_increase).uniform(bits)
        if plan.weight_bits < chosen.weight_bits:
            assert fake.objection(plan) is not None


def test_again_is_the_same(fake, scout):
    assert fake.walk(scout=scout) == fake.walk(scout=scout)


@pytest.mark.parametrize(("effort", "patience"), [("medium", 4), ("high", MOST_MEASURED)])
def test_after_some_measured_plans_the_first_that_holds_is_taken(effort, patience):
    """Looking on takes as long each time, and what holds behind a plan that fails is luck."""
    counts = []
    for seed in range(40):
        fake = Fake(seed)
        settings = replace(SETTINGS, effort=effort, tries=0)
        found = fake.walk(settings, scout=FakeScout(fake.checker))
        measured = [trial for trial in found.trials if trial.phase is Phase.FRONTIER]
        kept = [n for n, trial in enumerate(measured, 1) if trial.decision is Decision.KEPT]
        assert all(n < patience or n == len(measured) for n in kept)
        counts.append(len(measured))
    assert max(counts) > 4
