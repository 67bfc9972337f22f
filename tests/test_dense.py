"""Profile dense: what is coded, that it is exact in every runtime, and how its bytes are told."""

import json
import math
import re
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import run
from emitting import HalfSteps, check_outputs, check_weights
from onnx import helper, numpy_helper

from onnxsemi import Profile, Scheme
from onnxsemi._coding.code import entropy
from onnxsemi._emit import coded_sizes
from onnxsemi._emit.bitwidths import bits_of
from onnxsemi._emit.model import emit
from onnxsemi._emit.storage import decoder
from onnxsemi._emit.stored_weights import emitted_properties, read_stored
from onnxsemi._errors import ModelError
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import width_of
from onnxsemi._quantizer.affine import QuantizedChannels
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, rounded

LAYERS = {"a": (48, 3, 3, 3), "b": (64, 48, 3, 3), "c": (64, 64, 3, 3), "d": (10, 64)}
UNPACKING = {
    *("CumSum", "ScatterElements", "BitShift", "BitwiseAnd", "ConstantOfShape", "Gather", "Split"),
    *("Cast", "Sub", "Mul", "Concat", "GatherElements"),
}


def network():
    """Three convolutions and a Gemm with weights of a Laplace distribution."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.laplace(0, 0.05, dims).astype(np.float32), name)
        for name, dims in LAYERS.items()
    ]
    nodes, last = [], "image"
    for name in "abc":
        nodes.append(helper.make_node("Conv", [last, name], [f"{name}1"], name))
        nodes.append(helper.make_node("Relu", [f"{name}1"], [f"{name}2"]))
        last = f"{name}2"
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "d"], ["scores"], "d", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 10, 10])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("dense") / "net.onnx"
    onnx.save(network(), path)
    return read_model(path, ReadOptions(targets="all"))


def codes_of(classifier, widths, rounding):
    bits = {
        layer.name: tuple(widths[c % len(widths)] for c in range(layer.channels))
        for layer in classifier.layers
    }
    plan = BitPlan(bits, {layer.name: layer.channel_params for layer in classifier.layers})
    return rounded(classifier.layers, plan, rounding)


@dataclass(frozen=True)
class Case:
    widths: tuple[int, ...]
    rounding: Nearest

    @property
    def id(self) -> str:
        steps = " in half steps" * isinstance(self.rounding, HalfSteps)
        return f"{'-'.join(map(str, self.widths))} {self.rounding.scheme}{steps}"


CASES = [
    Case((3,), Nearest(Scheme.ASYMMETRIC)),
    Case((4,), Nearest(Scheme.SYMMETRIC)),
    Case((4, 2, 3), HalfSteps(Scheme.ASYMMETRIC)),
    Case((6, 0, 5), HalfSteps(Scheme.SYMMETRIC)),
    Case((8,), Nearest(Scheme.ASYMMETRIC)),
    Case((32, 4, 7), Nearest(Scheme.ASYMMETRIC)),
]


@dataclass(frozen=True, eq=False)
class Emitted:
    classifier: Classifier
    codes: RoundedPlan
    model: onnx.ModelProto


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def emitted(request, classifier):
    codes = codes_of(classifier, request.param.widths, request.param.rounding)
    return Emitted(classifier, codes, emit(classifier, codes, Profile.DENSE))


def test_weights_and_answers_are_those_that_were_measured(emitted):
    model = emitted.model
    assert coded_sizes.coded_split(GraphIndex.of(model.graph)) is not None
    onnx.checker.check_model(model, full_check=True)
    simulated = check_weights(model, emitted.classifier, emitted.codes)
    check_outputs(model, simulated, (2, 3, 10, 10))


def test_a_default_session_folds_all_that_decodes(emitted, tmp_path):
    assert not left_to_run(emitted.model, tmp_path) & UNPACKING


def left_to_run(model, tmp_path):
    """Operators of a default session."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}


