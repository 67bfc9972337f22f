"""When the search images speak against a plan."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st

from onnxsemi.errors import SettingsError
from onnxsemi.measure.paired import Paired
from onnxsemi.search.guard import Guard
from onnxsemi.search.ranking import Order
from onnxsemi.search.semilayers import Split
from onnxsemi.search.settings import SearchMethod, SearchSettings

COUNTS = st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(1, 3000))
quickly = run_settings(deadline=None, derandomize=True)


def paired(lost, won, same):
    """``same`` images more whose answer stays."""
    total = lost + won + same
    return Paired(total, lost + same, lost, won)


@dataclass(frozen=True)
class Case:
    """What a guard says of counts; images are 4,000."""

    name: str
    guard: Guard
    lost: int
    won: int
    words: str | None = None


LABELS = Guard(max_drop=0, tolerance=0.5)
NO_LABELS = Guard(max_drop=0, tolerance=0.5, balanced=True, has_labels=False)
CASES = [
    Case("point: as many", Guard(max_drop=0), 20, 20),
    Case("point: one more", Guard(max_drop=0), 21, 20, "1 more lost than won of 4,000"),
    Case("point: just allowed", Guard(max_drop=1), 40, 0),
    Case("point: above it", Guard(max_drop=1), 41, 0, "allowed are 40"),
    Case("few change", LABELS, 21, 20),
    Case(
        "many change", LABELS, 80, 80, "-0.62 points; allowed is -0.50 (80 lost, 80 won of 4,000)"
    ),
    Case("many are won", LABELS, 80, 120),
    Case("more may be lost", Guard(max_drop=0.5, tolerance=0.5), 80, 80),
    Case(
        "no label: all won",
        NO_LABELS,
        0,
        160,
        "-0.62 points; allowed is -0.50 (160 of 4,000 answers changed)",
    ),
    Case("no label: all lost", NO_LABELS, 40, 0),
    Case(
        "no label: odd",
        NO_LABELS,
        161,
        0,
        "if half of what changed is lost, the change may be as low as -0.65 points; "
        "allowed is -0.50 (161 of 4,000 answers changed)",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_by_hand(case):
    found = case.guard.against(paired(case.lost, case.won, 4000 - case.lost - case.won))
    if case.words is None:
        assert found is None
    else:
        assert case.words in found


@quickly
@given(COUNTS, st.floats(0, 3), st.floats(0.05, 2))
def test_interval_against_its_formula(counts, max_drop, tolerance):
    """Bonett and Price: one added to each count; the tolerance is twice the width at no change."""
    found = paired(*counts)
    lost, won, n = counts[0] + 1, counts[1] + 1, found.total + 2
    change = (won - lost) / n
    half = 1.959963984540054 * np.sqrt(((won + lost) / n - change**2) / n)
    unchanged = 1.959963984540054 * np.sqrt(2) / n
    low, least = 100 * (change - half), -max_drop - max(tolerance, 200 * min(1, unchanged))
    said = Guard(max_drop=max_drop, tolerance=tolerance).against(found)
    if abs(max(low, -100) - least) > 1e-6:  # the sides of the line; not on it
        assert (said is None) == (max(low, -100) > least)


@quickly
@given(COUNTS, st.booleans())
def test_more_that_is_lost_never_helps(counts, has_labels):
    lost, won, same = counts
    guard = Guard(max_drop=0.3, tolerance=0.4, has_labels=has_labels)
    if guard.against(paired(lost, won, same)) is not None:
        assert guard.against(paired(lost + 1, won, same - 1)) is not None


@quickly
@given(st.integers(0, 400), st.integers(0, 400), st.integers(1, 3000))
def test_without_labels_it_is_not_known_which_are_lost(lost, won, same):
    guard = Guard(max_drop=0.3, tolerance=0.4, balanced=True, has_labels=False)
    said = [guard.against(paired(*pair, same)) is None for pair in ((lost, won), (won, lost))]
    assert said[0] == said[1]
    half, odd = divmod(lost + won, 2)
    balanced = Guard(max_drop=0.3, tolerance=0.4).against(paired(half + odd, half, same))
    assert said[0] == (balanced is None)


@pytest.mark.parametrize("has_labels", [True, False], ids=["labels", "none"])
@pytest.mark.parametrize("tolerance", [None, 0.01, 0.4], ids=str)
@pytest.mark.parametrize("count", [1, 2, 10, 60, 4000])
def test_a_plan_that_changes_nothing_is_taken_on_however_few_images(count, tolerance, has_labels):
    guard = Guard(max_drop=0, tolerance=tolerance, has_labels=has_labels)
    before = np.arange(count) % 3 == 0
    assert guard.objection(before, before.copy()) is None


@pytest.mark.parametrize("count", [10, 60, 500])
def test_a_plan_that_loses_half_of_few_images_is_not(count):
    found = Guard(max_drop=0, tolerance=0.4).against(paired(count // 2, 0, count - count // 2))
    assert found is not None


def test_counts_are_of_the_images():
    before = np.array([True] * 300 + [False] * 700)
    after = before.copy()
    after[:50], after[300:310] = False, True
    said = Guard(max_drop=0, tolerance=0.4).objection(before, after)
    assert "(50 lost, 10 won of 1,000)" in said


class TestSettings:
    def test_each_method_has_its_ladder_and_its_guard(self):
        frontier, paper = SearchSettings(), SearchSettings(method="semilayer")
        assert frontier.method is SearchMethod.FRONTIER
        assert frontier.bits == (8, 7, 6, 5, 4, 3, 2, 1)
        assert paper.bits == (8, 6, 4)
        asked = frontier.guard(has_labels=False)
        tolerance = frontier.tolerance
        assert asked == Guard(max_drop=0, tolerance=tolerance, balanced=True, has_labels=False)
        assert frontier.guard(has_labels=True) == Guard(max_drop=0, tolerance=tolerance)
        assert paper.guard(has_labels=True) == Guard(max_drop=0)

    def test_every_point_of_the_frontier_has_been_judged(self):
        assert SearchSettings(max_drop=1).allowed_drop == 100
        assert SearchSettings(method="semilayer", max_drop=1).allowed_drop == 1

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"tolerance": 0}, "--tolerance: 0 is outside"),
            ({"tolerance": -1}, "--tolerance: -1 is outside"),
            ({"tolerance": float("nan")}, "--tolerance: nan is outside"),
            ({"tolerance": 101}, "--tolerance: 101 is outside"),
            ({"tries": -1}, "--tries: -1 must be 0 or more"),
            ({"method": "best"}, "best"),
            ({"split": "none"}, "--split none: is for --method semilayer"),
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
