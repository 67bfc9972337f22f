"""Emission: the written graph is the simulated model, in exactly the bits that it claims."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from emitting import (
    BITS,
    FLOAT_PROFILES,
    MIXES,
    OPERATORS,
    ROUNDINGS,
    check_outputs,
    check_weights,
    conv_model,
    nearest,
    plan_of,
    read,
)
from onnx import helper, parser
from residual_net import residual_net

import onnxsemi
from onnxsemi._emit.bitwidths import bits_of
from onnxsemi._emit.layout.merged import merged, merged_for_kernels
from onnxsemi._emit.layout.nodes import nodes_apart
from onnxsemi._emit.layout.semilayers import semilayers
from onnxsemi._emit.model import emit, put_together
from onnxsemi._emit.profile import Form, Profile
from onnxsemi._emit.storage.containers import Containers
from onnxsemi._emit.storage.native import NativeTypes
from onnxsemi._emit.storage.planes import BitPlanes
from onnxsemi._emit.stored_weights import read_stored, stated_sizes
from onnxsemi._emit.tail.arithmetic import arithmetic
from onnxsemi._emit.tail.dequantize import dequantize
from onnxsemi._errors import ModelError, PlanError
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import rounded
from onnxsemi._runtime.sessions import Session

PACKED_PROFILES = [
    Profile.QDQ,
    Profile.FAST,
    Profile.NATIVE,
    Profile.NODES,
    Profile.PORTABLE,
]


@pytest.mark.slow
@pytest.mark.parametrize("profile", FLOAT_PROFILES)
@pytest.mark.parametrize("biased", [True, False], ids=["biased", "unbiased"])
@pytest.mark.parametrize(
    "mix",
    [(6, 3, 32, 4), pytest.param((6, 0, 4, 0), marks=pytest.mark.slow)],
    ids=["float", "zero"],
)
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator(operator, mix, biased, profile, tmp_path):
    classifier = read(conv_model(operator, biased), tmp_path)
    assert {site.nodes[0] for site in classifier.sites} == {"first", "second", "third", "fourth"}
    plan = plan_of(classifier, mix)
    if profile is Profile.NODES and "group" in OPERATORS[operator][2]:
        with pytest.raises(PlanError, match="'first' is a grouped convolution"):
            emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC), profile)
        plan = plan.with_layers(["first"], 6)
    model = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC), profile)
    onnx.checker.check_model(model, full_check=True)
    simulated = check_weights(model, classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    spatial = len(OPERATORS[operator][1]) - 2
    check_outputs(model, simulated, (3, 4, *[6] * spatial), profile)


@pytest.mark.slow
@pytest.mark.parametrize("profile", FLOAT_PROFILES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("mix", MIXES)
def test_every_mix_of_bitwidths_on_a_residual_net(mix, rounding, profile, tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = plan_of(classifier, MIXES[mix])
    if profile is Profile.NODES:
        plan = plan.with_bits("dw", range(8), 5)
    codes = rounded(classifier.layers, plan, ROUNDINGS[rounding])
    model = emit(classifier, codes, profile)
    onnx.checker.check_model(model, full_check=True)
    simulated = check_weights(model, classifier, codes)
    check_outputs(model, simulated, (3, 3, 8, 8), profile)
    again = emit(classifier, codes, profile)
    assert again.SerializeToString() == model.SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("tail", [dequantize, arithmetic])
@pytest.mark.parametrize("arrange", [semilayers, merged, merged_for_kernels, nodes_apart])
@pytest.mark.parametrize("storage", [BitPlanes, NativeTypes, Containers])
@pytest.mark.parametrize("mix", [(6, 4, 32, 8), (0, 8, 4, 0)], ids=["float", "zero"])
def test_every_combination_of_parts(storage, arrange, tail, rounding, mix, tmp_path):
    classifier = read(residual_net(), tmp_path)
    if storage is NativeTypes and arrange in (merged, merged_for_kernels):
        return  # codes of several types cannot be merged
    plan = plan_of(classifier, mix).with_bits("dw", range(8), 5)
    codes = rounded(classifier.layers, plan, ROUNDINGS[rounding])
    model = put_together(classifier, codes, Form(storage, arrange, tail))
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    simulated = check_weights(model, classifier, codes)
    profile = Profile.NODES if arrange is nodes_apart else Profile.QDQ
    check_outputs(model, simulated, (3, 3, 8, 8), profile)


@dataclass(frozen=True)
class Count:
    """Nodes that one convolution of 8 channels needs besides the model's own."""

    bits: tuple[int, ...]
    nodes: dict[str, int]