@pytest.mark.parametrize("width", [5, width_of(1.5)])
def test_many_words(classifier, width, monkeypatch, tmp_path):
    """The file is as exact, folded, and read back, if words are looked up by GatherElements."""
    monkeypatch.setattr(decoder, "MANY", 0)
    codes = codes_of(classifier, (width,), Nearest(Scheme.ASYMMETRIC))
    model = emit(classifier, codes, Profile.DENSE)
    assert "GatherElements" in {node.op_type for node in model.graph.node}
    check_outputs(model, check_weights(model, classifier, codes), (2, 3, 10, 10))
    assert not left_to_run(model, tmp_path) & UNPACKING
    index = GraphIndex.of(model.graph)
    sizes = coded_sizes.coded_sizes(model, index)
    streams = sum(len(index.constants[name].raw_data) for name in sizes.streams)
    assert sum(sizes.of_output.values()) == streams


def test_it_is_smaller_than_bit_planes(emitted):
    fast = emit(emitted.classifier, emitted.codes, Profile.FAST)
    assert emitted.model.ByteSize() < fast.ByteSize()
    assert read_stored(emitted.model).payload_bytes < read_stored(fast).payload_bytes


def test_bits_and_bytes_are_read_back(emitted):
    model, index = emitted.model, GraphIndex.of(emitted.model.graph)
    assert bits_of(model) == emitted.codes.plan.listed()
    sizes = coded_sizes.coded_sizes(model, index)
    streams = sum(len(index.constants[name].raw_data) for name in sizes.streams)
    assert sum(sizes.of_output.values()) == streams
    stored = read_stored(model)
    counted = stored.float_bytes + stored.shared_bytes
    for layer in stored.layers:
        counted += layer.structure_bytes
        counted += sum(g.code_bytes + g.scale_bytes + g.structure_bytes for g in layer.groups)
    assert counted == model.ByteSize()


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """Channels at coded widths, some of which have no weights."""
    path = tmp_path_factory.mktemp("coded") / "net.onnx"
    onnx.save(network(), path)
    classifier = read_model(path, ReadOptions(targets="all"))
    plan = BitPlan.uniform(classifier.layers, width_of(1.5)).with_layers("c", width_of(0.5))
    plan = plan.with_bits("b", range(8), 0).with_bits("b", range(8, 32), width_of(3.0))
    return classifier, rounded(classifier.layers, plan, Nearest(Scheme.SYMMETRIC))


def test_entropy_coded_channels(coded):
    """Exact, in groups of their own, and in fewer bits than their codes have."""
    classifier, codes = coded
    model = emit(classifier, codes, Profile.DENSE)
    check_weights(model, classifier, codes)
    stored = read_stored(model)
    assert {name: layer.bits for name, layer in codes.layers.items()} == bits_of(model)
    groups = {layer.name: layer.groups for layer in stored.layers}
    assert [group.channels for group in groups["b"] if group.bits == 0] == [8]
    assert sum(group.weights for each in groups.values() for group in each) == sum(
        layer.weight.size for layer in classifier.layers
    )
    taken = 8 * sum(group.code_bytes for each in groups.values() for group in each)
    assert taken < 0.6 * codes.stored_bits
    stated = json.loads(emitted_properties(model)["onnxsemi.sizes"])
    assert stated["target_bits"] == taken


@pytest.mark.parametrize("width", [3, width_of(1.5)])
@pytest.mark.parametrize("zeros", ["b", "abcd"])
def test_layers_of_nothing_but_zeros(width, zeros, tmp_path):
    """Nothing to code: beside layers that are coded, and alone."""
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name in zeros:
            values = np.zeros(tensor.dims, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "net.onnx")
    classifier = read_model(tmp_path / "net.onnx", ReadOptions(targets="all"))
    codes = codes_of(classifier, (width,), Nearest(Scheme.SYMMETRIC))
    written = emit(classifier, codes, Profile.DENSE)
    check_outputs(written, check_weights(written, classifier, codes), (2, 3, 10, 10))
    split = coded_sizes.coded_split(GraphIndex.of(written.graph))
    assert (split is None) is (zeros == "abcd")
    assert sum(g.weights for la in read_stored(written).layers for g in la.groups) == sum(
        layer.weight.size for layer in classifier.layers
    )


