"""Work that is handed over gives the bits of work that is not."""

from dataclasses import replace

import numpy as np
import pytest
from residual_net import save_noise, save_residual_net
from sending_engine import SendingEngine

from onnxsemi._data import source
from onnxsemi._data.load import load_images
from onnxsemi._evaluation import float_answers as answers_module
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.plan_model import PlanModel
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding import aimed_layer
from onnxsemi._rounding import layer as layer_module
from onnxsemi._rounding import shares as dealing
from onnxsemi._rounding.aimed_layer import row_parts
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.sequential import SequentialRounder
from onnxsemi._rounding.spread_walk import SpreadRounder
from onnxsemi._rounding.target_output import find_target_outputs
from onnxsemi._run.journal import Journal
from onnxsemi._runtime.batch_sizes import ROUNDED_ROWS
from onnxsemi._runtime.engine import MOST_TASK_IMAGES, TASK_IMAGES
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.output_error import output_errors
from onnxsemi._sensitivity.variants import Variant, measure_variants

IMAGES = 200
BITS = (4, 2)


@pytest.fixture
def workload(tmp_path):
    classifier = read_model(save_residual_net(tmp_path / "net.onnx"), ReadOptions(targets="all"))
    noise = save_noise(tmp_path / "noise.npz", count=IMAGES, seed=1)
    images = load_images(noise, "image", (None, 3, 8, 8))
    return Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), threads=1)


def spread(workload, **given):
    return replace(workload, engine=SendingEngine(**given))


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        assert np.asarray(found[name]).tobytes() == np.asarray(own).tobytes(), name


