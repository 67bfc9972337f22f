"""When the calibration images speak against a plan."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st
from scipy.stats import binom

from onnxsemi._errors import SettingsError
from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.few_images import (
    KL_FEW,
    SIGNIFICANT,
    TELLING,
    images_to_show,
    least_tolerance,
)
from onnxsemi._search.frontier_search import FrontierSearch, FrontierSettings
from onnxsemi._search.guard import Guard, IntervalGuard, PointGuard
from onnxsemi._search.protocols import Closeness, Score
from onnxsemi._search.ranking import Order
from onnxsemi._search.semilayer_search import SemilayerSearch, SemilayerSettings
from onnxsemi._search.semilayers import Split
from onnxsemi._search.settings import SearchMethod, SearchSettings
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._search.trajectory import Phase, Point, Trajectory
from onnxsemi._stats.paired import Paired

COUNTS = st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(1, 3000))
quickly = run_settings(deadline=None, derandomize=True)


def paired(broken, fixed, same):
    """``same`` images more whose answer stays."""
    total = broken + fixed + same
    return Paired(total, broken + same, broken, fixed)


def close(kl, changed=0):
    """How close a plan is to the float model: nats, and answers that are others."""
    return Closeness(kl, changed)


@dataclass(frozen=True)
class Case:
    """What a guard says of counts; images are 4,000."""

    name: str
    guard: Guard
    broken: int
    fixed: int
    words: str | None = None


LABELS = ToleranceGuard(max_drop=0, tolerance=0.5)
NO_LABELS = ToleranceGuard(max_drop=0, tolerance=0.5, balanced=True, has_labels=False)
CASES = [
    Case("point: as many", PointGuard(max_drop=0), 20, 20),
    Case("point: one more", PointGuard(max_drop=0), 21, 20, "1 more broken than fixed of 4,000"),
    Case("point: just allowed", PointGuard(max_drop=1), 40, 0),
    Case("point: above it", PointGuard(max_drop=1), 41, 0, "allowed are 40"),
    Case("few change", LABELS, 21, 20),
    Case(
        "many change",
        LABELS,
        80,
        80,
        "-0.62 points; allowed is -0.50 (80 broken, 80 fixed of 4,000)",
    ),
    Case("many are fixed", LABELS, 80, 120),
    Case("more may be lost", ToleranceGuard(max_drop=0.5, tolerance=0.5), 80, 80),
    Case(
        "no label: all fixed",
        NO_LABELS,
        0,
        160,
        "-0.62 points; allowed is -0.50 (160 of 4,000 answers changed)",
    ),
    Case("no label: all broken", NO_LABELS, 40, 0),
    Case(
        "no label: odd",
        NO_LABELS,
        161,
        0,
        "if half of what changed is broken, the change may be as low as -0.65 points; "
        "allowed is -0.50 (161 of 4,000 answers changed)",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_by_hand(case):
    found = case.guard.against(paired(case.broken, case.fixed, 4000 - case.broken - case.fixed))
    if case.words is None:
        assert found is None
    else:
        assert case.words in found


@quickly
@given(COUNTS, st.floats(0, 3), st.floats(0.05, 2))
def test_interval_against_its_formula(counts, max_drop, tolerance):
    """Bonett and Price: one added to each count."""
    found = paired(*counts)
    broken, fixed, n = counts[0] + 1, counts[1] + 1, found.total + 2
    change = (fixed - broken) / n
    half = 1.959963984540054 * np.sqrt(((fixed + broken) / n - change**2) / n)
    shown = 1.959963984540054 * np.sqrt(25) / n  # 23 answers, as many broken as fixed
    low, least = 100 * (change - half), -max(max_drop + tolerance, 100 * min(1, shown))
    said = ToleranceGuard(max_drop=max_drop, tolerance=tolerance).against(found, close(0.0))
    if said and "more than chance" in said:  # the interval may hold or not
        return
    if abs(max(low, -100) - least) > 1e-6:  # the sides of the line; not on it
        assert (said is None) == (max(low, -100) > least)


@quickly
@given(COUNTS, st.booleans())
def test_more_that_is_lost_never_helps(counts, has_labels):
    broken, fixed, same = counts
    guard = ToleranceGuard(max_drop=0.3, tolerance=0.4, has_labels=has_labels)
    if guard.against(paired(broken, fixed, same), close(0.0)) is not None:
        assert guard.against(paired(broken + 1, fixed, same - 1), close(0.0)) is not None


@quickly
@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 3000))
def test_without_labels_it_is_not_known_which_are_lost(broken, fixed, same):
    guard = ToleranceGuard(max_drop=0.3, tolerance=0.4, balanced=True, has_labels=False)
    said = [
        guard.against(paired(*pair, same), close(0.0)) is None
        for pair in ((broken, fixed), (fixed, broken))
    ]
    assert said[0] == said[1]
    half, odd = divmod(broken + fixed, 2)
    balanced = ToleranceGuard(max_drop=0.3, tolerance=0.4).against(
        paired(half + odd, half, same), close(0.0)
    )
    assert said[0] == (balanced is None)


@pytest.mark.parametrize("has_labels", [True, False], ids=["labels", "none"])
@pytest.mark.parametrize("tolerance", [None, 0.01, 0.4], ids=str)
@pytest.mark.parametrize("count", [1, 2, 10, 60, 4000])
def test_a_plan_that_changes_nothing_is_taken_on_however_few_images(count, tolerance, has_labels):
    guard = PointGuard(max_drop=0, has_labels=has_labels)
    if tolerance is not None:
        guard = ToleranceGuard(max_drop=0, tolerance=tolerance, has_labels=has_labels)
    before = np.arange(count) % 3 == 0
    assert guard.objection(before, before.copy(), close(0.0)) is None


@pytest.mark.parametrize("count", [10, 60, 500])
def test_a_plan_that_loses_half_of_few_images_is_not(count):
    counts = paired(count // 2, 0, count - count // 2)
    assert ToleranceGuard(max_drop=0, tolerance=0.4).against(counts, close(0.0)) is not None


def test_counts_are_of_the_images():
    before = np.array([True] * 300 + [False] * 700)
    after = before.copy()
    after[:50], after[300:310] = False, True
    said = ToleranceGuard(max_drop=0, tolerance=0.4).objection(before, after, close(0.0))
    assert "(50 broken, 10 fixed of 1,000)" in said


@dataclass(frozen=True)
class Few:
    """What the default guard says on so many images."""

    images: int
    reach: float
    holds: tuple[tuple[int, int], ...]
    fails: tuple[tuple[int, int], ...]


FEW = [
    Few(100, 9.61, ((0, 0), (4, 0), (5, 1), (11, 11)), ((5, 0), (8, 2), (12, 12))),
    Few(300, 3.25, ((0, 0), (4, 0), (6, 4), (11, 11)), ((5, 0), (8, 2), (12, 12))),
    Few(600, 1.63, ((1, 0), (1, 1), (1, 2), (2, 0), (11, 11)), ((5, 0), (8, 2), (12, 12))),
    Few(1957, 0.5, ((2, 0), (11, 11)), ((5, 0), (12, 12))),
]
ENOUGH = [
    Few(2000, 0.5, ((12, 12), (4, 0), (6, 3)), ((13, 12), (6, 0))),
    Few(4000, 0.5, ((51, 51), (12, 0)), ((52, 52), (14, 0))),
]


class TestFewImages:
    @pytest.mark.parametrize("case", FEW + ENOUGH, ids=lambda case: str(case.images))
    def test_table(self, case):
        for pair in (*case.holds, *case.fails):
            finding = LABELS.judge(paired(*pair, case.images - sum(pair)), close(0.004))
            assert finding.holds == (pair in case.holds), finding.text
            assert finding.asked == 0.5
            assert finding.allowed == pytest.approx(case.reach, abs=0.0051)

    @pytest.mark.parametrize("case", FEW, ids=lambda case: str(case.images))
    def test_kl_decides_where_counts_cannot(self, case):
        """And the finding says what it judged by, and how many images would settle it."""
        counts = paired(1, 1, case.images - 2)
        assert LABELS.judge(counts, close(KL_FEW)).holds
        finding = LABELS.judge(counts, close(0.021))
        assert not finding.holds
        assert "the KL may be 0.021 nats, allowed are 0.02" in finding.text
        assert f"allowed is -{finding.allowed:.2f} (1 broken, 1 fixed" in finding.text
        assert finding.images_needed >= 1958
        with pytest.raises(ValueError, match="the KL is asked for too"):
            LABELS.judge(counts)

    @pytest.mark.parametrize("case", FEW, ids=lambda case: str(case.images))
    def test_other_answers_count_right_or_wrong(self, case):
        """Of 24 answers that are others two are to images with a right one before or after."""
        counts = paired(1, 1, case.images - 2)
        assert LABELS.judge(counts, close(0.0, TELLING)).holds
        finding = LABELS.judge(counts, close(0.0, TELLING + 1))
        assert not finding.holds
        assert finding.text.startswith("24 answers are other ones than the float model gives, ")

    @pytest.mark.parametrize("case", ENOUGH, ids=lambda case: str(case.images))
    def test_enough_images_ask_for_no_kl(self, case):
        counts = paired(1, 1, case.images - 2)
        assert LABELS.judge(counts, close(9.0)) == LABELS.judge(counts)
        assert LABELS.warning(case.images) is None

    def test_more_lost_than_chance_has(self):
        """On ten images an interval of that width says nothing; the sign test does."""
        assert "5 broken and 0 fixed are more than chance" in LABELS.against(
            paired(5, 0, 5), close(0.0)
        )
        assert LABELS.against(paired(4, 0, 6), close(0.0)) is None

    def test_what_is_telling_is_the_least_such_number(self):
        """The sign test against three broken for each fixed: size <= 5 %, power >= 80 %."""

        def power(count):
            bar = next(k for k in range(count + 2) if binom.sf(k - 1, count, 0.5) <= SIGNIFICANT)
            return binom.sf(bar - 1, count, 0.75)

        assert power(TELLING) >= 0.8
        assert all(power(count) < 0.8 for count in range(1, TELLING))

    @quickly
    @given(st.floats(0.01, 50))
    def test_as_many_images_as_it_takes_show_it(self, points):
        count = images_to_show(points)
        assert least_tolerance(count) <= points
        assert count == 1 or least_tolerance(count - 1) > points

    def test_a_guarantee_that_was_asked_for_is_taken_at_its_word(self):
        for guard in (PointGuard(max_drop=1), IntervalGuard(max_drop=1)):
            assert not guard.few(100)
            assert guard.warning(100) is None


class TestLeastDrop:
    GUARDS = (
        *(LABELS, NO_LABELS, PointGuard(max_drop=0), IntervalGuard(max_drop=0)),
        *(ToleranceGuard(max_drop=0, tolerance=2), PointGuard(max_drop=0, has_labels=False)),
    )

    @quickly
    @given(
        st.sampled_from(GUARDS),
        st.integers(0, 400),
        st.integers(0, 400),
        st.integers(1, 3000),
        st.sampled_from([0.0, 0.02, 0.3]),
    )
    def test_is_taken_and_no_less_is(self, guard, broken, fixed, same, kl):
        found = paired(broken, fixed, same)
        least = guard.least_drop(found, close(kl))
        assert replace(guard, max_drop=least).judge(found, close(kl)).holds
        for less in (least - 0.01, least / 2):
            if 0 <= less < least:
                assert not replace(guard, max_drop=less).judge(found, close(kl)).holds

    def test_by_hand(self):
        assert PointGuard(max_drop=0).least_drop(paired(7, 2, 991), close(0.0)) == 0.5
        assert LABELS.least_drop(paired(0, 0, 539), close(0.0)) == 0
        # 9.8 / 541 can be shown, less half a point of tolerance
        assert LABELS.least_drop(paired(0, 0, 539), close(1.0)) == 1.32


class TestSettings:
    def test_each_method_has_its_ladder_and_its_guard(self):
        frontier, paper = SearchSettings(), SearchSettings(method="semilayer")
        assert frontier.method is SearchMethod.FRONTIER
        assert frontier.bits == (8, 7, 6, 5, 4, 3, 2, 1)
        assert paper.bits == (8, 6, 4)
        within = {"max_drop": 0, "tolerance": frontier.tolerance}
        asked = frontier.strategy.guard(has_labels=False)
        assert asked == ToleranceGuard(**within, balanced=True, has_labels=False)
        assert frontier.strategy.guard(has_labels=True) == ToleranceGuard(**within)
        assert paper.strategy.guard(has_labels=True) == PointGuard(max_drop=0)
        assert paper.strategy.guards(has_labels=True) == ()

    def test_each_method_has_its_own_settings(self):
        both = {"bits": (8, 4), "max_drop": 1}
        settings = FrontierSettings(**both, tolerance=2, tries=3)
        assert not hasattr(settings, "order")
        one, other = SearchSettings(**vars(settings)).strategy, FrontierSearch(settings)
        assert (one.bits, one.settings.tries) == (other.bits, other.settings.tries) == ((8, 4), 3)
        assert one.guard(has_labels=True) == other.guard(has_labels=True)
        settings = SemilayerSettings(**both, order="ascending", split="none")
        assert not hasattr(settings, "tolerance")
        one, other = (
            SearchSettings(method="semilayer", **vars(settings)).strategy,
            SemilayerSearch(settings),
        )
        assert one.bits == other.bits == (8, 4)
        assert (one.splits, other.splits) == (False, False)
        assert one.guard(has_labels=True) == other.guard(has_labels=True)

    def test_every_point_of_the_frontier_has_been_judged(self):
        """Whatever the answers are; the paper's walk goes on through plans that do not hold."""
        scores = [Score(correct, 1000, 1000, None) for correct in (900, 850, 880)]
        plans = [BitPlan({"a": (bits,)}, {"a": 10}) for bits in (32, 2, 4)]
        points = [Point(*pair, Phase.START) for pair in zip(plans, scores, strict=True)]
        found = Trajectory(scores[0], tuple(points), (), "")
        assert FrontierSearch(FrontierSettings(max_drop=1)).holding(found) == points[1:]
        assert SemilayerSearch(SemilayerSettings(max_drop=1)).holding(found) == []
        assert SemilayerSearch(SemilayerSettings(max_drop=2)).holding(found) == points[2:]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"tolerance": 0}, "`tolerance`: 0 is outside"),
            ({"tolerance": -1}, "`tolerance`: -1 is outside"),
            ({"tolerance": float("nan")}, "`tolerance`: nan is outside"),
            ({"tolerance": 101}, "`tolerance`: 101 is outside"),
            ({"tries": -1}, "`tries`: -1 must be 0 or more"),
            ({"method": "best"}, "best"),
            ({"split": "none"}, "`split` none: is for `method` semilayer"),
            ({"bits": (0,)}, "0"),
        ],
        ids=str,
    )
    def test_others_are_refused(self, given, words):
        with pytest.raises(SettingsError, match=words):
            SearchSettings(**given)

    def test_names_are_taken(self):
        found = SearchSettings(method="semilayer", order="ascending", split="none", bits=[4, 8])
        assert (found.order, found.split, found.bits) == (Order.ASCENDING, Split.NONE, (8, 4))
