"""Which biases can be changed, changing them, and writing them."""

import numpy as np
import onnx
import pytest
from emitting import (
    ALL,
    FLOAT_PROFILES,
    check_outputs,
    check_weights,
    conv_model,
    nearest,
    plan_of,
    read,
    with_biases,
)
from onnx import helper, numpy_helper
from residual_net import residual_net

from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.bias_input import give_bias
from onnxsemi._model.outputs import with_outputs
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._runtime.sessions import Session


@pytest.mark.parametrize(
    ("layer", "stored"),
    [("stem", "stem_b"), ("c2", None), ("dw", None), ("scores", "fc_b")],
)
def test_a_bias_that_can_be_changed(layer, stored, tmp_path):
    model = residual_net()
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    classifier = read(model, tmp_path)
    site = classifier.site(layer)
    expected = constants[stored] if stored else np.zeros(site.layer.channels, np.float32)
    assert correctable_bias(classifier, site).tobytes() == expected.tobytes()


def test_layers_of_several_nodes_and_matmul_have_none(tmp_path):
    tied = read(residual_net(), tmp_path)
    assert correctable_bias(tied, tied.site("tied1")) is None
    classifier = read(conv_model("conv", biased=True), tmp_path)
    assert correctable_bias(classifier, classifier.site("third")) is None


def gemm(shape, **attributes):
    """conv -> mean -> Gemm with a bias of some shape; None for a bias computed at run time."""
    model = conv_model("conv", biased=True)
    nodes = {node.name: node for node in model.graph.node}
    nodes["fourth"].attribute.extend(
        helper.make_attribute(name, value) for name, value in attributes.items()
    )
    bias = next(t for t in model.graph.initializer if t.name == "h")
    if shape is None:
        twice = helper.make_node("ReduceMax", ["t"], ["h2"], axes=[0], keepdims=0)
        sliced = helper.make_node("Slice", ["h2", "from", "to"], ["h3"])
        place = list(model.graph.node).index(nodes["fourth"])
        model.graph.node.insert(place, sliced)
        model.graph.node.insert(place, twice)
        for name, value in (("from", 0), ("to", 5)):
            model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
        nodes["fourth"].input[2] = "h3"
    else:
        values = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
        bias.CopyFrom(numpy_helper.from_array(values, "h"))
    return model


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1,), (), (1, 1)], ids=str)
def test_a_gemm_with_one_value_a_channel_or_one_for_all(shape, tmp_path):
    classifier = read(gemm(shape), tmp_path)
    found = correctable_bias(classifier, classifier.site("fourth"))
    values = np.arange(1, 1 + np.prod(shape), dtype=np.float32)
    assert found.tobytes() == np.broadcast_to(values, 5).astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("shape", "attributes"), [((5,), {"beta": 0.5}), (None, {})], ids=["beta", "computed"]
)
def test_a_gemm_whose_bias_is_no_constant_vector(shape, attributes, tmp_path):
    classifier = read(gemm(shape, **attributes), tmp_path)
    assert correctable_bias(classifier, classifier.site("fourth")) is None


@pytest.mark.parametrize("operator", ["conv", "depthwise", "transposed", "transposed-grouped"])
@pytest.mark.parametrize("biased", [True, False], ids=["biased", "unbiased"])
def test_another_bias_is_added_to_the_channels(operator, biased, tmp_path):
    """The output moves by the difference of the biases, up to the float32 sum."""
    classifier = read(conv_model(operator, biased), tmp_path)
    site = classifier.site("first")
    before = correctable_bias(classifier, site)
    after = np.random.default_rng(0).normal(size=before.shape).astype(np.float32)
    changed = classifier.with_weights({}, {"first": after})
    onnx.checker.check_model(changed, full_check=True)
    feed = {"x": np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)}
    old, new = (
        Session(with_outputs(m, ["c"]).SerializeToString(), optimize=False).run(feed)["c"]
        for m in (classifier.proto, changed)
    )
    moved = (after - before)[None, :, None, None]
    assert np.abs(new - old - moved).max() <= 1e-5 * np.abs(old).max()


def test_layers_that_can_have_no_bias_are_refused(tmp_path):
    classifier = read(residual_net(), tmp_path, ALL)
    with pytest.raises(ValueError, match="'tied1' has several nodes"):
        classifier.with_weights({}, {"tied1": np.zeros(8, np.float32)})
    classifier = read(conv_model("conv", biased=True), tmp_path)
    with pytest.raises(ValueError, match="MatMul takes no bias"):
        classifier.with_weights({}, {"third": np.zeros(6, np.float32)})


def test_the_name_of_a_bias_is_new(tmp_path):
    model = residual_net()
    nodes = {node.name: node for node in read(model, tmp_path).proto.graph.node}
    nodes["c1"].output[0] = "c2/bias"
    graph = helper.make_graph([nodes["c1"], nodes["c2"]], "g", [], [])
    give_bias(graph, graph.node[1], np.zeros(8, np.float32))
    assert list(graph.node[1].input[2:]) == [graph.initializer[0].name] == ["c2/bias+"]


@pytest.mark.parametrize("profile", FLOAT_PROFILES)
@pytest.mark.parametrize("biased", [True, False], ids=["biased", "unbiased"])
@pytest.mark.parametrize("operator", ["conv", "depthwise", "transposed"])
def test_biases_that_are_replaced(operator, biased, profile, tmp_path):
    """Of quantized layers and of one that is float32; a Gemm's too."""
    classifier = read(conv_model(operator, biased), tmp_path)
    plan = plan_of(classifier, (4, 1))
    plan = plan.with_bits("second", range(7), 32)
    if profile is Profile.NODES and operator == "depthwise":
        plan = plan.with_bits("first", range(8), 1)
    codes = nearest(classifier, plan, Scheme.ASYMMETRIC)
    codes = with_biases(codes, ["first", "second", "fourth"])
    model = emit(classifier, codes, profile)
    onnx.checker.check_model(model, full_check=True)
    simulated = check_weights(model, classifier, codes)
    check_outputs(model, simulated, (3, 4, 6, 6), profile)
    constants = {t.name: numpy_helper.to_array(t) for t in simulated.graph.initializer}
    found = {node.name: constants.get(node.input[-1]) for node in simulated.graph.node}
    for layer in ("first", "second", "fourth"):
        assert found[layer].tobytes() == codes.layers[layer].bias.tobytes()


@pytest.mark.parametrize("layer", ["tied1", "third"])
def test_a_layer_that_can_have_no_bias(layer, tmp_path):
    model = residual_net() if layer == "tied1" else conv_model("conv", biased=True)
    classifier = read(model, tmp_path)
    plan = BitPlan.uniform(classifier.layers, 4)
    codes = with_biases(nearest(classifier, plan, Scheme.ASYMMETRIC), [layer])
    for use in (emit, simulate):
        with pytest.raises(ValueError, match=r"several nodes|takes no bias"):
            use(classifier, codes)