def test_answers_of_the_float_model_and_of_a_plan(workload):
    plan = BitPlan.uniform(workload.classifier.layers, 3)
    codes = rounded(workload.classifier.layers, plan, workload.rounding)
    there = spread(workload)
    assert there.float_logits().tobytes() == workload.float_logits().tobytes()
    own, sent = (one.outcomes(PlanModel(codes, simulate)) for one in (workload, there))
    same(vars(sent), vars(own))
    assert there.engine.begun.count("_outcomes") == -(-IMAGES // TASK_IMAGES)
    assert not own.same.all()


def test_images_that_are_read_where_they_are_needed(workload, tmp_path, monkeypatch):
    expected = workload.float_logits()
    monkeypatch.setattr(source, "MEMORY_LIMIT", 0)
    images = load_images(tmp_path / "noise.npz", "image", (None, 3, 8, 8))
    for sees_files in (True, False):
        there = spread(replace(workload, images=images), sees_files=sees_files)
        assert there.float_logits().tobytes() == expected.tobytes()


@pytest.mark.parametrize("shares", [1, 2, 3])
@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_a_plan_is_rounded_by_one_or_by_several(workload, shares, coded, wide, monkeypatch):
    monkeypatch.setattr(dealing, "shares_for", lambda *_: shares)
    monkeypatch.setattr(dealing, "ADDED", 2)
    if wide:  # as if every layer were
        monkeypatch.setattr(aimed_layer, "WIDE", 0)
        monkeypatch.setattr(dealing, "PART_BYTES", 512)
        for module in (aimed_layer, layer_module):
            monkeypatch.setattr(module, "ROUNDED_ROWS", 3)
    settings, widths = RoundingSettings(), (4, 3)
    table = rounding_table(workload, widths, settings, 0, Silent())
    plan = BitPlan.uniform(workload.classifier.layers, 4)
    some = plan.with_layers([plan_layer(plan, -1)], 3)
    if coded:
        some = some.with_layers([plan_layer(plan, 1)], 32)
    alone = SequentialRounder(workload, table, settings, 0)
    there = spread(workload)
    rounder = SpreadRounder(there, table, settings, 0)
    first = [one(plan, Silent()) for one in (alone, rounder)]
    second = [
        one(some, Silent(), known) for one, known in zip((alone, rounder), first, strict=True)
    ]
    for expected, found in (first, second):
        assert found.plan == expected.plan
        same(weights(found), weights(expected))
    for task in ("row_codes", "added_rows"):
        assert (task in there.engine.begun) == (wide and shares > 1)


@pytest.mark.parametrize(("workers", "beside"), [(4, True), (3, False)])
def test_plans_that_are_likely_to_come_are_begun_beside_one(workload, workers, beside, monkeypatch):
    monkeypatch.setattr(dealing, "shares_for", lambda *_: 2)
    settings, widths = RoundingSettings(), (4, 3, 2)
    table = rounding_table(workload, widths, settings, 0, Silent())
    one, other, third = (BitPlan.uniform(workload.classifier.layers, b) for b in widths)
    there, alone = (
        spread(workload, workers=workers),
        SequentialRounder(workload, table, settings, 0),
    )
    rounder = SpreadRounder(there, table, settings, 0)
    rounder.foresee([other, third])
    same(weights(rounder(one, Silent())), weights(alone(one, Silent())))
    begun = len(there.engine.begun)
    same(weights(rounder(other, Silent())), weights(alone(other, Silent())))
    assert (len(there.engine.begun) == begun) == beside
    begun = len(there.engine.begun)
    same(weights(rounder(third, Silent())), weights(alone(third, Silent())))
    assert len(there.engine.begun) > begun  # of no use any longer, it was dropped


def plan_layer(plan, place):
    return list(plan.bits)[place]


def weights(found):
    return {
        f"{name} {what}": value
        for name, layer in found.layers.items()
        for what, value in (("weight", layer.weight), ("bias", layer.bias))
        if value is not None
    }


@pytest.mark.parametrize("shares", [1, 3])
def test_the_rounding_table(workload, shares, monkeypatch):
    monkeypatch.setattr(dealing, "shares_for", lambda *_: shares)
    monkeypatch.setattr(dealing, "ADDED", 2)
    settings, there = RoundingSettings(), spread(workload)
    own, sent = (rounding_table(one, BITS, settings, 0, Silent()) for one in (workload, there))
    assert ("_round_layers" in there.engine.begun) == (shares == 1)
    for name, entries in own.entries.items():
        for bits, channels in entries.items():
            assert sent.entries[name][bits].codes.tobytes() == channels.codes.tobytes()
            assert sent.entries[name][bits].scale.tobytes() == channels.scale.tobytes()
    same(sent.damping, own.damping)


def test_backward_passes(workload):
    names = [layer.name for layer in workload.classifier.layers]
    own, sent = (
        FastMeasurement(one, names, BITS, 0).measure(Silent(), lambda: None)
        for one in (workload, spread(workload))
    )
    same(sent.delta_loss().nats, own.delta_loss().nats)
    same(sent.kl_increase().nats, own.kl_increase().nats)


def test_exact_measurements(workload):
    site, there = workload.classifier.site("c2"), spread(workload)
    variants = [Variant((c,), b) for c in range(8) for b in range(1, 9)] + [Variant((0, 1), 2)]
    own, sent = (measure_variants(one, site, variants, lambda _: None) for one in (workload, there))
    same(vars(sent), vars(own))
    assert there.engine.begun == ["_measure_here"] * 2


def test_errors_of_outputs(workload):
    names = [layer.name for layer in workload.classifier.layers]
    own, sent = (
        output_errors(one, names, BITS, Silent(), Journal()) for one in (workload, spread(workload))
    )
    same(sent, own)


class TestSizes:
    @pytest.mark.parametrize(
        ("seconds", "images"),
        [(0.0, TASK_IMAGES), (1.0, TASK_IMAGES), (0.001, 250), (1e-6, MOST_TASK_IMAGES)],
    )
    def test_of_a_task(self, workload, seconds, images, monkeypatch):
        monkeypatch.setattr(answers_module.FloatAnswers, "image_seconds", seconds)
        assert workload.task_images == images

    @pytest.mark.parametrize(
        ("workers", "seconds", "shares"), [(64, 0.0, 1), (64, 1e-5, 1), (4, 1.0, 4), (64, 1.0, 32)]
    )
    def test_who_share_a_plan(self, workload, workers, seconds, shares):
        layers = len(find_target_outputs(workload.classifier, workload.image))
        assert dealing.shares_for(workers, 1024, seconds, layers) == shares

    @pytest.mark.parametrize(
        ("channels", "columns", "workers", "parts"),
        [
            (16 * ROUNDED_ROWS, 512, 64, 16),
            (16 * ROUNDED_ROWS, 512, 3, 3),
            (16 * ROUNDED_ROWS, 128, 64, 1),
            (ROUNDED_ROWS, 4608, 64, 1),
        ],
    )
    def test_the_rows_of_a_layer(self, workload, channels, columns, workers, parts):
        (layer, *_) = find_target_outputs(workload.classifier, workload.image)
        weight = np.zeros((channels, columns, 1, 1), np.float32)
        site = replace(layer.layer.site, layer=replace(layer.layer.site.layer, weight=weight))
        patches = replace(layer.layer.patches[0], groups=1, size=columns)
        wide = replace(layer, layer=replace(layer.layer, site=site, patches=(patches,)))
        found = row_parts(wide, workers)
        assert len(found) == parts
        rows = [row for part in found for row in range(channels)[part]]
        assert rows == list(range(channels))
        assert all(part.start % ROUNDED_ROWS == 0 for part in found)
