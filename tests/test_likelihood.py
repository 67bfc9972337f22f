"""What is measured of logits of labels that are judged each by itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsemi._data.labels import MOST_LABELS, answer_numbers
from onnxsemi._evaluation.forward import logit_rows, score_gradients
from onnxsemi._head import Head
from onnxsemi._stats.comparison import comparison_of
from onnxsemi._stats.cotangents import FACTORS, label_cotangent_count, label_cotangents
from onnxsemi._stats.guessing import labels_better
from onnxsemi._stats.likelihood import CATEGORICAL, LIKELIHOODS

LABELS = LIKELIHOODS[Head.SIGMOIDS]
RNG = np.random.default_rng(0)
Z, OTHER = (RNG.normal(0, 2, (40, 6)).astype(np.float32) for _ in range(2))
Y = RNG.integers(0, 2, (40, 6))


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype(np.float64)))


def test_loss_and_divergence_are_sums_over_labels():
    p, q = sigmoid(Z), sigmoid(OTHER)
    loss = -(Y * np.log(p) + (1 - Y) * np.log(1 - p)).sum(axis=1)
    kl = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1)
    assert LABELS.loss(Z, Y) == pytest.approx(loss, rel=1e-13)
    assert LABELS.divergence(Z, OTHER) == pytest.approx(kl, rel=1e-12)
    assert (LABELS.divergence(Z, Z) == 0).all()


def test_large_logits_stay_finite():
    far = np.float32([[1e4, -1e4], [-1e4, 1e4]])
    assert LABELS.loss(far, np.array([[1, 0], [1, 0]])).tolist() == [0, 2e4]
    assert LABELS.divergence(far, far[::-1]).tolist() == [2e4, 2e4]
    assert np.isfinite(label_cotangents(far, np.zeros((2, 2)), np.random.default_rng(0))).all()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="logits of shape"):
        LABELS.divergence(Z, OTHER[:3])


def test_an_answer_is_right_if_all_of_its_labels_are():
    z = np.float32([[1, -1], [1, 1], [0, -2]])
    assert LABELS.answers(z).tolist() == [[1, 0], [1, 1], [0, 0]]
    labels = np.array([[1, 0], [1, 0], [0, 0]])
    assert LABELS.right(z, labels).tolist() == [True, False, True]
    assert LABELS.margins(z, labels).tolist() == [1, -1, 0]
    assert LABELS.same(z, -z).tolist() == [False, False, False]
    assert LABELS.same(z, 2 * z).all()


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=8), st.booleans())
def test_one_sigmoid_is_two_classes(values, label):
    """Bernoulli's z and the softmax of (0, z) are one and the same."""
    z = np.float32(values)[:, None]
    two = logit_rows(z, len(z), Head.ONE_SIGMOID)
    y = np.full(len(z), int(label))
    assert CATEGORICAL.loss(two, y) == pytest.approx(LABELS.loss(z, y[:, None]), abs=1e-12)
    kl = CATEGORICAL.divergence(two, np.roll(two, 1, axis=0))
    assert kl == pytest.approx(LABELS.divergence(z, np.roll(z, 1, axis=0)), abs=1e-12)
    assert (CATEGORICAL.answers(two) == LABELS.answers(z)[:, 0]).all()
    drawn = [np.random.default_rng(0) for _ in range(2)]
    cotangents = score_gradients(CATEGORICAL.cotangents(two, y, drawn[0]), Head.ONE_SIGMOID)
    expected = LABELS.cotangents(z, y[:, None], drawn[1])
    assert np.abs(cotangents[:, 0] - expected[:, 0]).max() <= 1e-7
    assert np.abs(np.abs(cotangents[:, 1]) - expected[:, 1]).max() <= 1e-7  # the square counts


class TestFactors:
    @pytest.mark.parametrize("labels", [1, 3, FACTORS])
    def test_of_few_labels_are_exact(self, labels):
        z, y = Z[:, :1] + np.arange(labels, dtype=np.float32), np.zeros((40, labels), int)
        found = label_cotangents(z, y, np.random.default_rng(0)).astype(np.float64)
        assert found.shape == (40, label_cotangent_count(labels), labels)
        p = sigmoid(z)
        assert found[:, 0] == pytest.approx(p - y, abs=1e-7)
        products = np.einsum("nsi,nsj->nij", found[:, 1:], found[:, 1:])
        assert np.abs(products - np.eye(labels) * (p * (1 - p))[:, None]).max() <= 2 * 2**-24

    def test_of_many_labels_are_right_on_average(self):
        """Exact for the labels that matter most; of a change of the logits five standard errors."""
        labels, count = 30, 4000
        one = np.random.default_rng(1).normal(0, 2, labels).astype(np.float32)
        z, y = np.repeat(one[None], count, axis=0), np.zeros((count, labels), int)
        found = label_cotangents(z, y, np.random.default_rng(0))[:, 1:].astype(np.float64)
        assert found.shape == (count, FACTORS, labels)
        variance = sigmoid(one) * (1 - sigmoid(one))
        largest = np.argsort(-variance)[: FACTORS - 1]
        assert (found[:, :-1] == found[:1, :-1]).all()
        squares = (found[0, :-1] ** 2).sum(axis=0)
        assert squares[largest] == pytest.approx(variance[largest], rel=1e-6)
        for change in np.random.default_rng(2).normal(size=(5, labels)):
            squared = ((found @ change) ** 2).sum(axis=1)
            error = squared.std() / np.sqrt(count)
            assert abs(squared.mean() - change**2 @ variance) <= 5 * error


def test_comparison_by_all_labels():
    labels = LABELS.answers(Z)
    after = Z.copy()
    after[:3, 0] *= -1  # broken
    found = comparison_of(Z, after, labels, head=Head.SIGMOIDS)
    assert (found.same, found.top1.broken, found.top1.fixed, found.top5) == (37, 3, 0, None)
    assert found.changes[0][0] == "all labels right"
    assert found.kl == pytest.approx(LABELS.divergence(Z, after).mean(), rel=1e-15)


@pytest.mark.parametrize("labels", [1, 5, MOST_LABELS, MOST_LABELS + 1, 200])
def test_numbers_tell_answers_apart(labels):
    answers = np.random.default_rng(labels).integers(0, 2, (50, labels))
    found = answer_numbers(answers)
    same = (answers[:, None] == answers[None]).all(axis=2)
    assert ((found[:, None] == found[None]) == same).all()
    assert ((found >= 0) == (labels <= MOST_LABELS)).all()


def test_labels_told_better_than_by_guessing():
    rng = np.random.default_rng(3)
    labels = (rng.random((200, 10)) < 0.1).astype(int)
    some = np.where(rng.random(labels.shape) < 0.2, labels, 0)
    assert labels_better(some, labels)
    assert not labels_better(np.zeros_like(labels), labels)  # right on 90 % of them
    assert not labels_better(labels[rng.permutation(200)], labels)
