"""The mean of a metric: its interval against two oracles, and a guard that asks it like counts."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from onnxsemi._run.store import NO_RUN, opened_file, sealed
from onnxsemi._search.guard import PointGuard
from onnxsemi._search.protocols import Closeness
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._stats.means import RESAMPLES, Means, bootstrap
from onnxsemi._stats.metric import Values
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import pair

LEVEL_ERROR = np.sqrt(0.025 * 0.975 / RESAMPLES)
ERROR = LEVEL_ERROR / stats.norm.pdf(1.96)
"""Standard error of an end of the interval, in standard errors of the mean."""


def values(each, name="f"):
    return Values(name, np.asarray(each, np.float64))


def counted(total, broken, fixed, before=None):
    """The same change twice: of right answers, and of values 0 and 1."""
    right = np.arange(total) < (total // 2 if before is None else before)
    after = right.copy()
    after[np.flatnonzero(right)[:broken]] = False
    after[np.flatnonzero(~right)[:fixed]] = True
    return Paired.of(right, after), Means.of(values(right), values(after))


class TestBootstrap:
    def test_of_0_and_1_is_binomial(self):
        """Resampled means are binomial: each end is their quantile, within four standard errors."""
        sample = (np.arange(400) < 30).astype(np.float64)
        error = 4 * LEVEL_ERROR
        drawn = stats.binom(400, 30 / 400)
        for end, level in zip(bootstrap(sample), (0.025, 0.975), strict=True):
            below, at = drawn.cdf(np.rint(400 * end) - 1), drawn.cdf(np.rint(400 * end))
            assert below - error <= level <= at + error

    def test_is_that_of_scipy(self):
        sample = np.random.default_rng(1).exponential(size=60)
        found = stats.bootstrap(
            (sample,),
            np.mean,
            method="percentile",
            n_resamples=20_000,
            rng=np.random.default_rng(2),
        ).confidence_interval
        near = 4 * ERROR * np.sqrt(1 + RESAMPLES / 20_000) * sample.std() / np.sqrt(60)
        assert bootstrap(sample) == pytest.approx(tuple(found), abs=near)

    @pytest.mark.parametrize(
        ("draw", "mean"),
        [
            (lambda rng: rng.exponential(size=150), 1.0),
            (lambda rng: (rng.random(150) < 0.02) * rng.choice([-1.0, 1.0], 150), 0.0),
            (lambda rng: rng.normal(0.3, 1, 150), 0.3),
        ],
        ids=["skewed", "few change", "normal"],
    )
    def test_covers(self, draw, mean):
        rng, held = np.random.default_rng(3), 0
        for _ in range(100):
            changes = draw(rng)
            low, high = Means.of(values(np.zeros(150)), values(changes)).interval
            held += low <= mean <= high
        assert held >= 87  # of 100 at 95 %, four standard errors below

    def test_takes_little_memory(self):
        sample = np.zeros(30_000)
        tracemalloc.start()
        try:
            bootstrap(sample)
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()


class TestMeans:
    @pytest.mark.parametrize(("broken", "fixed"), [(0, 0), (1, 1), (20, 10), (5, 31), (80, 80)])
    def test_of_0_and_1_are_counts(self, broken, fixed):
        paired, means = counted(2000, broken, fixed)
        assert (means.total, means.broken, means.fixed) == (2000, broken, fixed)
        assert means.before == paired.before / 2000
        assert means.change == pytest.approx(paired.change, abs=1e-12)
        # a percentile's standard error, and a step of 1 / n of the counts
        near = 4 * ERROR * paired.half_width / 1.96 + 1.5 / 2000
        for coverage in (0.95, 0.975):
            found, known = means.interval_at(coverage), paired.interval_at(coverage)
            assert found == pytest.approx(known, abs=2 * near if coverage > 0.95 else near)

    def test_a_significant_fall_is_not_evened_out(self):
        before = values(np.ones(1000))
        small = Means.of(before, values(1 - 0.05 * (np.arange(1000) % 3 == 0)))
        assert small.even() == small
        assert small.interval[0] < -0.016

    @pytest.mark.parametrize(("broken", "fixed"), [(0, 0), (18, 10), (4, 2)])
    def test_even_is_the_closed_form(self, broken, fixed):
        paired, means = counted(2000, broken, fixed)
        assert means.even().interval == pytest.approx(paired.even().interval, abs=1e-12)
        assert means.even().change == 0

    def test_images_for(self):
        paired, means = counted(2000, 12, 12)
        assert means.images_for(0.002) == pytest.approx(paired.images_for(0.002), abs=2)
        assert means.images_for(0) is None

    def test_nothing_changed_is_not_nothing_known(self):
        means = Means.of(values([0.2, 0.9] * 50), values([0.2, 0.9] * 50))
        assert means.largest == pytest.approx(0.7)
        assert means.interval[0] < 0 < means.interval[1]

    def test_scale_changes_nothing(self):
        rng = np.random.default_rng(0)
        before, after = rng.normal(size=(2, 300))
        one = Means.of(values(before), values(after))
        ten = Means.of(values(8 * before), values(8 * after))
        assert ten.interval == pytest.approx([8 * end for end in one.interval], rel=1e-12)

    def test_read_back(self):
        for known in counted(50, 3, 2):
            assert opened_file(sealed(known, NO_RUN), type(known), NO_RUN) == known

    def test_only_like_with_like(self):
        with pytest.raises(TypeError, match="cannot be compared"):
            pair(np.ones(3, bool), values(np.ones(3)))


@pytest.mark.parametrize(
    ("guard", "broken", "fixed", "words"),
    [
        (ToleranceGuard(max_drop=0, tolerance=0.5), 20, 20, None),
        (ToleranceGuard(max_drop=0, tolerance=0.5), 90, 80, "may be as low as"),
        (PointGuard(max_drop=0), 20, 20, None),
        (PointGuard(max_drop=0), 21, 20, "the mean of f changed by -0.02 points; allowed are 0"),
        (PointGuard(max_drop=1), 40, 0, None),
        (ToleranceGuard(max_drop=0.5, tolerance=0.5), 90, 80, None),
    ],
)
def test_guard(guard, broken, fixed, words):
    """By a metric as by right answers."""
    for known in counted(4000, broken, fixed):
        assert (guard.against(known) is None) == (words is None)
    assert words is None or words in guard.against(known)


def test_few_images_are_asked_the_same():
    guard = ToleranceGuard(max_drop=0, tolerance=0.5)
    paired, means = counted(400, 12, 1, before=390)
    for close, words in (
        (Closeness(0.01, 14), "more than chance"),
        (Closeness(0.03, 14), "the KL may be 0.03 nats"),
    ):
        said = [guard.against(known, close) for known in (paired, means)]
        assert all(words in one for one in said)
    assert "12 images with a lower f and 1 with a higher" in said[1]