def test_what_weights_take_is_shown(coded, tmp_path):
    classifier, codes = coded
    for profile, shown in ((Profile.DENSE, True), (Profile.FAST, False)):
        onnx.save(emit(classifier, codes, profile), tmp_path / "out.onnx")
        result = run("inspect", tmp_path / "out.onnx")
        assert result.exit_code == 0, result.output
        assert all((heading in result.stdout) is shown for heading in ("levels", "coded bits"))
        found = json.loads(run("inspect", tmp_path / "out.onnx", "--json").stdout)["layers"]
        layers = {layer["name"]: (layer["levels"], layer["coded_bits"]) for layer in found}
        wanted = {name: (each.levels, round(each.bits, 3)) for name, each in codes.coded.items()}
        assert layers == (wanted if shown else dict.fromkeys(wanted, (None, None)))


def test_what_decoding_takes_stands_in_the_metadata(emitted):
    stated = json.loads(emitted_properties(emitted.model)["onnxsemi.decoding"])
    weights = sum(layer.weight.size for layer in emitted.classifier.layers)
    assert 0 < stated["words"] <= weights
    assert stated["bytes"] > 9 * weights  # decoded, as float32, multiplied
    assert stated["milliseconds"] == math.ceil(stated["words"] / 7_000)


def test_a_changed_stream_is_not_what_was_measured(emitted):
    changed = onnx.ModelProto()
    changed.CopyFrom(emitted.model)
    tensor = next(t for t in changed.graph.initializer if re.fullmatch(r"q+g_\d", t.name))
    values = bytearray(tensor.raw_data)
    values[len(values) // 2] ^= 1
    tensor.raw_data = bytes(values)
    with pytest.raises((AssertionError, ModelError)):
        check_weights(changed, emitted.classifier, emitted.codes)


def test_the_same_bytes_at_every_call(classifier):
    codes = codes_of(classifier, (4, 3), Nearest(Scheme.ASYMMETRIC))
    one, two = (emit(classifier, codes, Profile.DENSE).SerializeToString() for _ in range(2))
    assert one == two


def test_bit_planes_where_a_code_would_not_pay(classifier):
    codes = codes_of(classifier, (1,), Nearest(Scheme.ASYMMETRIC))
    model = emit(classifier, codes, Profile.DENSE)
    assert coded_sizes.coded_split(GraphIndex.of(model.graph)) is None
    assert "onnxsemi.decoding" not in emitted_properties(model)
    check_weights(model, classifier, codes)


class Spread(Nearest):
    """Symmetric grids of an odd number of levels, a standard deviation to ``step`` of them."""

    def __init__(self, step):
        super().__init__(Scheme.ASYMMETRIC)
        object.__setattr__(self, "step", step)

    def at(self, layer, bits):
        flat, half = layer.weight.reshape(layer.channels, -1), 2 ** (bits - 1) - 1
        scale = (self.step * flat.std(axis=1)).astype(np.float32)
        codes = np.clip(np.rint(flat / scale[:, None]), -half, half) + half
        zero = np.full(layer.channels, half, np.uint8)
        return QuantizedChannels(
            codes.astype(np.uint8).reshape(layer.weight.shape), scale, zero, bits
        )


@pytest.mark.parametrize(("step", "bits"), [(4, 2), (3, 2), (2, 2), (1, 4)])
def test_less_than_a_bit_a_weight(classifier, step, bits):
    """Ternary weights and more levels, whose commonest is in the middle."""
    codes = codes_of(classifier, (bits,), Spread(step))
    model = emit(classifier, codes, Profile.DENSE)
    check_outputs(model, check_weights(model, classifier, codes), (2, 3, 10, 10))
    channels = [q for layer in codes.layers.values() for q in layer.quantized.values()]
    counts = [np.bincount(q.codes.ravel()) for q in channels]
    least = sum(count.sum() * entropy(count) for count in counts) / 8
    sizes = coded_sizes.coded_sizes(model, GraphIndex.of(model.graph))
    assert sum(sizes.of_output.values()) < 1.1 * least + 200
    assert "Sub" not in {node.op_type for node in model.graph.node}  # all zero points are the same
