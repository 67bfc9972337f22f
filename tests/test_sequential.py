"""Rounding a plan layer after layer, and the table that its grids come from."""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from residual_net import residual_net, save_noise, save_residual_net

from onnxsemi._data.load import load_images
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.layer_groups import in_groups
from onnxsemi._model.outputs import with_outputs
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.shapes import image_shapes
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._quantizer.settings import RoundingSettings
from onnxsemi._rounding import im2col as columns_module
from onnxsemi._rounding import observed_layers as moments_module
from onnxsemi._rounding import sequential as sequential_module
from onnxsemi._rounding import target_output as target_output_module
from onnxsemi._rounding import walk as walk_module
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.observed_layers import observed_layers
from onnxsemi._rounding.second_moments import MomentSums
from onnxsemi._rounding.sequential import SequentialRounder, from_table
from onnxsemi._runtime.runner import Runner
from onnxsemi._runtime.sessions import Session
from onnxsemi._stats.metrics import kl_divergence

BITS = (8, 3, 1, 0)
HOW = RoundingSettings()


@pytest.fixture(scope="module", autouse=True)
def every_position():
    """Of the 64 positions of these tensors none is left out: means are those of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns_module, "FEWEST", columns_module.POSITIONS)
        yield


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    classifier = read_model(save_residual_net(folder / "net.onnx"), ReadOptions(targets="all"))
    noise = save_noise(folder / "noise.npz", count=90, seed=1)
    images = load_images(noise, "image", (None, 3, 8, 8))
    return Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), threads=2)


@pytest.fixture(scope="module")
def table(workload):
    return rounding_table(workload, BITS, HOW, 0, Silent())


def rounder(workload, table, how=HOW):
    return SequentialRounder(workload, table, how, 0)


def uniform(workload, bits):
    return BitPlan.uniform(workload.classifier.layers, bits)


def kl(workload, rounded):
    before = workload.forward(workload.classifier.proto)
    return float(
        np.mean(kl_divergence(before, workload.forward(simulate(workload.classifier, rounded))))
    )


def mixed(workload):
    plan = uniform(workload, 3)
    for number, name in enumerate(plan.bits):
        plan = plan.with_bits(name, range(number % 3), (8, 1, 32)[number % 3])
    return plan


def same(one, other):
    assert one.plan == other.plan
    for name, layer in one.layers.items():
        assert layer.weight.tobytes() == other.layers[name].weight.tobytes(), name
        mine, theirs = layer.bias, other.layers[name].bias
        assert (mine is None) == (theirs is None)
        assert mine is None or mine.tobytes() == theirs.tobytes()


class TestTable:
    def test_every_layer_at_every_bitwidth(self, workload, table):
        for layer in workload.classifier.layers:
            for bits in BITS:
                found = table.at(layer, bits)
                assert found.codes.shape == layer.weight.shape
                assert found.bits == bits
                shift = table.bias_shift(layer, bits)
                assert (shift is None) == (layer.name == "tied1")  # two nodes: biases stay

    def test_shift_takes_the_mean_of_what_rounding_changes(self, workload, table):
        """On the float model's inputs: of the stem, which takes the image, exactly that."""
        stem = workload.classifier.site("stem")
        weight = table.at(stem.layer, 1).dequantize()
        model = workload.classifier.with_weights({"stem": weight})
        before, after = (means(workload, m, "stem") for m in (workload.classifier.proto, model))
        shift = table.bias_shift(stem.layer, 1)
        scale = np.abs(before).max() + np.abs(after).max()
        np.testing.assert_allclose(after + shift, before, atol=1e-5 * scale)

    def test_no_bits_leave_the_mean_of_the_output(self, workload, table):
        stem = workload.classifier.site("stem")
        assert not table.at(stem.layer, 0).dequantize().any()
        before = means(workload, workload.classifier.proto, "stem")
        found = from_table(workload.classifier, table, uniform(workload, 0)).layers["stem"]
        np.testing.assert_allclose(found.bias, before, atol=1e-5 * np.abs(before).max())

    def test_without_bias_correction_there_is_no_shift(self, workload):
        how = RoundingSettings(bias_correction=False)
        found = rounding_table(workload, (3,), how, 0, Silent())
        assert all(found.bias_shift(layer, 3) is None for layer in workload.classifier.layers)

    def test_threads_and_memory_change_nothing(self, workload, table):
        other = replace(workload, threads=3, memory=1)
        found = rounding_table(other, BITS, HOW, 0, Silent())
        for layer in workload.classifier.layers:
            for bits in BITS:
                one, two = table.at(layer, bits), found.at(layer, bits)
                assert one.codes.tobytes() == two.codes.tobytes()
                assert one.scale.tobytes() == two.scale.tobytes()

    def test_layers_in_groups_give_the_same(self, workload, table, monkeypatch):
        """Each layer a group by itself: codes but for float32 noise, of the plan too."""
        alone = partial(in_groups, limit=1)
        for module in (moments_module, sequential_module):
            monkeypatch.setattr(module, "in_groups", alone)
        found = rounding_table(workload, BITS, HOW, 0, Silent())
        assert list(found.entries) == list(table.entries)
        for layer in workload.classifier.layers:
            for bits in BITS:
                one, two = table.at(layer, bits), found.at(layer, bits)
                assert np.mean(one.codes == two.codes) > 0.99
        plan = mixed(workload)
        one = rounder(workload, found)(plan, Silent())
        monkeypatch.undo()
        other = rounder(workload, found)(plan, Silent())
        for name, layer in one.layers.items():
            assert np.mean(layer.weight == other.layers[name].weight) > 0.99


