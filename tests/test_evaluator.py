"""Trials on the images at risk, against the plain way: all images, the whole model."""

import numpy as np
import pytest
from residual_net import save_noise, save_residual_net

from onnxsemi._data.load import load_images
from onnxsemi._evaluation import evaluator as evaluator_module
from onnxsemi._evaluation.checker import RoundingChecker
from onnxsemi._evaluation.evaluator import ModelEvaluator, simulate
from onnxsemi._evaluation.folds import Fold, Folds
from onnxsemi._evaluation.recorder import RecordedEvaluator
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._run.journal import Journal
from onnxsemi._search.protocols import Score
from onnxsemi._stats.metrics import hits, kl_divergence
from onnxsemi._stats.risk import SAFE, Margins, label_margins

COUNT = 400


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    """Labels are the float model's answers for two images of three, so that margins differ."""
    folder = tmp_path_factory.mktemp("evaluator")
    options = ReadOptions(targets=TargetPolicy.ALL)
    classifier = read_model(save_residual_net(folder / "net.onnx"), options)
    image = classifier.ends.image
    data = save_noise(folder / "noise.npz", count=COUNT, seed=3)
    images = load_images(data, image.name, image.shape)
    plain = Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), 2)
    answers = plain.forward(classifier.proto).argmax(axis=1)
    answers[::3] = (answers[::3] + 1) % 5
    return Workload(classifier, images.with_labels(answers), Nearest(Scheme.ASYMMETRIC), 2)


@pytest.fixture
def evaluator(workload):
    return ModelEvaluator(workload, kl=lambda semilayers: np.zeros(len(semilayers)), seed=0)


def truth(workload, plan):
    """Hits by the plain way: bool[N]."""
    return hits(
        workload.forward(
            simulate(
                workload.classifier, rounded(workload.classifier.layers, plan, workload.rounding)
            )
        ),
        workload.labels,
    )


def changes(workload, plan):
    """Answers that are other ones than the float model's, by the plain way."""
    model = simulate(
        workload.classifier, rounded(workload.classifier.layers, plan, workload.rounding)
    )
    answers = [workload.forward(m).argmax(axis=1) for m in (workload.classifier.proto, model)]
    return (answers[0] != answers[1]).sum()


def plain_kl(workload, plan, images=slice(None)):
    """Mean KL against the float model by the plain way, nats."""
    model = simulate(
        workload.classifier, rounded(workload.classifier.layers, plan, workload.rounding)
    )
    reference = workload.forward(workload.classifier.proto)
    return kl_divergence(reference[images], workload.forward(model)[images]).mean()


@pytest.mark.parametrize("first", [32, 4])
def test_the_checker_measures_the_same_whatever_comes_first(workload, first):
    """A run that is taken up again asks for the float model's logits behind another plan."""

    def rounder(plan):
        return rounded(workload.classifier.layers, plan, workload.rounding)

    fresh = np.arange(1, COUNT, 3)
    folds = Folds(workload, (Fold(rounder, np.arange(COUNT)),))
    checker = RoundingChecker(folds, fresh)
    checker.check(BitPlan.uniform(workload.classifier.layers, first))
    for bits in (32, 8, 2):
        plan = BitPlan.uniform(workload.classifier.layers, bits)
        tested = checker.check(plan)
        assert tested.right.tolist() == truth(workload, plan).tolist()
        assert tested.kl == plain_kl(workload, plan, fresh)
        assert (tested.close.kl > tested.kl) == (bits != 32)
        assert tested.close.changed == changes(workload, plan)


def test_every_image_is_answered_by_the_rounding_of_its_fold(workload):
    """One fold rounds to the bits asked for, the other to 2 bits: the answers are of two models."""
    layers = workload.classifier.layers
    plan, narrow = (BitPlan.uniform(layers, bits) for bits in (6, 2))
    first = np.flatnonzero(np.random.default_rng(0).random(COUNT) < 0.3)
    others = np.setdiff1d(np.arange(COUNT), first)

    def rounder(_plan):
        return rounded(layers, narrow, workload.rounding)

    folds = (
        Fold(lambda plan: rounded(layers, plan, workload.rounding), others),
        Fold(rounder, first),
    )
    tested = RoundingChecker(Folds(workload, folds), first).check(plan)
    expected = np.where(
        np.isin(np.arange(COUNT), first), truth(workload, narrow), truth(workload, plan)
    )
    assert tested.right.tolist() == expected.tolist()
    assert tested.kl == pytest.approx(plain_kl(workload, narrow, first), rel=1e-5)


def begin(evaluator, workload):
    plan = BitPlan.uniform(workload.classifier.layers)
    evaluator.keep(plan, evaluator.check(plan))
    return plan


