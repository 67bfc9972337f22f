"""What may be claimed of a compressed model: holds, unproven, fails."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from onnxsemi._search.guard import Guard, IntervalGuard, PointGuard
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._search.verdict import Outcome, verdict
from onnxsemi._stats.comparison import Comparison
from onnxsemi._stats.paired import Paired

WITHIN = ToleranceGuard(max_drop=0, tolerance=0.5)
ALLOWED = ToleranceGuard(max_drop=2, tolerance=0.5)
POINT = PointGuard(max_drop=0)
INTERVAL = IntervalGuard(max_drop=1)
NO_LABELS = ToleranceGuard(max_drop=0, tolerance=0.5, balanced=True, has_labels=False)
ALL_LOST = IntervalGuard(max_drop=1, has_labels=False)
quickly = run_settings(deadline=None, derandomize=True)


def labelled(broken, fixed, total):
    """Counts of labelled images; all answers that changed are broken or fixed."""
    counts = Paired(total, total - fixed - total // 10, broken, fixed)
    return Comparison(total, total - broken - fixed, 0.01, counts)


def unlabelled(changed, total):
    """Counts of images without labels."""
    return Comparison(total, total - changed, 0.01)


@dataclass(frozen=True)
class Case:
    """What is asked, what is seen, and what that shows."""

    name: str
    guard: Guard
    seen: Comparison
    outcome: Outcome
    words: str


CASES = [
    Case("even", WITHIN, labelled(20, 20, 4000), Outcome.HOLDS, "cannot lie below -0.5 points"),
    Case("few images", WITHIN, labelled(2, 3, 250), Outcome.UNPROVEN, "may lie below -0.5"),
    Case("a loss by chance", WITHIN, labelled(30, 18, 4000), Outcome.UNPROVEN, "may lie below"),
    Case("a loss", WITHIN, labelled(34, 14, 4000), Outcome.FAILS, "significant loss, McNemar p ="),
    # three layers and 300 images: -6.00 points [-10.09, -1.75], p = 0.004
    Case("the interval says so", WITHIN, labelled(33, 12, 350), Outcome.FAILS, "significant loss"),
    Case("a small one is one", WITHIN, labelled(12, 1, 40000), Outcome.FAILS, "significant loss"),
    Case("a drop is allowed", ALLOWED, labelled(34, 14, 4000), Outcome.HOLDS, "below -2.5 points"),
    Case("more is lost", ALLOWED, labelled(160, 20, 4000), Outcome.FAILS, "lies below -2.5"),
    Case("beyond the drop", ALLOWED, labelled(145, 35, 4000), Outcome.FAILS, "more than 2 points"),
    Case("about the drop", ALLOWED, labelled(100, 20, 4000), Outcome.UNPROVEN, "below -2.5"),
    Case("point: as many", POINT, labelled(3, 3, 40), Outcome.HOLDS, "no more than 0 points"),
    Case("point: one more", POINT, labelled(4, 3, 40), Outcome.UNPROVEN, "more than 0 points"),
    Case("point: a loss", POINT, labelled(12, 1, 4000), Outcome.FAILS, "significant loss"),
    Case("interval", INTERVAL, labelled(34, 14, 4000), Outcome.HOLDS, "below -1 points"),
    Case("no labels", NO_LABELS, unlabelled(60, 4000), Outcome.HOLDS, "half of what changed"),
    Case("no labels: some", NO_LABELS, unlabelled(120, 4000), Outcome.UNPROVEN, "may lie below"),
    Case("no labels: many", NO_LABELS, unlabelled(140, 4000), Outcome.FAILS, "140 answers, signif"),
    Case("no labels: few images", NO_LABELS, unlabelled(20, 250), Outcome.UNPROVEN, "may lie"),
    Case("no labels: lost", NO_LABELS, unlabelled(150, 250), Outcome.FAILS, "18 that may change"),
    Case("no labels, all lost", ALL_LOST, unlabelled(20, 4000), Outcome.HOLDS, "below -1 points"),
    Case("no labels, too many", ALL_LOST, unlabelled(70, 4000), Outcome.FAILS, "lies below -1"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_by_hand(case):
    found = verdict(case.guard, case.seen)
    assert found.outcome is case.outcome, found
    assert case.words in found.reason
    assert found.asked == case.guard.asked
    assert found.holds == (case.outcome is Outcome.HOLDS)
    assert found.fails == (case.outcome is Outcome.FAILS)


@quickly
@given(st.integers(0, 80), st.integers(0, 80), st.integers(200, 5000))
def test_against_its_definition(broken, fixed, total):
    """Within a tolerance, no loss allowed."""
    seen = labelled(broken, fixed, total)
    low, high = seen.top1.interval
    changed = broken + fixed
    p = binomtest(broken, changed, 0.5).pvalue if changed else 1.0
    fails = high < -0.005 or (broken > fixed and p < 0.05)
    expected = Outcome.FAILS if fails else Outcome.HOLDS if low >= -0.005 else Outcome.UNPROVEN
    assert verdict(WITHIN, seen).outcome is expected


@quickly
@given(st.integers(0, 80), st.integers(0, 80), st.integers(200, 5000))
def test_as_many_images_as_it_takes_settle_it(broken, fixed, total):
    """At the same shares the interval of so many just reaches what was asked."""
    found = verdict(WITHIN, labelled(broken, fixed, total))
    change = (fixed - broken) / total
    if found.outcome is not Outcome.UNPROVEN or change <= -0.005:
        assert found.images_needed is None
        return
    assert found.images_needed > total
    room, centre = change + 0.005, (fixed - broken) / total
    n = found.images_needed + 2
    shares = (broken + fixed) / total * found.images_needed + 2
    half = norm.ppf(0.975) * (((shares / n) - (centre * found.images_needed / n) ** 2) / n) ** 0.5
    assert half <= room + 1e-12


class TestLooks:
    """Of several looks at the same images all intervals together hold with 95 %."""

    def test_the_interval_grows(self):
        seen = labelled(20, 20, 4000)
        ends = [verdict(WITHIN, seen, looks).interval[1] for looks in (1, 2, 10)]
        for looks, end in zip((1, 2, 10), ends, strict=True):
            z = norm.ppf(1 - 0.05 / looks / 2)
            assert end == pytest.approx(ends[0] * z / norm.ppf(0.975), rel=1e-9)
        assert ends == sorted(ends)

    def test_what_held_once_may_be_unproven_later(self):
        seen = labelled(30, 26, 4000)
        outcomes = [verdict(WITHIN, seen, looks).outcome for looks in (1, 5)]
        assert outcomes == [Outcome.HOLDS, Outcome.UNPROVEN]
        assert verdict(WITHIN, seen, 5).images_needed > 4000