UNPACK_ONE_PLANE = {"BitShift": 1, "BitwiseAnd": 1, "Reshape": 2, "DequantizeLinear": 1}
COUNTS = {
    "8-plain": Count((8,) * 8, {"DequantizeLinear": 1}),
    "4-one-plane": Count((4,) * 8, UNPACK_ONE_PLANE),
    "6-two-planes": Count(
        (6,) * 8,
        {"Split": 1, "BitShift": 3, "BitwiseAnd": 2, "BitwiseOr": 1, "Reshape": 3}
        | {"DequantizeLinear": 1},
    ),
    "1-one-plane": Count((1,) * 8, UNPACK_ONE_PLANE | {"BitShift": 2}),
    "7-three-planes": Count(
        (7,) * 8,
        {"Split": 1, "BitShift": 5, "BitwiseAnd": 3, "BitwiseOr": 2, "Reshape": 4}
        | {"DequantizeLinear": 1},
    ),
    "in-order": Count((8,) * 4 + (4,) * 4, UNPACK_ONE_PLANE | {"DequantizeLinear": 2, "Concat": 1}),
    "interleaved": Count(
        (8, 4) * 4,
        UNPACK_ONE_PLANE | {"DequantizeLinear": 2, "Concat": 1, "Gather": 1, "Cast": 1},
    ),
    "float-first": Count((32,) * 2 + (8,) * 6, {"DequantizeLinear": 1, "Concat": 1}),
    "zeros": Count((0,) * 8, {"ConstantOfShape": 1}),
    "zeros-last": Count(
        (8,) * 6 + (0,) * 2, {"DequantizeLinear": 1, "ConstantOfShape": 1, "Concat": 1}
    ),
    "all-float": Count((32,) * 8, {}),
}


