"""Small models in the shapes of people's exports: read, compressed, written in every profile."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import openvino
import pytest
from command_line import assert_one_line, run
from onnx.reference import ReferenceEvaluator

import onnxsemi
from onnxsemi import Profile, ReadOptions, Scheme, SearchSettings, Settings
from onnxsemi._emit.verification import KERNEL_NOISE
from onnxsemi._model.loader import default_opset

CASES = (
    "c01_keras_nhwc",
    "c02_cls_opset8",
    "c03_one_logit",
    "c04_cnn_lstm",
    "c07_fp16_casts",
    "c09a_bn_training",
    "c09b_dropout_training",
    "c11b_avgpool",
    "c11c_avgpool",
    "c12_weight_first",
    "c13_aux_unused",
    "c14_nc11",
    "c15_conv1d",
    "c16_uint8",
    "c18_sparse",
    "c19_multilabel",
    "c20_bf16",
    "c20b_allbf16",
    "c23_attention",
    "c25_matmul3d",
    "c28_mlp_blocks",
)
SAID = {
    "c04_cnn_lstm": "Stays float32: /lstm/LSTM, 248,832 bytes (96.0%)",
    "c09a_bn_training": "BatchNormalization in training mode",
    "c09b_dropout_training": "Dropout in training mode",
    "c13_aux_unused": "output 'aux_logits', 92% of the bytes",
    "c20b_allbf16": "bfloat16 was widened to float32",
    "c23_attention": "MatMul of two tensors that are computed at run time",
}
OUTPUTS = {"c13_aux_unused": "logits"}
NO_IMAGES = ("c20b_allbf16",)
FLOAT_PROFILES = (Profile.QDQ, Profile.FAST, Profile.NODES)
REFERENCE_OPSET = 19  # the reference evaluator's DequantizeLinear
BITS = (6, 4)  # doubled as half steps are, 7 bits: with 8, sums overflow on processors without VNNI
AGREES = 1e-5  # of the largest magnitude: float32 rounding
STEPS = 0.25  # of the root mean square: steps of uint8 activations
SHOWN = 16
PLAN = "small.plan.json"

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory):
    """Name and folder of a case, and a folder with it compressed."""
    name, work = request.param, tmp_path_factory.mktemp(request.param)
    folder = shared / "cases" / name
    settings = Settings(
        model=ReadOptions(output=OUTPUTS.get(name)),
        search=SearchSettings(bits=BITS, max_drop=100),
        scheme=Scheme.SYMMETRIC,  # what profile int8 can hold
        search_samples=60,
        allow_loss=True,
        force=True,
    )
    search, report = (data(name, folder, place) for place in range(2))
    model, output = folder / "model.onnx", work / "small.onnx"
    onnxsemi.compress(model, search, output=output, test_data=report, settings=settings)
    return name, folder, work


def data(name, folder, place):
    """Images to search on, or those for the report."""
    return noise(place) if name in NO_IMAGES else folder / f"{FILES[place]}.npz"


FILES = ("search", "report")


def noise(seed: int = 0):
    return np.random.default_rng(seed).normal(size=(60, 3, 16, 16)).astype(np.float32)


def test_inspect_says_what_is_special(case):
    name, folder, _ = case
    output = ("--output", OUTPUTS[name]) if name in OUTPUTS else ()
    result = run("inspect", folder / "model.onnx", *output)
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "target" in shown
    assert SAID.get(name, "target") in shown


@pytest.fixture(scope="module")
def fake(case):
    """Float32 weights on the grid, and what they answer."""
    path = written(case, Profile.FAKE)
    return in_runtime(path, feed(path, case))


@pytest.mark.parametrize("profile", FLOAT_PROFILES)
def test_every_runtime_gives_the_fake_profiles_answers(case, fake, profile):
    path = written(case, profile)
    for name, found in answers(path, case):
        assert np.abs(found - fake).max() <= AGREES * np.abs(fake).max(), name


def test_native_types_give_the_fake_profiles_answers_on_whole_steps(case):
    name, _, work = case
    plan = json.loads((work / PLAN).read_text())
    plan["rounding"]["half_steps"] = False
    (work / "whole.plan.json").write_text(json.dumps(plan))
    path = written(case, Profile.NATIVE)
    fake = in_runtime(written(case, Profile.FAKE, "whole.plan.json"), feed(path, case))
    for name, found in answers(path, case):
        assert np.abs(found - fake).max() <= AGREES * np.abs(fake).max(), name
    held = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    four = any("4" in layer["bits"] for layer in plan["layers"].values())
    assert (onnx.TensorProto.INT4 in held) == four


def test_activations_of_8_bits_differ_by_their_steps(case, fake):
    path = written(case, Profile.INT8)
    shown = dict(answers(path, case))
    steps = rms(shown["unoptimised"] - fake)
    assert 0 < steps <= STEPS * rms(fake)
    # OpenVINO rounds ties, and sums to the next grid, in ways of its own
    bounds = {"in_openvino": STEPS * rms(fake)}
    for name, found in shown.items():
        least = bounds.get(name, KERNEL_NOISE * steps)
        assert rms(found - shown["unoptimised"]) <= least, name


def written(case, profile, plan=PLAN):
    """A plan as a file of a profile."""
    name, folder, work = case
    path, model, images = work / f"{profile}.onnx", folder / "model.onnx", data(name, folder, 0)
    settings = onnxsemi.ApplySettings(profile=profile)
    onnxsemi.apply(work / plan, model, output=path, calibration_data=images, settings=settings)
    return path


def answers(path, case):
    """Runtime -> what it answers."""
    for runtime in (in_runtime, unoptimised, in_openvino, in_reference):
        if runtime is in_reference and default_opset(onnx.load(path)) < REFERENCE_OPSET:
            continue
        yield runtime.__name__, runtime(path, feed(path, case))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def feed(path, case):
    """Input name -> the first test images."""
    name, folder, _ = case
    (taken,) = ort.InferenceSession(path).get_inputs()
    shape = tuple(size if isinstance(size, int) else None for size in taken.shape)
    pixels = taken.type == "tensor(uint8)"
    shown = onnxsemi.load_images(data(name, folder, 1), taken.name, shape, raw=pixels)
    rows = shown.batch(0, SHOWN)
    return {taken.name: rows.astype(np.uint8) if pixels else rows}


def in_runtime(path, feeds):
    return ort.InferenceSession(path).run(None, feeds)[0]


def unoptimised(path, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options).run(None, feeds)[0]


def in_openvino(path, feeds):
    core = openvino.Core()
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return next(iter(compiled(feeds).values()))


def in_reference(path, feeds):
    return ReferenceEvaluator(str(path)).run(None, feeds)[0]


def test_control_flow_at_run_time_is_refused_in_one_line(shared):
    result = run("inspect", shared / "cases/c21_if/model.onnx")
    assert_one_line(result, "node 'If_9' is If", "export the model for fixed conditions")
