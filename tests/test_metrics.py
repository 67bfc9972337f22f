"""Loss, divergence and the paired comparison against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsemi._stats.metrics import cross_entropy, hits, kl_divergence, log_softmax, upper_mean
from onnxsemi._stats.paired import Paired

logits = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(2, 6)),
    elements=st.floats(-50, 50, width=32),
)


@settings(deadline=None, derandomize=True)
@given(logits, st.randoms(use_true_random=False))
def test_kl_is_not_negative_and_zero_for_equal_softmax(reference, random):
    other = reference[:, random.sample(range(reference.shape[1]), reference.shape[1])]
    assert (kl_divergence(reference, other) >= 0).all()
    assert (kl_divergence(reference, reference) == 0).all()
    # Adding a constant leaves the softmax as it is. In float32 the sum is rounded, so that each
    # logit is off by at most half an ulp of 66: the KL by less than (2 * 2^-18)^2 and some noise.
    shifted = (reference + np.float32(16)).astype(np.float32)
    assert (kl_divergence(reference, shifted) < 1e-10).all()


def test_kl_of_different_softmax_is_positive():
    assert kl_divergence(np.float32([[0, 0]]), np.float32([[0, 1e-3]]))[0] > 0


def test_kl_closed_form():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    found = kl_divergence(np.log(p)[None].astype(np.float32), np.log(q)[None].astype(np.float32))
    # float32 logits are off by 6e-8 of at most 1.4
    assert found[0] == pytest.approx(0.25 * math.log(2), abs=4e-7)


@pytest.mark.parametrize("size", [1e4, -1e4, 3e38])
def test_huge_logits_stay_finite(size):
    large = np.float32([[size, 0.0, -size]])
    flat = np.float32([[0.0, 0.0, 0.0]])
    for one, other in ((large, flat), (flat, large), (large, -large)):
        assert np.isfinite(kl_divergence(one, other)).all()
    assert np.isfinite(cross_entropy(large, np.array([1]))).all()


def test_cross_entropy_of_equal_logits_is_log_classes():
    assert cross_entropy(np.zeros((3, 10), np.float32), np.array([0, 5, 9])) == pytest.approx(
        np.full(3, math.log(10)), abs=1e-15
    )


def test_log_softmax_sums_to_one():
    rng = np.random.default_rng(0)
    rows = np.exp(log_softmax(rng.normal(size=(4, 7)).astype(np.float32))).sum(axis=-1)
    assert rows == pytest.approx(np.ones(4), abs=1e-15)


@pytest.mark.parametrize("shapes", [((2, 3), (3, 3)), ((0, 3), (0, 3))], ids=["differ", "empty"])
def test_kl_refuses_wrong_shapes(shapes):
    with pytest.raises(ValueError, match="logits of shape"):
        kl_divergence(*(np.zeros(shape, np.float32) for shape in shapes))


def test_hits_take_the_first_of_equal_logits():
    found = hits(np.float32([[1, 1], [1, 1], [0, 1]]), np.array([0, 1, 1]))
    assert found.tolist() == [True, False, True]


class TestPaired:
    def test_counts(self):
        before = np.array([1, 1, 1, 0, 0], bool)
        after = np.array([1, 0, 0, 1, 0], bool)
        paired = Paired.of(before, after)
        assert (paired.total, paired.before, paired.after) == (5, 3, 2)
        assert (paired.broken, paired.fixed) == (2, 1)
        assert paired.change == pytest.approx(-0.2)

    def test_no_change_is_not_certainty(self):
        low, high = Paired(total=100, before=90, broken=0, fixed=0).interval
        assert low == -high
        assert high == pytest.approx(1.959963984540054 * math.sqrt(2 / 102 / 102))

    def test_interval_covers_the_truth(self):
        """Nominal 95 %: of 2,000 seeded experiments about 1,900 cover; 5 sigma is 49."""
        rng = np.random.default_rng(0)
        draws = rng.multinomial(1000, [0.02, 0.03, 0.95], size=2000)
        covered = 0
        for broken, fixed, _ in draws.tolist():
            low, high = Paired(total=1000, before=900, broken=broken, fixed=fixed).interval
            covered += low <= 0.01 <= high
        assert abs(covered - 1900) <= 49


def test_upper_end_of_a_mean():
    """It lies above the true mean nineteen times of twenty, or hardly less for a skewed figure."""
    rng = np.random.default_rng(0)
    ends = [upper_mean(rng.gamma(0.5, 2.0, size=200)) for _ in range(2000)]
    assert 0.9 < np.mean(np.array(ends) > 1.0) < 0.97
    assert upper_mean(np.array([0.25])) == 0.25
    assert upper_mean(np.full(9, 0.25)) == 0.25
