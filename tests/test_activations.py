"""Activations in uint8: calibrated ranges, and the nodes that integer kernels need."""

from collections import Counter

import numpy as np
import onnx
import openvino
import pytest
from emitting import (
    MIXES,
    OPERATORS,
    ROUNDINGS,
    check_weights,
    conv_model,
    nearest,
    plan_of,
    read,
    with_biases,
)
from onnx import helper, version_converter
from onnx.reference import ReferenceEvaluator
from onnx_models import HEAD, SAME, Net, conv, head_shapes
from residual_net import residual_net

from onnxsemi._emit.activations import Activation, used_ranges
from onnxsemi._emit.integer_kernels import kernels_of
from onnxsemi._emit.model import emit, put_together
from onnxsemi._emit.profile import FORMS, Profile
from onnxsemi._emit.stored_weights import read_stored
from onnxsemi._errors import ModelError
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import rounded
from onnxsemi._runtime import sessions as runtime
from onnxsemi._runtime.calibration import Calibration, activation_ranges
from onnxsemi._runtime.sessions import Session, fused

# onnx 1.23's reference evaluator fails on it
NOT_IN_THE_REFERENCE = "transposed-grouped"
# OpenVINO 2026.4 gives wrong answers to some images of a batch above 7, right ones to each alone
WRONG_BATCHES_IN_OPENVINO = "conv1d"


def noise(count):
    return np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)


def batches():
    return [{"image": part} for part in np.split(noise(12), 3)]