def test_check_is_the_plain_way(workload, evaluator):
    for bits in (32, 8, 2):
        plan = BitPlan.uniform(workload.classifier.layers, bits)
        tested = evaluator.check(plan)
        assert tested.right.tolist() == truth(workload, plan).tolist()
        assert tested.score == Score(tested.right.sum(), COUNT, COUNT, tested.score.loss)
        assert ((tested.margins > 0) <= tested.right).all()
        # a cut model's float32 sums differ in the last bits: ten of its logits' steps
        step = float(np.spacing(np.abs(evaluator.logits(plan)).max()))
        assert tested.kl == pytest.approx(plain_kl(workload, plan), rel=0, abs=10 * step)
        assert (tested.kl == 0) == (bits == 32)


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_trial_counts_what_all_images_count(workload, evaluator, bits):
    """Half a layer at a time, none broken off: the images at risk decide as all of them do."""
    start = begin(evaluator, workload)
    looked = []
    for layer in workload.classifier.layers:
        plan = start.with_bits(layer.name, range(0, layer.channels, 2), bits)
        tested = evaluator.trial(plan, None)
        assert tested.score.correct == truth(workload, plan).sum()
        looked.append(tested.score.measured)
    if bits == 8:
        assert max(looked) < COUNT / 2  # the point of it


def test_a_row_of_kept_plans_stays_right(workload, evaluator):
    plan = begin(evaluator, workload)
    for layer in workload.classifier.layers:
        plan = plan.with_bits(layer.name, range(layer.channels), 6)
        tested = evaluator.trial(plan, None)
        evaluator.keep(plan, tested)
        assert tested.score.correct == truth(workload, plan).sum()


def test_broken_off_only_when_decided(workload, evaluator):
    """A bar that is missed: the score is an upper bound below the bar; one that is met: exact."""
    start = begin(evaluator, workload)
    for layer in workload.classifier.layers:
        plan = start.with_bits(layer.name, range(layer.channels), 2)
        right = truth(workload, plan).sum()
        for bar in (int(right) + 1, int(right) + 60, int(right), 0):
            tested = evaluator.trial(plan, bar)
            assert (tested.score.correct >= bar) == (right >= bar)
            assert tested.score.correct >= right
            if right >= bar:
                assert tested.score.correct == right


def test_breaking_off_saves_images(workload, evaluator, monkeypatch):
    monkeypatch.setattr(evaluator_module, "WAVE_IMAGES", 16)
    start = begin(evaluator, workload)
    plan = BitPlan.uniform(workload.classifier.layers, 2)
    assert start.compression == 0
    whole = evaluator.trial(plan, None).score.measured
    assert evaluator.trial(plan, COUNT).score.measured < whole


def test_trial_without_a_current_plan_is_a_mistake(workload, evaluator):
    with pytest.raises(ValueError, match="current plan"):
        evaluator.trial(BitPlan.uniform(workload.classifier.layers, 8), None)


def test_recorded_measures_once_and_recalls_the_same(workload, evaluator, tmp_path):
    path = tmp_path / "journal.jsonl"
    layer = workload.classifier.layers[1]
    float_plan = BitPlan.uniform(workload.classifier.layers)
    narrow = float_plan.with_bits(layer.name, range(layer.channels), 4)

    def ask(recorded):
        first = recorded.check(float_plan)
        recorded.keep(float_plan, first)
        return [first, recorded.check(float_plan), recorded.trial(narrow, 3)]

    measured = ask(RecordedEvaluator(evaluator, Journal(path)))
    assert len(path.read_bytes().splitlines()) == 2
    recalled = ask(RecordedEvaluator(_NoMeasuring(), Journal(path)))
    for one, other in zip(measured, recalled, strict=True):
        assert one.score == other.score
        assert one.change == other.change
        assert one.kl == other.kl
        assert (one.kl is None) == (not one.score.in_full)
        for name in ("images", "margins", "right"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


class _NoMeasuring:
    """An evaluator that may not be asked."""

    def keep(self, _plan, _tested):
        pass

    def check(self, _plan):
        raise AssertionError

    trial = check


class TestRisk:
    def test_order_and_reach(self):
        margins = Margins(np.array([0.5, -0.1, 4.0, -9.0, 0.0]), np.ones(5, bool), np.zeros(5))
        none = np.array([], np.int64)
        assert margins.at_risk(1.0, none).tolist() == [4, 1, 0, 2]
        assert margins.at_risk(1.0, np.array([1])).tolist() == [4, 0, 2]
        assert margins.at_risk(0.1, none).tolist() == [4, 1]  # up to SAFE times the change
        assert margins.at_risk(0.0, none).tolist() == [4]
        assert SAFE == 4

    def test_drift_adds_up_and_is_cleared_by_looking(self):
        margins = Margins(np.array([1.0, 1.0]), np.ones(2, bool), np.zeros(2))
        one = np.array([1])
        for _ in range(16):
            margins = margins.updated(one, np.array([1.0]), np.array([True]), 0.2)
        assert margins.drift.tolist() == pytest.approx([16 * 0.2**2, 0])
        assert margins.at_risk(0.1, np.array([], np.int64)).tolist() == [0]

    def test_updated_takes_what_was_seen(self):
        before = Margins(np.array([1.0, 2.0]), np.array([True, True]), np.zeros(2))
        after = before.updated(np.array([1]), np.array([-3.0]), np.array([False]), 0.0)
        assert after.values.tolist() == [1.0, -3.0]
        assert after.right.tolist() == [True, False]
        assert before.values.tolist() == [1.0, 2.0]

    def test_label_margin(self):
        logits = np.array([[1.0, 3.0, 2.0], [5.0, 1.0, 5.0]], np.float32)
        assert label_margins(logits, np.array([1, 0])).tolist() == [1.0, 0.0]
        assert label_margins(logits, np.array([0, 1])).tolist() == [-2.0, -4.0]
