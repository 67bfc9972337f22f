"""What is found of a model is found once, and kept with it."""

from dataclasses import replace

import pytest
from residual_net import residual_net

from onnxsemi._model import shapes as rows
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.fact import fact
from onnxsemi._model.reader import read_model
from onnxsemi._model.segments import find_chain, find_steps
from onnxsemi._model.shapes import extents, image_shapes
from onnxsemi._sensitivity.probe import ForwardGraph

IMAGE = (3, 8, 8)


@pytest.fixture
def classifier():
    return read_model(residual_net())


def test_once_for_whatever_it_is_about(classifier):
    asked = []

    @fact
    def twice(_classifier, number):
        asked.append(number)
        return 2 * number

    assert [twice(classifier, n) for n in (1, 2, 1)] == [2, 4, 2]
    assert asked == [1, 2]


def test_facts_are_those_of_one_classifier(classifier):
    found = extents(classifier, IMAGE)
    assert extents(classifier, IMAGE) is found
    other = replace(classifier, notes=("another",))
    assert extents(other, IMAGE) is not found
    assert extents(other, IMAGE) == found


def test_shapes_are_found_once(classifier, monkeypatch):
    sessions, session = [], rows.Session
    monkeypatch.setattr(rows, "Session", lambda *a, **k: sessions.append(a) or session(*a, **k))
    for _ in range(2):
        image_shapes(classifier, IMAGE)
        find_chain(classifier, IMAGE)
        find_steps(classifier, IMAGE)
        ForwardGraph.of(classifier, IMAGE)
    assert len(sessions) == 1


def test_a_bias_cannot_be_written_to(classifier):
    bias = correctable_bias(classifier, classifier.sites[0])
    with pytest.raises(ValueError, match="read-only"):
        bias[0] = 1