@pytest.fixture
def classifier(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(residual_net(), path)
    return read_model(path, ReadOptions(targets=TargetPolicy.CONV))


def test_minmax_is_the_smallest_and_the_largest_value(classifier):
    ranges = activation_ranges(classifier.proto, batches(), Calibration.MINMAX)
    proto = onnx.ModelProto()
    proto.CopyFrom(classifier.proto)
    names = ["a", "c1r", "s"]
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    values = Session(proto.SerializeToString(), optimize=False).run({"image": noise(12)})
    for name in names:
        expected = (float(values[name].min()), float(values[name].max()))
        assert ranges[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", [Calibration.ENTROPY, Calibration.PERCENTILE])
def test_histograms_never_go_beyond_the_extremes(method, classifier, capfd):
    extremes = activation_ranges(classifier.proto, batches(), Calibration.MINMAX)
    found = activation_ranges(classifier.proto, batches(), method)
    assert found["a"] != extremes["a"]
    assert 0 < found["a"][1] <= extremes["a"][1] * (1 + 1e-6)
    assert activation_ranges(classifier.proto, batches(), method) == found
    assert capfd.readouterr() == ("", "")


def test_images_that_the_model_cannot_take(classifier):
    with pytest.raises(ModelError, match="cannot calibrate"):
        activation_ranges(classifier.proto, [{"image": noise(2)[:, :1]}], Calibration.MINMAX)


@pytest.mark.parametrize(
    ("low", "high", "zero_point", "scale"),
    [(0, 2.55, 0, 0.01), (-1.275, 1.275, 128, 0.01), (1, 2.55, 0, 0.01), (-2.55, -1, 255, 0.01)],
)
def test_zero_is_on_the_grid(low, high, zero_point, scale):
    grid = Activation.of_range(low, high)
    assert grid.scale == pytest.approx(scale)
    assert abs(int(grid.zero_point) - zero_point) <= 1


@pytest.mark.parametrize(("low", "high"), [(0, 1.27), (-1.27, 0.5), (0.3, 1.27), (-1.27, -1)])
def test_a_signed_grid_is_centred_on_zero(low, high):
    grid = Activation.of_range(low, high, signed=True)
    assert grid.scale == pytest.approx(0.01)
    assert grid.zero_point == 0
    assert grid.zero_point.dtype == np.int8


@pytest.mark.parametrize("signed", [False, True])
def test_a_tensor_that_is_always_zero_has_a_scale(signed):
    assert Activation.of_range(0, 0, signed=signed).scale > 0


def calibrated(classifier, images):
    batches = [{classifier.ends.image.name: part} for part in np.split(images, 3)]
    return used_ranges(classifier, activation_ranges(classifier.proto, batches, Calibration.MINMAX))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def check_outputs(model, classifier, codes, ranges, images, operator=""):
    """Exactly the grids' answers without optimisation; elsewhere as much noise as they make."""
    feed = {classifier.ends.image.name: images}
    name = classifier.ends.output
    on_grids = put_together(classifier, codes, FORMS[Profile.FAKE], ranges)
    on_grids.ir_version = model.ir_version
    written, simulated, weights_only = (
        m.SerializeToString() for m in (model, on_grids, simulate(classifier, codes))
    )
    exact = Session(written, optimize=False).run(feed)[name]
    assert exact.tobytes() == Session(simulated, optimize=False).run(feed)[name].tobytes()
    noise = rms(exact - Session(weights_only).run(feed)[name])
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(written), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    parts = np.split(images, 12 if operator == WRONG_BATCHES_IN_OPENVINO else 1)
    answers = [
        Session(written, integers=True).run(feed)[name],
        np.concatenate([compiled([part])[0] for part in parts]),
    ]
    if operator != NOT_IN_THE_REFERENCE:
        newer = version_converter.convert_version(model, 20)  # it has these from opset 19 on
        answers.append(ReferenceEvaluator(newer).run(None, feed)[0])
    for found in answers:
        assert rms(found - exact) <= 2 * noise + 1e-5 * rms(exact)


@pytest.mark.slow
@pytest.mark.parametrize("mix", [(6, 3, 4), (6, 3, 32, 4)], ids=["quantized", "with-float"])
@pytest.mark.parametrize("biased", [True, False], ids=["biased", "unbiased"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator(operator, biased, mix, tmp_path):
    classifier = read(conv_model(operator, biased), tmp_path)
    plan, spatial = plan_of(classifier, mix), len(OPERATORS[operator][1]) - 2
    images = np.random.default_rng(1).normal(size=(12, 4, *[6] * spatial)).astype(np.float32)
    ranges = calibrated(classifier, images)
    codes = nearest(classifier, plan, Scheme.SYMMETRIC)
    model = emit(classifier, codes, Profile.INT8, ranges)
    onnx.checker.check_model(model, full_check=True)
    check_weights(model, classifier, codes)
    check_outputs(model, classifier, codes, ranges, images, operator)
    path = tmp_path / "written.onnx"
    onnx.save(model, path)
    kernels = kernels_of(path, classifier, plan)
    if 32 in mix:
        assert not kernels.integer
        assert len(kernels.floating) == 4
        return
    assert kernels.integer.pop("third") in ("MatMulIntegerToFloat", "QLinearMatMul")
    expected = {"second": "QLinearConv", "fourth": "QGemm"}
    if operator.startswith("transposed"):
        reason = "ONNX Runtime has no integer kernel for ConvTranspose"
        assert kernels.floating == {"first": reason}
    else:
        assert not kernels.floating
        expected["first"] = "QLinearConv"
    assert kernels.integer == expected


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["symmetric", "symmetric-halves"])
@pytest.mark.parametrize("mix", MIXES)
def test_every_mix_of_bitwidths_on_a_residual_net(mix, rounding, tmp_path):
    """With biases of their own in three layers, one of them a Gemm's."""
    classifier = read(residual_net(), tmp_path)
    plan = plan_of(classifier, MIXES[mix])
    ranges = calibrated(classifier, noise(12))
    codes = rounded(classifier.layers, plan, ROUNDINGS[rounding])
    if rounding == "symmetric-halves":
        codes = with_biases(codes, ["c1", "c2", "scores"])
    model = emit(classifier, codes, Profile.INT8, ranges)
    check_weights(model, classifier, codes)
    check_outputs(model, classifier, codes, ranges, noise(12))
    onnx.save(model, tmp_path / "written.onnx")
    kernels = kernels_of(tmp_path / "written.onnx", classifier, plan)
    if 32 in MIXES[mix]:
        assert set(kernels.floating.values()) == {"it has float32 channels"}
    else:
        assert len(kernels.integer) == 8
        assert not kernels.floating
    held = {layer.name: layer for layer in read_stored(model).layers}
    for layer in classifier.layers:
        counts = Counter(plan.bits[layer.name].tolist())
        found = {group.bits: group.channels for group in held[layer.name].groups}
        assert found == counts


def test_integer_kernels_whose_sums_do_not_overflow(tmp_path, monkeypatch):
    """What a processor without VNNI gets: the same answers bit for bit, as sums are exact.

    On such a processor the faster kernels' sums are exact up to 7 bits only.
    """
    widest = 7 if runtime._integers_overflow() else 8
    options = ReadOptions(targets=TargetPolicy.ALL, exclude=("tied1",))
    classifier = read(residual_net(), tmp_path, options)
    feed, ranges = {"image": noise(12)}, calibrated(classifier, noise(12))
    for mix in ((widest,), (widest, 6, 4), (widest, 32)):
        plan = plan_of(classifier, mix)
        model = emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.INT8, ranges)
        found = []
        for overflow in (False, True):
            monkeypatch.setattr(runtime, "_integers_overflow", lambda overflow=overflow: overflow)
            found.append(Session(model.SerializeToString(), integers=True).run(feed)["scores"])
        assert found[0].tobytes() == found[1].tobytes()


def test_layers_that_are_no_target_run_in_float32(tmp_path):
    """ONNX Runtime 1.32 rounds float32 weights between quantized activations itself, if it can."""
    options = ReadOptions(targets=TargetPolicy.ALL, exclude=("short", "dw", "scores"))
    classifier = read(residual_net(), tmp_path, options)
    plan, ranges = BitPlan.uniform(classifier.layers, 8), calibrated(classifier, noise(12))
    model = emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.INT8, ranges)
    graph = onnx.load_model_from_string(runtime.fused(model.SerializeToString())).graph
    kinds = {node.name: node.op_type for node in graph.node}
    assert (kinds["short"], kinds["dw"]) == ("Conv", "Conv")
    floats = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert all(n.input[1] in floats for n in graph.node if n.op_type in ("Conv", "Gemm"))
    targets = {"stem", "c1", "c2", "tied1", "tied2"}
    assert {kinds[name] for name in targets} == {"QLinearConv"}
    check_outputs(model, classifier, nearest(classifier, plan, Scheme.SYMMETRIC), ranges, noise(12))


def test_a_pooling_behind_a_float_layer_stays_float(tmp_path):
    """ONNX Runtime would move the QuantizeLinear before it, where it is slow.

    At 7 bits, as OpenVINO's sums overflow on processors without VNNI at 8.
    """
    net = residual_net()
    for node in net.graph.node:
        node.input[:] = ["pooled_a" if name == "a" else name for name in node.input]
    pool = helper.make_node(
        "MaxPool", ["a"], ["pooled_a"], kernel_shape=[3, 3], pads=[1] * 4, name="pool"
    )
    net.graph.node.insert(2, pool)
    for policy, before in ((TargetPolicy.HIDDEN, "Conv"), (TargetPolicy.CONV, "QLinearConv")):
        classifier = read(net, tmp_path, ReadOptions(targets=policy))
        plan, ranges = BitPlan.uniform(classifier.layers, 7), calibrated(classifier, noise(12))
        model = emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.INT8, ranges)
        check_outputs(
            model, classifier, nearest(classifier, plan, Scheme.SYMMETRIC), ranges, noise(12)
        )
        graph = onnx.load_model_from_string(runtime.fused(model.SerializeToString())).graph
        producers = {name: node for node in graph.node for name in node.output}
        (pool,) = (node for node in graph.node if node.op_type == "MaxPool")
        assert producers[pool.input[0]].op_type.removeprefix("Fused") == before


