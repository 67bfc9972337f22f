"""The gradients that a backward pass begins with: their outer products are the Fisher matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnxsemi._stats.cotangents import FACTORS, cotangent_count, draw_cotangents

pytestmark = pytest.mark.slow

LOGITS = {
    "equal": np.zeros,
    "one dominates": lambda classes: np.where(np.arange(classes) == classes // 2, 100.0, 0.0),
    "the last": lambda classes: np.where(np.arange(classes) == classes - 1, 100.0, 0.0),
    "two compete": lambda classes: np.where(np.arange(classes) < 2, 80.0, -80.0),
    "far apart": lambda classes: np.linspace(-300, 300, classes),
    "huge": lambda classes: np.full(classes, 3e38),
}


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.exp(logits - logits.max())
    return p / p.sum()


def fisher(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    p = softmax(logits)
    return np.diag(p) - np.outer(p, p)


def cotangents(logits: NDArray[np.float64], label: int = 0, seed: int = 0) -> NDArray[np.float32]:
    rows = np.asarray(logits, np.float32)[None]
    return draw_cotangents(rows, np.array([label]), np.random.default_rng(seed))[0]


@pytest.mark.parametrize("classes", range(2, FACTORS + 2))
@pytest.mark.parametrize("kind", LOGITS)
def test_of_few_classes_the_fisher_matrix_is_exact(classes: int, kind: str) -> None:
    logits = LOGITS[kind](classes)
    found = cotangents(logits).astype(np.float64)
    assert found.shape == (cotangent_count(classes), classes) == (classes, classes)
    assert np.isfinite(found).all()
    # each factor is rounded to float32 once: their products are off by two roundings
    assert np.abs(found[1:].T @ found[1:] - fisher(logits)).max() <= 2 * 2**-24


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=FACTORS + 1))
def test_any_logits(values: list[float]) -> None:
    found = cotangents(np.array(values)).astype(np.float64)[1:]
    assert np.abs(found.T @ found - fisher(np.array(values))).max() <= 4 * 2**-24


@pytest.mark.parametrize("classes", [2, 5, 16, 17, 1000])
def test_the_first_is_the_gradient_of_the_cross_entropy(classes: int) -> None:
    logits = np.random.default_rng(classes).normal(size=classes).astype(np.float32)
    label = classes - 1
    one = np.eye(classes)[label]
    found = cotangents(logits, label)[0]
    assert found == pytest.approx(softmax(logits.astype(np.float64)) - one, abs=1e-7)


@pytest.mark.parametrize("classes", [FACTORS + 2, 16, 17, 1000])
class TestOfManyClasses:
    def drawn(self, classes: int, count: int, seed: int = 0) -> NDArray[np.float64]:
        """Factors of one image, each time with other signs: float64[count, FACTORS, K]."""
        one = np.random.default_rng(1).normal(0, 2, classes).astype(np.float32)
        rows, labels = np.repeat(one[None], count, axis=0), np.zeros(count, np.int64)
        found = draw_cotangents(rows, labels, np.random.default_rng(seed))
        assert found.shape == (count, cotangent_count(classes), classes)
        self.logits = one.astype(np.float64)
        return found[:, 1:].astype(np.float64)

    def test_by_the_seed_alone(self, classes: int) -> None:
        first, again, other = (self.drawn(classes, 5, seed) for seed in (0, 0, 1))
        assert first.tobytes() == again.tobytes()
        assert first[:, -1].tobytes() != other[:, -1].tobytes()

    def test_all_but_the_last_are_exact_for_the_most_probable(self, classes: int) -> None:
        """Rows of F of those classes need no luck."""
        factors = self.drawn(classes, 2)
        likely = np.argsort(-self.logits)[: FACTORS - 1]
        for found in factors:
            products = found.T @ found
            assert np.abs((products - fisher(self.logits))[likely]).max() <= 4 * 2**-24
        assert (factors[0, :-1] == factors[1, :-1]).all()

    def test_on_average_they_are_the_fisher_matrix(self, classes: int) -> None:
        """Of a change of the logits: to within five standard errors."""
        count = 4000
        factors = self.drawn(classes, count)
        for change in np.random.default_rng(2).normal(size=(5, classes)):
            found = ((factors @ change) ** 2).sum(axis=1)
            error = found.std() / np.sqrt(count)
            expected = change @ fisher(self.logits) @ change
            assert abs(found.mean() - expected) <= 5 * error + 1e-9

    def test_a_certain_answer_has_no_gradient(self, classes: int) -> None:
        logits = np.full((3, classes), -200, np.float32)
        logits[:, 7] = 200
        found = draw_cotangents(logits, np.full(3, 7), np.random.default_rng(0))
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 1e-30


def test_signs_say_more_than_a_drawn_label_and_no_step_between_class_counts() -> None:
    """Relative error of 1/2 u^T F u of a confident image; 9 to 17 classes, and a thousand."""
    errors = []
    for classes in (10, 16, 17, 1000):
        logits = np.zeros((4000, classes), np.float32)
        logits[:, 0] = 3 + np.log(classes)
        change = np.random.default_rng(0).normal(size=classes)
        found = draw_cotangents(logits, np.zeros(4000, np.int64), np.random.default_rng(1))
        fisher_of = (found[:, 1:].astype(np.float64) @ change) ** 2
        spread = fisher_of.sum(axis=1).std()
        p = softmax(logits[0].astype(np.float64))
        label = ((p @ change) - change) ** 2  # of each label that could be drawn
        drawn = np.sqrt(p @ (label - p @ label) ** 2)
        errors.append(spread / drawn)
    assert max(errors) < 0.5
    assert max(errors[1:3]) / min(errors[1:3]) < 1.5
