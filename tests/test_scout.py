"""A quick look at a plan of a small net against measuring it, and codes that are known already."""

from dataclasses import replace

import numpy as np
import pytest
from residual_net import save_noise, save_residual_net

from onnxsemi._data.load import load_images
from onnxsemi._evaluation import scout as scout_module
from onnxsemi._evaluation.checker import RoundingChecker
from onnxsemi._evaluation.folds import Fold, Folds
from onnxsemi._evaluation.scout import RoundedScout
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.sequential import SequentialRounder
from onnxsemi._rounding.walk import Walk
from onnxsemi._search.guard import PointGuard
from onnxsemi._stats.paired import Paired

IMAGES = 400
STRICT = PointGuard(max_drop=0.0)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    classifier = read_model(save_residual_net(folder / "net.onnx"), ReadOptions(targets="all"))
    noise = save_noise(folder / "noise.npz", count=IMAGES, seed=1)
    images = load_images(noise, "image", (None, 3, 8, 8))
    plain = Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), threads=2)
    answers = plain.forward(classifier.proto).argmax(axis=1)
    answers[::7] = (answers[::7] + 1) % 5  # not all are right
    return replace(plain, images=images.with_labels(answers))


def nearest(workload):
    return lambda plan: rounded(workload.classifier.layers, plan, workload.rounding)


def scout_of(workload, guard=STRICT):
    return RoundedScout(workload, nearest(workload), guard)


def measured(workload, plan):
    folds = Folds(workload, (Fold(nearest(workload), np.arange(IMAGES)),))
    checker = RoundingChecker(folds, np.arange(IMAGES))
    float_model = checker.check(plan.all_float())
    return Paired.of(float_model.right, checker.check(plan).right), checker.check(plan)


def uniform(workload, bits):
    return BitPlan.uniform(workload.classifier.layers, bits)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_part_of_the_images_tells_of_all(workload, bits):
    plan = uniform(workload, bits)
    looked, (paired, tested) = scout_of(workload).look(plan), measured(workload, plan)
    assert looked.score.measured == IMAGES // 4 + np.ceil(0.75 * IMAGES / 8)
    assert looked.score.total == IMAGES
    assert looked.whole
    assert looked.paired.total == IMAGES
    assert looked.paired.before == paired.before
    changed = [pair.broken + pair.fixed for pair in (looked.paired, paired)]
    assert abs(changed[0] - changed[1]) <= 8 + 0.25 * changed[1]
    assert looked.kl == pytest.approx(tested.kl, rel=0.4)
    assert looked.close.kl > looked.kl


def test_run_on_every_image_it_is_what_is_measured(workload, monkeypatch):
    monkeypatch.setattr(scout_module, "EVERY", 1)
    plan = uniform(workload, 2)
    looked, (paired, tested) = scout_of(workload).look(plan), measured(workload, plan)
    assert looked.paired == paired
    assert looked.kl == pytest.approx(tested.kl, rel=1e-12)
    assert looked.close.changed == tested.close.changed
    assert looked.close.kl == pytest.approx(tested.close.kl, rel=1e-12)


def test_each_image_is_stood_for_once(workload):
    (risky, ones), (others, counts) = scout_of(workload)._images
    assert ones.sum() + counts.sum() == IMAGES
    assert len({*risky.tolist(), *others.tolist()}) == len(risky) + len(others)
    logits = workload.forward(workload.classifier.proto)
    margins = np.abs(workload.likelihood.margins(logits, workload.labels))
    assert margins[risky].max() <= margins[others].min()


def test_a_hopeless_plan_is_run_on_the_images_at_risk_only(workload, monkeypatch):
    monkeypatch.setattr(scout_module, "MOST_NATS", 1e-4)
    run, ran = RoundedScout._run, []
    monkeypatch.setattr(
        RoundedScout,
        "_run",
        lambda self, model, images: ran.append(len(images)) or run(self, model, images),
    )
    looked = scout_of(workload).look(uniform(workload, 1))
    assert ran == [IMAGES // 4]
    assert not looked.whole
    assert looked.kl > 1e-4
    ran.clear()
    assert scout_of(workload, PointGuard(max_drop=100)).look(uniform(workload, 1)).whole
    assert len(ran) == 2  # it is not refused


def test_layers_before_the_first_that_differs_are_known(workload, monkeypatch):
    how = RoundingSettings()
    table = rounding_table(workload.first(64), (8, 3, 2), how, 0, Silent())
    give = SequentialRounder(workload.first(64), table, how, 0)
    plan, passed = uniform(workload, 3), []
    names = [target.layer.name for step in give._steps for target, _ in step.target_outputs]
    place = len(names) // 2
    other = plan.with_layers([names[place]], 2)
    known, alone = give(plan, Silent()), give(other, Silent())
    pass_layer = Walk.pass_layer
    monkeypatch.setattr(
        Walk,
        "pass_layer",
        lambda self, *given: passed.append(given[0].layer.name) or pass_layer(self, *given),
    )
    found = give(other, Silent(), known)
    assert passed == names[place:]
    passed.clear()
    [hidden, *_] = plan.bits.keys() - set(names)  # cannot be looked at, and lies anywhere
    give(other.with_layers([hidden], 2), Silent(), known)
    assert passed == names
    assert place > 0
    for name in plan.bits:
        assert found.layers[name].weight.tobytes() == alone.layers[name].weight.tobytes()