def test_nodes_that_share_a_weight_have_a_tail_each(tmp_path):
    """ONNX Runtime 1.19 fuses no DequantizeLinear that two nodes share; the codes are stored once.

    The second reads them through a Transpose, as 1.32 fails where two share one constant.
    """
    classifier = read(residual_net(), tmp_path)
    plan, ranges = BitPlan.uniform(classifier.layers, 8), calibrated(classifier, noise(12))
    model = emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.INT8, ranges)
    producers = {name: node for node in model.graph.node for name in node.output}
    weights = {node.name: node.input[1] for node in model.graph.node if node.name}
    tails = [producers[weights[name]] for name in ("tied1", "tied2")]
    assert [tail.op_type for tail in tails] == ["DequantizeLinear"] * 2
    (codes, copied) = (tail.input[0] for tail in tails)
    assert producers[copied].op_type == "Transpose"
    assert list(producers[copied].input) == [codes]
    assert tails[0].output[0] != tails[1].output[0]


@pytest.mark.parametrize("mix", [(8,), (8, 4), (4,)])
def test_a_weight_that_four_nodes_share_loads_on_every_processor(mix, tmp_path):
    """ONNX Runtime makes one of equal Transposes: each takes the one before it."""
    nodes, taken = conv("stem", "image", SAME), "stem"
    for number in range(4):
        nodes += f"a{number} = Relu ({taken})\nt{number} = Conv <{SAME}> (a{number}, t_w)\n"
        taken = f"t{number}"
    shapes = {"stem_w": (8, 3, 3, 3), "t_w": (8, 8, 3, 3), **head_shapes(8)}
    classifier = read(Net(nodes + f"last = Relu ({taken})\n" + HEAD, shapes).model(), tmp_path)
    images = np.random.default_rng(1).normal(size=(12, 3, 8, 8)).astype(np.float32)
    codes = nearest(classifier, plan_of(classifier, mix), Scheme.SYMMETRIC)
    ranges = calibrated(classifier, images)
    model = emit(classifier, codes, Profile.INT8, ranges).SerializeToString()
    exact, found = (
        Session(model, **way).run({"image": images})["scores"]
        for way in ({"optimize": False}, {"integers": True})
    )
    assert rms(found - exact) <= 1e-3 * rms(exact)


