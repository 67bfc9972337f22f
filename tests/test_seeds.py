"""The gradients that a backward pass begins with: their outer products are the Fisher matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onnxsemi.measure.seeds import EXACT_CLASSES, seed_count, seed_gradients

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


def seeds(logits: NDArray[np.float64], label: int = 0, seed: int = 0) -> NDArray[np.float32]:
    rows = np.asarray(logits, np.float32)[None]
    return seed_gradients(rows, np.array([label]), np.random.default_rng(seed))[0]


@pytest.mark.parametrize("classes", range(2, EXACT_CLASSES + 1))
@pytest.mark.parametrize("kind", LOGITS)
def test_up_to_16_classes_the_fisher_matrix_is_exact(classes: int, kind: str) -> None:
    logits = LOGITS[kind](classes)
    found = seeds(logits).astype(np.float64)
    assert found.shape == (seed_count(classes), classes) == (classes, classes)
    assert np.isfinite(found).all()
    # each factor is rounded to float32 once: their products are off by two roundings
    assert np.abs(found[1:].T @ found[1:] - fisher(logits)).max() <= 2 * 2**-24


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=EXACT_CLASSES))
def test_any_logits(values: list[float]) -> None:
    found = seeds(np.array(values)).astype(np.float64)[1:]
    assert np.abs(found.T @ found - fisher(np.array(values))).max() <= 4 * 2**-24


@pytest.mark.parametrize("classes", [2, 5, 16, 17, 1000])
def test_the_first_is_the_gradient_of_the_cross_entropy(classes: int) -> None:
    logits = np.random.default_rng(classes).normal(size=classes).astype(np.float32)
    label = classes - 1
    one = np.eye(classes)[label]
    found = seeds(logits, label)[0]
    assert found == pytest.approx(softmax(logits.astype(np.float64)) - one, abs=1e-7)


class TestDrawn:
    CLASSES = 20

    def rows(self, count: int) -> NDArray[np.float32]:
        one = np.random.default_rng(1).normal(0, 2, self.CLASSES).astype(np.float32)
        return np.repeat(one[None], count, axis=0)

    def drawn(self, count: int, seed: int) -> NDArray[np.float32]:
        labels = np.zeros(count, np.int64)
        return seed_gradients(self.rows(count), labels, np.random.default_rng(seed))

    def test_one_label_an_image(self) -> None:
        found = self.drawn(3, 0)
        assert found.shape == (3, seed_count(self.CLASSES), self.CLASSES) == (3, 2, self.CLASSES)

    def test_by_the_seed_alone(self) -> None:
        assert self.drawn(50, 0).tobytes() == self.drawn(50, 0).tobytes()
        assert self.drawn(50, 0).tobytes() != self.drawn(50, 1).tobytes()

    def test_each_is_p_less_one_label(self) -> None:
        p = softmax(self.rows(1)[0].astype(np.float64))
        off = p - self.drawn(200, 0)[:, 1]
        labels = off.argmax(axis=1)
        assert np.abs(off - np.eye(self.CLASSES)[labels]).max() < 1e-6
        assert len(set(labels.tolist())) > 3

    def test_their_mean_square_is_the_fisher_matrix(self) -> None:
        """To within five standard errors, each entry."""
        count = 20_000
        factors = self.drawn(count, 0)[:, 1].astype(np.float64)
        products = factors[:, :, None] * factors[:, None, :]
        error = products.std(axis=0) / np.sqrt(count)
        expected = fisher(self.rows(1)[0].astype(np.float64))
        assert (np.abs(products.mean(axis=0) - expected) <= 5 * error + 1e-7).all()

    def test_a_certain_answer_is_always_drawn(self) -> None:
        logits = np.full((30, self.CLASSES), -200, np.float32)
        logits[:, 7] = 200
        found = seed_gradients(logits, np.full(30, 7), np.random.default_rng(0))
        assert np.abs(found).max() == 0
