"""Two models on the same images: intervals, p-values, agreement, and the words for them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as run_settings
from hypothesis import strategies as st

from onnxsemi._results import wording
from onnxsemi._stats.comparison import Comparison, comparison_of, exact_interval
from onnxsemi._stats.metrics import hits, kl_divergence
from onnxsemi._stats.paired import Paired

quickly = run_settings(deadline=None, derandomize=True)


def counts(total):
    """Answers broken and fixed of some images."""
    return st.tuples(st.integers(0, total), st.integers(0, total)).filter(lambda c: sum(c) <= total)


def paired(total, broken, fixed):
    return Paired(total, total - fixed, broken, fixed)


class TestMcNemar:
    @pytest.mark.parametrize(
        ("broken", "fixed", "p"),
        [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (4, 0, 2 / 2**4),
            (0, 10, 2 / 2**10),
            (1, 4, 2 * (1 + 5) / 2**5),
            (8, 2, 2 * (1 + 10 + 45) / 2**10),
            (5, 5, 1.0),
        ],
        ids=str,
    )
    def test_by_hand(self, broken, fixed, p):
        assert paired(100, broken, fixed).p_value == pytest.approx(p, rel=1e-12)

    @quickly
    @given(st.integers(0, 60), st.integers(0, 60))
    def test_is_twice_the_smaller_tail(self, broken, fixed):
        n, few = broken + fixed, min(broken, fixed)
        tail = sum(math.comb(n, k) for k in range(few + 1)) / 2**n
        assert paired(1000, broken, fixed).p_value == pytest.approx(min(1, 2 * tail), rel=1e-9)

    def test_unchanged_images_play_no_part(self):
        assert paired(50, 9, 2).p_value == paired(50_000, 9, 2).p_value


class TestImages:
    @quickly
    @given(st.integers(1, 3000).flatmap(lambda n: counts(n).map(lambda c: (n, *c))), st.data())
    def test_it_is_the_least_number_that_gives_the_width(self, drawn, data):
        found, width = paired(*drawn), data.draw(st.floats(1e-4, 0.5))
        needed = found.images_for(width)

        def half(n):
            """Half width at n images, from the formula, with the same shares."""
            broken, fixed = found.broken / found.total * n, found.fixed / found.total * n
            variance = (broken + fixed + 2) / (n + 2) - ((fixed - broken) / (n + 2)) ** 2
            return 1.959963984540054 * math.sqrt(variance / (n + 2))

        assert half(needed) <= width * (1 + 1e-12)
        if needed > 1:
            assert half(needed - 1) > width * (1 - 1e-12)

    def test_as_many_as_there_are_give_the_width_that_there_is(self):
        found = paired(4000, 17, 15)
        assert found.images_for(found.half_width) == 4000
        assert found.images_for(found.half_width * 0.999) > 4000

    def test_whole_counts_plugged_back(self):
        """Ten times the images with ten times the counts: the formula for counts says the same."""
        found = paired(400, 8, 4)
        width = paired(4000, 80, 40).half_width
        assert found.images_for(width) == 4000

    def test_no_change_and_no_width(self):
        assert (
            paired(100, 0, 0).images_for(0.01) == math.ceil(1.959963984540054 * 2**0.5 / 0.01) - 2
        )
        assert paired(100, 0, 0).images_for(0.0) is None
        assert paired(100, 3, 3).images_for(0.0) is None


class TestInterval:
    @pytest.mark.parametrize(("broken", "fixed"), [(40, 30), (17, 15), (60, 10)], ids=str)
    def test_agrees_with_a_seeded_paired_bootstrap(self, broken, fixed):
        """10,000 resamples: their quantiles are off by 2 % of the width; Agresti's added counts
        move an end by less than 2 images.
        """
        total, draws = 4000, 10_000
        shares = [broken / total, fixed / total, 1 - (broken + fixed) / total]
        resampled = np.random.default_rng(0).multinomial(total, shares, size=draws)
        ends = np.quantile((resampled[:, 1] - resampled[:, 0]) / total, [0.025, 0.975])
        found = paired(total, broken, fixed)
        tolerance = 0.04 * found.half_width + 2 / total
        assert np.abs(np.array(found.interval) - ends).max() < tolerance

    @pytest.mark.parametrize("total", [1, 2, 40])
    def test_everything_lost(self, total):
        low, high = paired(total, total, 0).interval
        assert low == -1 or total == 40
        assert -1 <= low < high <= 1

    def test_exact_interval_of_a_share(self):
        """Clopper and Pearson: (0.05 / 2)^(1 / n) where all agree; symmetric."""
        low, high = exact_interval(60, 60)
        assert (low, high) == (pytest.approx(0.025 ** (1 / 60)), 1)
        low, high = exact_interval(3, 50)
        assert exact_interval(47, 50) == (pytest.approx(1 - high), pytest.approx(1 - low))


class TestTop5:
    @quickly
    @given(st.integers(0, 10**6), st.integers(1, 12))
    def test_against_a_stable_sort(self, seed, among):
        rng = np.random.default_rng(seed)
        logits = rng.integers(0, 4, (20, 12)).astype(np.float32)  # many are equal
        labels = rng.integers(0, 12, 20)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :among]
        expected = [label in row for label, row in zip(labels, order, strict=True)]
        assert hits(logits, labels, among).tolist() == expected

    def test_from_ten_classes_on(self):
        rng = np.random.default_rng(0)
        for classes in (9, 10):
            before, after = rng.normal(size=(2, 30, classes)).astype(np.float32)
            found = comparison_of(before, after, rng.integers(0, classes, 30))
            assert (found.top5 is not None) == (classes == 10)


class TestCompare:
    def test_by_hand(self):
        before = np.float32([[2, 1, 0], [0, 1, 2], [1, 0, 0], [0, 3, 0]])
        after = np.float32([[2, 1, 0], [3, 1, 2], [0, 1, 0], [0, 3, 0]])
        found = comparison_of(before, after, np.array([0, 2, 1, 0]))
        assert (found.images, found.same, found.agreement) == (4, 2, 0.5)
        assert found.top1 == Paired(total=4, before=2, broken=1, fixed=1)
        assert found.answers is found.top1
        assert found.kl == pytest.approx(np.mean(kl_divergence(before, after)), rel=1e-15)

    def test_without_labels_the_first_models_answers_are_right(self):
        rng = np.random.default_rng(0)
        before, after = rng.normal(size=(2, 50, 12)).astype(np.float32)
        found = comparison_of(before, after, None)
        own = comparison_of(before, after, before.argmax(axis=1))
        assert (found.top1, found.top5) == (None, None)
        assert found.answers == own.top1
        assert (found.same, found.kl) == (own.same, own.kl)
        assert found.answers.fixed == 0

    def test_a_model_and_itself(self):
        logits = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
        found = comparison_of(logits, logits.copy(), np.zeros(40, np.int64))
        assert (found.kl, found.agreement, found.agreement_interval[1]) == (0, 1, 1)
        assert found.top1.p_value == 1


class TestWording:
    WITH = Comparison(4000, 3960, 0.00391, Paired(4000, 3807, 17, 15), Paired(4000, 3990, 9, 0))

    def test_a_sentence_for_each_measure(self):
        assert wording.summary(self.WITH) == (
            "change of top-1: -0.05 points, 95 % interval [-0.34, +0.24]; 17 broken, 15 fixed of "
            "4,000; McNemar p = 0.86",
            "change of top-5: -0.22 points, 95 % interval [-0.39, -0.06]; 9 broken, 0 fixed of "
            "4,000; "
            "McNemar p = 0.0039",
            "same answer as the float model on 3,960 of 4,000 images: 99.00%, 95 % interval "
            "[98.64, 99.28]; mean KL 0.00391 nats",
        )

    def test_without_labels_there_is_agreement_only(self):
        said = wording.summary(Comparison(4000, 3960, 0.00391), "the reference")
        assert len(said) == 1
        assert said[0].startswith("same answer as the reference on 3,960 of 4,000 images")

    def test_a_tiny_p(self):
        said = wording.changed("top-1", paired(4000, 90, 2))
        assert said.endswith("McNemar p < 0.001")
