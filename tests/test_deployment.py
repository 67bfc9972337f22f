"""Targets: plans that keep to what each takes, its form, and what is written beside the file."""

import json

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, compress_command, frontier_command, run
from fake_evaluator import plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from residual_net import save_noise, save_residual_net

from onnxsemi import Profile, Scheme, SearchSettings, Settings
from onnxsemi._emit.deployment import DEPLOYMENTS, Companion, Target
from onnxsemi._emit.stored_weights import emitted_properties
from onnxsemi._errors import PlanError, SettingsError
from onnxsemi._run.plan_file import read_plan
from onnxsemi._search.frontier_course import Course
from onnxsemi._search.protocols import DeltaLossTable

CHANNELS = {"stem": 5, "middle": 9, "head": 3}
LADDERS = ((8,), (8, 4), (8, 6, 4, 2), (8, 7, 6, 5, 4, 3, 2, 1))


@st.composite
def courses(draw):
    """A frontier of one bitwidth a layer, by any KL increases."""
    ladder = draw(st.sampled_from(LADDERS))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    nats = {
        layer: np.maximum.accumulate(rng.exponential(1, (count, len(ladder))) ** 3, axis=1)
        for layer, count in CHANNELS.items()
    }
    start = plan_of(CHANNELS)
    if draw(st.booleans()):
        start = start.with_layers(["head"], 8)
    free = [layer for layer in CHANNELS if start.bits[layer].max() == 32]
    return Course(start, free, DeltaLossTable(ladder, nats, 10), per_layer=True), ladder


@settings(deadline=None, max_examples=60)
@given(courses())
def test_every_plan_of_a_frontier_by_layer_has_one_bitwidth_a_layer(drawn):
    course, ladder = drawn
    sizes = [plan.weight_bits for plan in course.plans]
    assert sizes == sorted(sizes, reverse=True)
    for plan in course.plans:
        for layer in course.free:
            (bits,) = set(plan.bits[layer].tolist())
            assert bits in ladder
    assert course.plan(0) == course.uniform(ladder[0])
    assert course.plan(course.last) == course.uniform(ladder[-1])


@pytest.mark.parametrize("target", Target)
def test_settings_follow_from_the_target(target):
    taken, found = DEPLOYMENTS[target], Settings(target=target)
    assert found.profile is taken.profile
    assert set(found.search.bits) <= set(taken.bits)
    assert found.search.per_layer is taken.per_layer
    assert taken.scheme in (None, found.grids)
    assert found.rounds is not None
    assert found.rounds.half_steps is not taken.whole_steps


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "tensorrt", "profile": "fast"}, "`profile` fast"),
        ({"target": "qnn", "scheme": "asymmetric"}, "`scheme` asymmetric"),
        ({"target": "qnn", "search": SearchSettings(bits=(8, 6))}, "6 bits, and `target` qnn"),
        ({"target": "mnn", "align": 16}, "`align`"),
        ({"target": "litert", "search": SearchSettings(method="semilayer")}, "`split` none"),
    ],
)
def test_contradictions_are_refused(options, words):
    with pytest.raises(SettingsError, match=words):
        Settings(**options)


def test_an_unknown_target_says_which_there_are():
    with pytest.raises(SettingsError, match="tensorrt"):
        Settings(target="toaster")


def test_bitwidths_that_a_target_takes_may_be_chosen():
    assert Settings(target="qnn", search=SearchSettings(bits=(4,))).search.bits == (4,)
    assert Settings(target="web", search=SearchSettings(bits=(5, 3))).search.bits == (5, 3)


def test_plans_are_held_against_a_target():
    plan = plan_of({"a": 2, "b": 1}).with_bits("a", [0], 8).with_bits("a", [1], 4)
    qnn = DEPLOYMENTS[Target.QNN]
    with pytest.raises(PlanError, match="one bitwidth a layer; 'a' has 8, 4"):
        qnn.check(plan, Scheme.SYMMETRIC, Target.QNN)
    with pytest.raises(PlanError, match="8, 4 bits; 'a' has 6"):
        qnn.check(plan.with_layers(["a"], 6), Scheme.SYMMETRIC, Target.QNN)
    with pytest.raises(PlanError, match="takes symmetric grids"):
        qnn.check(plan.with_layers(["a"], 4), Scheme.ASYMMETRIC, Target.QNN)
    qnn.check(plan.with_layers(["a"], 4), Scheme.SYMMETRIC, Target.QNN)