def means(workload, model, tensor):
    """Mean of a tensor's channels over all images and positions (no more than are drawn)."""
    session = Session(with_outputs(model, [tensor]).SerializeToString())
    values = session.run({"image": workload.images.batch(0, len(workload.images))})[tensor]
    return values.astype(np.float64).mean(axis=(0, *range(2, values.ndim)))


class TestSequential:
    def test_bias_correction_keeps_the_mean_of_every_output(self, workload, table):
        """Of a layer that is only added to a shortcut, the mean of the sum."""
        found = simulate(workload.classifier, rounder(workload, table)(mixed(workload), Silent()))
        for tensor in ("stem", "c1", "sum", "dw", "scores"):
            before, after = (means(workload, m, tensor) for m in (workload.classifier.proto, found))
            spread = np.abs(before).max() + np.abs(after).max()
            np.testing.assert_allclose(after, before, atol=1e-4 * spread, err_msg=tensor)

    def test_codes_lie_on_the_grids_of_the_table(self, workload, table):
        plan = mixed(workload)
        found = rounder(workload, table)(plan, Silent())
        for layer in workload.classifier.layers:
            bits_of = np.array(plan.bits[layer.name])
            for bits, channels in found.layers[layer.name].quantized.items():
                rows = np.flatnonzero(bits_of == bits)
                assert channels.scale.tobytes() == table.at(layer, bits).scale[rows].tobytes()
            kept = bits_of == 32
            weight = found.layers[layer.name].weight
            assert (weight[kept] == layer.weight[kept]).all()

    def test_nothing_quantized_is_the_float_model(self, workload, table):
        found = rounder(workload, table)(uniform(workload, 32), Silent())
        assert kl(workload, found) == 0

    def test_eight_bits_hardly_change_anything(self, workload, table):
        assert kl(workload, rounder(workload, table)(uniform(workload, 8), Silent())) < 1e-4

    def test_better_than_rounding_for_the_float_models_inputs(self, tmp_path, workload):
        """Over several nets; on one the other may win by chance."""
        ratios = []
        for seed in range(4):
            path = tmp_path / f"{seed}.onnx"
            onnx.save(residual_net(seed), path)
            net = replace(workload, classifier=read_model(path, ReadOptions(targets="all")))
            table = rounding_table(net, (3,), HOW, 0, Silent())
            plan = uniform(net, 3)
            alone = kl(net, from_table(net.classifier, table, plan))
            ratios.append(kl(net, rounder(net, table)(plan, Silent())) / alone)
        assert np.exp(np.mean(np.log(ratios))) < 0.8

    @pytest.mark.parametrize("method", ["gptq", "nearest"])
    def test_threads_and_memory_change_nothing(self, workload, table, method):
        how, plan = RoundingSettings(method=method), mixed(workload)
        one = rounder(workload, table, how)(plan, Silent())
        for changes in ({"threads": 1}, {"threads": 3, "memory": 1}):
            same(one, rounder(replace(workload, **changes), table, how)(plan, Silent()))

    def test_every_node_runs_once_a_plan(self, workload, table, monkeypatch):
        """But for the shortcut, which is looked at before its weights are rounded."""
        give, run = rounder(workload, table), []
        segment_model = walk_module.segment_model

        def spy(classifier, part, *weights):
            run.extend(classifier.proto.graph.node[i].name for i in part.nodes)
            return segment_model(classifier, part, *weights)

        monkeypatch.setattr(walk_module, "segment_model", spy)
        give(uniform(workload, 3), Silent())
        (short,) = workload.classifier.site("short").nodes
        assert run.count(short) == 2
        run.remove(short)
        assert len(run) == len(set(run))
        (last,) = workload.classifier.site("scores").nodes
        assert last not in run

    def test_no_layer_waits_for_a_block_that_is_gone_on_with(self, workload, table, monkeypatch):
        """The blocks of images are passed once a node: gone on with and looked at together."""
        passed, way = [], Runner.map
        give = rounder(workload, table)
        give(uniform(workload, 3), Silent())
        monkeypatch.setattr(Runner, "map", lambda *given: passed.append(1) or way(*given))
        give(uniform(workload, 8), Silent())
        assert len(passed) <= sum(len(site.nodes) for site in workload.classifier.sites)

    def test_the_distance_follows_from_the_columns(self, workload):
        """As if the model had been run up to the output."""
        shapes = image_shapes(workload.classifier, (3, 8, 8))
        pixels = workload.images.batch(0, 20)
        for layer in (
            found
            for found in observed_layers(workload.classifier, workload.image)
            if len(found.site.nodes) == 1
        ):
            target_output = target_output_module._target_output(workload.classifier, layer, shapes)
            assert target_output.bias is not None
            names = {target_output.source, target_output.tensor, *target_output.seen} - {"image"}
            model = with_outputs(workload.classifier.proto, names).SerializeToString()
            values = Session(model).run({"image": pixels}) | {"image": pixels}
            positions = layer.patches[0].positions(0, 0)
            drawn = target_output.drawn(values[target_output.tensor], positions)
            wanted = np.zeros((len(drawn), drawn[0].size), np.float32)
            sums = []
            for way in (target_output, replace(target_output, bias=None)):
                patches = layer.patches[0]
                sums.append(MomentSums(patches.groups, patches.size, layer.site.layer.channels))
                sums[-1].add(way.block(sums[-1], values, positions, wanted))
            one, other = (found.moments(centred=False, damping=np.zeros(1)) for found in sums)
            assert one.second.tobytes() == other.second.tobytes()
            for mine, direct in ((one.cross, other.cross), (one.offset, other.offset)):
                np.testing.assert_allclose(mine, direct, atol=1e-5 * np.abs(direct).max())

    def test_few_images_in_a_run_change_nothing(self, workload, table, monkeypatch):
        plan = uniform(workload, 3)
        whole = rounder(workload, table)(plan, Silent())
        monkeypatch.setattr(target_output_module, "RUN_BYTES", 1)
        counts, batches = list[int](), Runner.batches

        def counted(self, count, most):
            counts.append(most)
            return batches(self, count, most)

        monkeypatch.setattr(Runner, "batches", counted)
        assert rounder(workload, table)(plan, Silent()).sha256 == whole.sha256
        assert 1 in counts

    def test_again_is_the_same(self, workload, table):
        give, plan = rounder(workload, table), mixed(workload)
        one = give(plan, Silent())
        give(uniform(workload, 8), Silent())
        same(one, give(plan, Silent()))

    def test_fixed_batch(self, tmp_path, workload):
        model = residual_net()
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 32
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 32
        onnx.save(model, tmp_path / "fixed.onnx")
        net = read_model(tmp_path / "fixed.onnx", ReadOptions(targets="all"))
        fixed = replace(workload, classifier=net)
        table = rounding_table(fixed, (3,), HOW, 0, Silent())
        found = rounder(fixed, table)(uniform(fixed, 3), Silent())
        assert np.isfinite(fixed.forward(simulate(net, found))).all()