@pytest.mark.parametrize("case", COUNTS)
def test_expected_node_counts(case, tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = BitPlan.uniform(classifier.layers).with_bits("c2", [0], 32)
    for channel, bits in enumerate(COUNTS[case].bits):
        plan = plan.with_bits("c2", [channel], bits)
    model = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    before = Counter(node.op_type for node in classifier.proto.graph.node)
    after = Counter(node.op_type for node in model.graph.node)
    assert dict(after - before) == COUNTS[case].nodes


@pytest.mark.parametrize(
    ("opset", "bits", "expected"),
    [
        (7, 8, (13, 7)),
        (9, 4, (18, 8)),
        (11, 8, (13, 7)),
        (13, 6, (18, 8)),
        (17, 8, (17, 8)),
        (9, 0, (13, 7)),
        (17, 0, (17, 8)),
        (17, 3, (18, 8)),
        (18, 4, (18, 8)),
        (20, 4, (20, 9)),
        (21, 4, (21, 10)),
    ],
    ids=str,
)
def test_lowest_opset_and_ir_version_that_serve(opset, bits, expected, tmp_path):
    classifier = read(conv_model("conv", biased=True, opset=opset), tmp_path)
    plan = BitPlan.uniform(classifier.layers, bits)
    model = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    assert (model.opset_import[0].version, model.ir_version) == expected
    assert len(model.opset_import) == 1
    check_weights(model, classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    images = {"x": np.random.default_rng(0).normal(size=(3, 4, 6, 6)).astype(np.float32)}
    simulated = simulate(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    found, wanted = (
        Session(m.SerializeToString(), optimize=False).run(images)["y"] for m in (model, simulated)
    )
    assert np.abs(found - wanted).max() <= 1e-6


@pytest.mark.parametrize("bits", BITS)
def test_one_initializer_of_exactly_b_bits_a_weight(bits, tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = BitPlan.uniform(classifier.layers, bits)
    model = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    sizes = {t.name: len(t.raw_data) for t in model.graph.initializer if t.data_type == 2}
    codes = [size for name, size in sizes.items() if name.endswith(f"_{bits}")]
    weights = [layer.weight.size for layer in classifier.layers]
    assert sorted(codes) == (sorted(weights) if bits == 8 else [-(-sum(weights) // 8) * bits])


def test_shared_weight_is_stored_once(tmp_path):
    classifier = read(residual_net(), tmp_path)
    model = emit(
        classifier, nearest(classifier, BitPlan.uniform(classifier.layers, 4), Scheme.ASYMMETRIC)
    )
    nodes = {node.name: node for node in model.graph.node}
    tied = next(site for site in classifier.sites if len(site.nodes) == 2)
    assert len({nodes[name].input[1] for name in tied.nodes}) == 1


def test_names_that_the_model_has_already(tmp_path):
    model = residual_net()
    text = {"stem_w": "q0_8", "c1_w": "q1", "c2_w": "qc0"}
    for node in model.graph.node:
        node.input[:] = [text.get(name, name) for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name = text.get(tensor.name, tensor.name)
    classifier = read(model, tmp_path)
    plan = plan_of(classifier, (8, 6, 4))
    emitted = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    check_outputs(
        emitted,
        check_weights(emitted, classifier, nearest(classifier, plan, Scheme.ASYMMETRIC)),
        (2, 3, 8, 8),
    )


def test_inputs_batch_and_the_judged_output_stay(tmp_path):
    model = residual_net()
    model.graph.output.append(helper.make_tensor_value_info("pooled", 1, ("N", 8, 1, 1)))
    options = ReadOptions(targets=TargetPolicy.ALL, output="scores")
    classifier = read(model, tmp_path, options)
    emitted = emit(
        classifier, nearest(classifier, BitPlan.uniform(classifier.layers, 4), Scheme.ASYMMETRIC)
    )
    assert [value.name for value in emitted.graph.output] == ["scores"]
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*emitted.graph.input, emitted.graph.output[0])
    ]
    assert shapes == [["N", 3, 8, 8], ["N", 5]]


def test_metadata(tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = BitPlan.uniform(classifier.layers, 4)
    emitted = emit(classifier, nearest(classifier, plan, Scheme.SYMMETRIC))
    found = {entry.key: entry.value for entry in emitted.metadata_props}
    other = emit(
        classifier, nearest(classifier, BitPlan.uniform(classifier.layers, 5), Scheme.SYMMETRIC)
    )
    plan_hash = "onnxsemi.plan_sha256"
    assert found["onnxsemi.version"] == onnxsemi.__version__
    assert (found["onnxsemi.profile"], found["onnxsemi.scheme"]) == ("qdq", "symmetric")
    assert found[plan_hash] != {e.key: e.value for e in other.metadata_props}[plan_hash]


@pytest.mark.parametrize(
    ("opset", "bits", "profile", "lowest"),
    [
        (11, 8, Profile.QDQ, "1.6"),
        (17, 8, Profile.QDQ, "1.12"),
        (17, 6, Profile.FAST, "1.14"),
        (13, 6, Profile.PORTABLE, "1.6"),
        (17, 6, Profile.NATIVE, "1.14"),
        (17, 4, Profile.NATIVE, "1.19"),
        (17, 2, Profile.NATIVE, "1.24"),
        (17, 1, Profile.NATIVE, "1.14"),
        (21, 6, Profile.QDQ, "1.18"),
    ],
)
def test_lowest_runtime_stands_in_the_file(opset, bits, profile, lowest, tmp_path):
    classifier = read(conv_model("conv", biased=True, opset=opset), tmp_path)
    model = emit(
        classifier,
        nearest(classifier, BitPlan.uniform(classifier.layers, bits), Scheme.SYMMETRIC),
        profile,
    )
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["onnxsemi.lowest_onnxruntime"] == lowest


def test_sizes_stand_in_the_file(tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = plan_of(classifier, (8, 6, 4))
    model = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    stated = stated_sizes(model)
    assert stated.source_bytes == (tmp_path / "model.onnx").stat().st_size
    floats = [t for t in residual_net().graph.initializer if t.data_type == 1]
    assert stated.float_bytes == sum(len(t.raw_data) for t in floats)
    assert 1 - stated.target_bits / (32 * stated.target_weights) == plan.compression
    assert stated.payload_bytes == read_stored(model).payload_bytes
    (place,) = (n for n, e in enumerate(model.metadata_props) if e.key == "onnxsemi.sizes")
    del model.metadata_props[place]
    with pytest.raises(ModelError, match=r"onnxsemi\.sizes"):
        stated_sizes(model)


def test_the_users_own_metadata_stays(tmp_path):
    model = residual_net()
    helper.set_model_props(model, {"names": "cat,dog"})
    classifier = read(model, tmp_path)
    emitted = emit(
        classifier, nearest(classifier, BitPlan.uniform(classifier.layers, 4), Scheme.SYMMETRIC)
    )
    assert {e.key: e.value for e in emitted.metadata_props}["names"] == "cat,dog"


@pytest.mark.parametrize("mix", [(8, 32, 5, 4, 1), (0, 8, 4, 0), (0,)], ids=str)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("profile", PACKED_PROFILES)
def test_stored_layers_are_the_plan(profile, rounding, mix, tmp_path):
    classifier = read(residual_net(), tmp_path)
    plan = plan_of(classifier, mix).with_bits("dw", range(8), 5)
    codes = rounded(classifier.layers, plan, ROUNDINGS[rounding])
    model = emit(classifier, codes, profile)
    found = read_stored(model)
    layers = {layer.name: layer for layer in found.layers}
    for target in classifier.layers:
        counts = Counter(plan.bits[target.name].tolist())
        groups = layers[target.name].groups
        assert [(g.bits, g.channels) for g in groups] == sorted(counts.items(), reverse=True)
        for group in groups:
            weights = group.channels * target.channel_params
            each = 4 if codes.scheme is Scheme.SYMMETRIC else 5
            quantized = codes.layers[target.name].quantized.get(group.bits)
            typed = profile is Profile.NATIVE and group.bits == 4 and not quantized.doubled
            if typed and codes.scheme is Scheme.ASYMMETRIC:
                scale_bytes = 4 * group.channels + -(-group.channels // 2)
                assert group.scale_bytes == scale_bytes
                continue
            assert group.code_bytes == -(-weights * group.bits // 8)
            assert group.scale_bytes == (0 if group.bits in (0, 32) else each * group.channels)
            assert group.structure_bytes > 0
    parts = [part for layer in found.layers for part in (layer, *layer.groups)]
    everywhere = {name: tuple(found or ()) for name, found in bits_of(model).items()}
    assert everywhere == plan.listed()
    payload = [g.code_bytes + g.scale_bytes for layer in found.layers for g in layer.groups]
    structure = sum(part.structure_bytes for part in parts)
    everything = sum(payload) + structure + found.float_bytes + found.shared_bytes
    assert everything == model.ByteSize()
    assert 0 < found.shared_bytes < model.ByteSize() - sum(payload)
    outside = classifier.parameters - plan.parameters
    assert found.float_bytes == 4 * outside


def test_load_session_folds_the_weights_and_gives_the_same_answers(tmp_path):
    """No DequantizeLinear is left to run; a default session keeps them."""
    classifier = read(residual_net(), tmp_path)
    emitted = emit(
        classifier, nearest(classifier, plan_of(classifier, (8, 6, 4)), Scheme.ASYMMETRIC)
    )
    onnx.save(emitted, tmp_path / "small.onnx")
    images = {"image": np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)}
    found = {}
    for name in ("full", "default"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        options.log_severity_level = 3
        path = tmp_path / "small.onnx"
        session = (
            onnxsemi.load_session(path, options)
            if name == "full"
            else onnxruntime.InferenceSession(path, options)
        )
        scores = session.run(None, images)[0]
        operators = {node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node}
        found[name] = ("DequantizeLinear" in operators, scores)
    assert (found["full"][0], found["default"][0]) == (False, True)
    # blocked and plain convolutions add in another order
    largest = np.abs(found["full"][1]).max()
    assert np.abs(found["full"][1] - found["default"][1]).max() <= 1e-5 * largest


@pytest.mark.slow
@pytest.mark.shared
def test_resnet18_file_is_its_payload_within_one_percent(shared):
    classifier = read_model(shared / "models/resnet18_cifar10.onnx", ReadOptions(targets="hidden"))
    plan = plan_of(classifier, (8, 6, 4))
    size = len(emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC)).SerializeToString())
    channels = sum(layer.channels for layer in classifier.layers)
    payload = plan.weight_bits / 8 + 5 * channels + 4 * (classifier.parameters - plan.parameters)
    assert payload <= size <= 1.01 * payload


def test_parser_models_are_accepted_too(tmp_path):
    """A model with nothing to concatenate and no bias, from ONNX text."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,1,4,4] x) => (float[N,2] y) <float[2,1,1,1] w = {1.5, -0.25}>
        { c = Conv (x, w)  p = GlobalAveragePool (c)  y = Flatten (p) }"""
    classifier = read(parser.parse_model(text), tmp_path)
    plan = BitPlan.uniform(classifier.layers, 2)
    emitted = emit(classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    simulated = check_weights(emitted, classifier, nearest(classifier, plan, Scheme.ASYMMETRIC))
    check_outputs(emitted, simulated, (2, 1, 4, 4))