def test_files_are_held_against_a_target():
    newer = onnx.helper.make_model(
        onnx.helper.make_graph([], "g", [], []), opset_imports=[onnx.helper.make_opsetid("", 26)]
    )
    with pytest.raises(PlanError, match="opset 25 at most, the model has 26"):
        DEPLOYMENTS[Target.TENSORRT].check_file(newer, Target.TENSORRT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    return folder


OPTIONS = ("--rounding-samples", "30", "--max-drop", "9", "--allow-loss")


@pytest.mark.slow
@pytest.mark.parametrize("target", Target)
def test_a_run_keeps_to_its_target(target, folder):
    taken = DEPLOYMENTS[target]
    result = run(*frontier_command(folder, f"{target}.onnx", *OPTIONS, "--target", target))
    assert result.exit_code == 0, result.output
    document = read_plan(folder / f"{target}.plan.json")
    for channels in document.bits.values():
        widths = set(channels)
        assert widths <= {*taken.bits, 32}
        assert not taken.per_layer or len(widths) == 1
    assert taken.scheme in (None, document.scheme)
    model = onnx.load(folder / f"{target}.onnx")
    assert emitted_properties(model)["onnxsemi.profile"] == taken.profile
    assert not {node.op_type for node in model.graph.node} & taken.refused
    beside = {path.suffixes[-1] for path in folder.glob(f"{target}.*")} & {".encodings"}
    assert beside == ({".encodings"} if taken.companion is Companion.ENCODINGS else set())
    assert (folder / f"{target}.bits.json").exists() is (taken.companion is Companion.BITS)
    _applied_again(folder, target)


def _applied_again(folder, target):
    """The run's point with the same target: the same bytes, and the same file beside it."""
    again = run(
        "apply", folder / f"{target}.run", "-o", folder / f"{target}2.onnx", "--target", target,
        "--allow-loss",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    for path in folder.glob(f"{target}.*"):
        if path.suffix in (".onnx", ".encodings"):
            copy = path.with_name(path.name.replace(target, f"{target}2", 1))
            assert copy.read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_bits_beside_a_file_give_its_weights(folder):
    result = run(*frontier_command(folder, "beside.onnx", *OPTIONS, "--target", "mnn"))
    assert result.exit_code == 0, result.output
    said = json.loads((folder / "beside.bits.json").read_text())
    assert said["model"] == "beside.onnx"
    model = onnx.load(folder / "beside.onnx")
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    assert said["layers"]
    for layer in said["layers"]:
        weight = weights[nodes[layer["name"]].input[1]]
        assert layer["operator"] == nodes[layer["name"]].op_type
        scale = np.array(layer["scale"], np.float32).reshape(-1, *[1] * (weight.ndim - 1))
        codes = np.moveaxis(weight, layer["axis"], 0) / scale
        assert np.abs(codes - np.rint(codes)).max() < 1e-4
        half = 2 ** (layer["bits"] - 1)
        assert -half <= np.rint(codes).min() <= np.rint(codes).max() <= half - 1
        assert layer["symmetric"] is True
        assert set(layer["zero_point"]) == {0}


@pytest.mark.slow
def test_encodings_name_the_weights_of_the_file(folder):
    result = run(*frontier_command(folder, "coded.onnx", *OPTIONS, "--target", "qnn"))
    assert result.exit_code == 0, result.output
    said = json.loads((folder / "coded.encodings").read_text())
    assert said["version"] == "2.0.0"
    model = onnx.load(folder / "coded.onnx")
    taken = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    found = {entry["name"]: entry for entry in said["encodings"]}
    assert found.keys() == taken
    document = read_plan(folder / "coded.plan.json")
    types = sorted({f"int{bits}" for channels in document.bits.values() for bits in channels})
    assert sorted({entry["output_dtype"] for entry in found.values()}) == types


@pytest.mark.slow
def test_tensorrt_has_plain_q_and_dq(folder):
    result = run(*frontier_command(folder, "trt.onnx", *OPTIONS, "--target", "tensorrt"))
    assert result.exit_code == 0, result.output
    model = onnx.load(folder / "trt.onnx")
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = numpy_helper.to_array(constants[node.input[2]])
            assert zero.dtype == np.int8
            assert not zero.any()
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    kinds = {made[node.input[1]].op_type for node in convolutions}
    assert kinds == {"DequantizeLinear"}
    weights = {made[node.input[1]].input[0] for node in convolutions}
    assert all(name in constants or made[name].op_type == "Transpose" for name in weights)


@pytest.mark.slow
def test_a_plan_for_another_target_is_refused_in_one_line(folder):
    run(*frontier_command(folder, "any.onnx", *OPTIONS))
    command = ("apply", folder / "any.run", "-o", folder / "no.onnx", "--target", "qnn")
    assert_one_line(run(*command), "--target qnn takes symmetric grids")
    assert not (folder / "no.onnx").exists()


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--target", "tensorrt", "--profile", "nodes"), "--profile nodes"),
        (("--target", "qnn", "--pin", "c1=6"), "--pin: 6 bits"),
        (("--target", "qnn", "--scheme", "asymmetric"), "--scheme asymmetric"),
        (
            (
                "--target",
                "mnn",
            ),
            "--split none",
        ),
        (("--per-layer",), "--per-layer"),
    ],
)
def test_contradicting_options_are_one_line(more, word, folder):
    assert_one_line(run(*compress_command(folder, "no.onnx", *more)), word)


def test_profiles_of_targets_are_there():
    assert {taken.profile for taken in DEPLOYMENTS.values()} <= set(Profile)