def test_logits_stay_float(tmp_path):
    classifier = read(conv_model("conv", biased=True), tmp_path)
    images = np.random.default_rng(1).normal(size=(12, 4, 6, 6)).astype(np.float32)
    ranges = calibrated(classifier, images)
    assert "logits" not in ranges
    assert {"x", "r", "d", "f", "t"} == ranges.keys()


def test_an_activation_without_a_range_stays_float(tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan, ranges = BitPlan.uniform(classifier.layers, 8), calibrated(classifier, noise(12))
    fewer = {name: ends for name, ends in ranges.items() if name != "c1r"}
    counts = []
    for given in (ranges, fewer):
        model = emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.INT8, given)
        counts.append(Counter(node.op_type for node in model.graph.node)["QuantizeLinear"])
    assert counts[1] == counts[0] - 1


def test_ranges_are_given_for_int8_only(tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = BitPlan.uniform(classifier.layers, 8)
    with pytest.raises(ValueError, match="int8 without ranges"):
        emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.INT8)
    with pytest.raises(ValueError, match="qdq with ranges"):
        emit(
            classifier, nearest(classifier, plan, Scheme.SYMMETRIC), Profile.QDQ, {"a": (0.0, 1.0)}
        )


POOLS = {
    "ceil_mode=1, count_include_pad=1, pads=[1,1,0,0], strides=[2,2]": False,
    "dilations=[2,2]": False,
    "ceil_mode=1, pads=[1,1,0,0], strides=[2,2]": True,
    "count_include_pad=1, pads=[1,1,0,0], strides=[2,2]": True,
}


@pytest.mark.parametrize("attributes", POOLS)
def test_a_pooling_that_integer_kernels_get_wrong_stays_float(attributes, tmp_path):
    body = (
        conv("stem", "image", SAME)
        + f"a = Relu (stem)\np = AveragePool <kernel_shape=[3,3], {attributes}> (a)\n"
        + conv("c1", "p", SAME)
        + "last = Relu (c1)\n"
        + HEAD
    )
    shapes = {"stem_w": (8, 3, 3, 3), "c1_w": (8, 8, 3, 3), **head_shapes(8)}
    classifier = read(Net(body, shapes).model(opset=19), tmp_path)
    images = np.random.default_rng(1).normal(size=(12, 3, 8, 8)).astype(np.float32)
    codes = nearest(classifier, plan_of(classifier, (8, 4)), Scheme.SYMMETRIC)
    model = emit(classifier, codes, Profile.INT8, calibrated(classifier, images))
    kinds = {n.op_type for n in onnx.load_from_string(fused(model.SerializeToString())).graph.node}
    assert ("QLinearAveragePool" in kinds) == POOLS[attributes]
    assert "QLinearConv" in kinds
    ways = [{"optimize": False}, {"integers": True}]
    exact, found = (
        Session(model.SerializeToString(), **way).run({"image": images})["scores"] for way in ways
    )
    assert rms(found - exact) <= 1e-3 * rms(exact)
