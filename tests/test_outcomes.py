"""What answers come to, image by image: the same bits however the images are cut."""

from dataclasses import fields

import numpy as np
import pytest

from onnxsemi._evaluation.outcomes import OUTCOME_BYTES, Outcomes
from onnxsemi._head import Head
from onnxsemi._stats.likelihood import LIKELIHOODS
from onnxsemi._stats.metric import Judge

COUNT = 97


def margins(logits, targets):
    return logits[np.arange(len(logits)), targets]


def given(head, classes):
    rng = np.random.default_rng(classes)
    reference = rng.normal(0, 5, (COUNT, classes)).astype(np.float32)
    logits = reference + rng.normal(0, 1, reference.shape).astype(np.float32)
    shape = (COUNT, classes) if head.per_label else COUNT
    return logits, reference, rng.integers(0, 2, shape)


def outcomes(head, arrays, part=slice(None), *, judged=False):
    logits, reference, labels = (array[part] for array in arrays)
    judge = Judge(margins, labels) if judged else None
    return Outcomes.of(logits, reference, labels, LIKELIHOODS[head], judge)


def plain(found):
    return {
        each.name: getattr(found, each.name).tobytes()
        for each in fields(found)
        if isinstance(getattr(found, each.name), np.ndarray)
    }


@pytest.mark.parametrize(
    ("head", "classes"), [(Head.SOFTMAX, 2), (Head.SOFTMAX, 1000), (Head.SIGMOIDS, 7)]
)
@pytest.mark.parametrize("size", [1, 8, 31, COUNT])
def test_cut_and_joined_they_are_those_of_all(head, classes, size):
    arrays = given(head, classes)
    whole = outcomes(head, arrays)
    parts = [outcomes(head, arrays, slice(start, start + size)) for start in range(0, COUNT, size)]
    assert plain(Outcomes.joined(parts)) == plain(whole)
    assert sum(map(len, plain(whole).values())) == OUTCOME_BYTES * COUNT


def test_values_of_a_metric_are_joined_and_chosen():
    arrays = given(Head.SOFTMAX, 5)
    whole = outcomes(Head.SOFTMAX, arrays, judged=True)
    parts = [outcomes(Head.SOFTMAX, arrays, part, judged=True) for part in halves()]
    joined = Outcomes.joined(parts)
    assert joined.values.each.tobytes() == whole.values.each.tobytes()
    some = np.array([90, 3, 3])
    assert whole.at(some).values.each.tolist() == whole.values.each[some].tolist()
    assert whole.at(some).margins.tolist() == whole.margins[some].tolist()
    assert joined.tested().values.sum == whole.tested().score.correct


def halves():
    return slice(0, 50), slice(50, COUNT)


def test_the_kl_is_the_mean_over_images_that_nothing_was_fitted_to():
    found = outcomes(Head.SOFTMAX, given(Head.SOFTMAX, 5))
    unseen = np.array([2, 50, 96])
    tested = found.tested(unseen)
    assert tested.kl == pytest.approx(found.kl[unseen].mean(), rel=1e-15)
    assert tested.score.correct == found.right.sum()
    assert tested.score.loss == found.loss.mean()
    assert tested.close.changed == COUNT - found.same.sum()
