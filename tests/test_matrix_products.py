"""Matrix products on tokens, which ONNX Runtime and OpenVINO may fuse with what is before them."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx_models import Net, images

from onnxsemi._data.images import ImageSet
from onnxsemi._emit.layout import Parts, to_stored
from onnxsemi._emit.model import emit
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.stored_weights import read_stored
from onnxsemi._emit.verification import TOLERANCE, verify
from onnxsemi._errors import VerificationError
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.bits import BitPlan
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._runtime.sessions import Session

PROFILES = [profile for profile in Profile if not profile.quantizes_activations]
MIXES = {
    "8": (8,),
    "4": (4,),
    "2": (2,),
    "mixed": (8, 4, 2),
    "with-float": (32, 4),
    "with-0": (0, 5),
}
TOKENS = Net(
    """
    patches = Conv <strides = [2,2]> (image, patches_w, patches_b)
    shape = Constant <value_ints = [0, 64, -1]> ()
    flat = Reshape (patches, shape)
    tokens = Transpose <perm = [0, 2, 1]> (flat)
    up = MatMul (tokens, up_w)
    bent = Relu (up)
    down = MatMul (bent, down_w)
    joined = Add (tokens, down)
    pooled = ReduceMean <axes = [1], keepdims = 0> (joined)
    mixed = Gemm (pooled, mixed_w, mixed_b)
    turned = Gemm <transB = 1> (mixed, turned_w, mixed_b)
    scores = MatMul (turned, scores_w)
    """,
    {
        "patches_w": (64, 3, 2, 2),
        "patches_b": (64,),
        "up_w": (64, 128),
        "down_w": (128, 64),
        "mixed_w": (64, 32),
        "mixed_b": (32,),
        "turned_w": (32, 32),
        "scores_w": (32, 5),
    },
)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "net.onnx"
    onnx.save(TOKENS.model(), path)
    classifier = read_model(path, ReadOptions(targets="all"))
    data = ImageSet("noise", images(40, seed=1), np.zeros(40, np.int64))
    return Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), threads=1)


def codes_of(workload, mix):
    layers = workload.classifier.layers
    plan = BitPlan.uniform(layers, mix[0])
    for layer in layers:
        for place, bits in enumerate(mix):
            plan = plan.with_bits(layer.name, range(place, layer.channels, len(mix)), bits)
    return rounded(layers, plan, workload.rounding)


def default_logits(model, pixels):
    """In a session as a user opens it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"image": pixels})[0]


def openvino_logits(model, pixels):
    """In float32; on a processor with bfloat16 that is not its default."""
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", options)
    return next(iter(compiled({"image": pixels}).values()))


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("profile", PROFILES)
def test_default_sessions_give_what_was_measured(workload, profile, mix):
    codes, pixels = codes_of(workload, mix), workload.images.batch(0, 40)
    simulated = simulate(workload.classifier, codes).SerializeToString()
    expected = Session(simulated, optimize=False).run({"image": pixels})["scores"]
    model = emit(workload.classifier, codes, profile)
    every = [default_logits(model, pixels)]
    if profile is not Profile.NATIVE or 2 not in mix:  # of which OpenVINO has no type
        every.append(openvino_logits(model, pixels))
    for found in every:
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("bits", [8, 4])
def test_openvino_rounds_nothing_that_symmetric_weights_multiply(workload, profile, bits):
    symmetric = replace(workload, rounding=Nearest(Scheme.SYMMETRIC))
    codes, pixels = codes_of(symmetric, (bits,)), workload.images.batch(0, 40)
    expected = default_logits(simulate(workload.classifier, codes), pixels)
    found = openvino_logits(emit(workload.classifier, codes, profile), pixels)
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("profile", PROFILES)
def test_the_file_says_what_it_stores(workload, profile):
    codes = codes_of(workload, (4,))
    found = read_stored(emit(workload.classifier, codes, profile))
    assert [layer.name for layer in found.layers] == [
        layer.name for layer in workload.classifier.layers
    ]
    if profile is not Profile.FAKE:
        assert {group.bits for layer in found.layers for group in layer.groups} == {4}
        sizes = [group.code_bytes for layer in found.layers for group in layer.groups]
        assert sizes == [layer.weight.size // 2 for layer in workload.classifier.layers]


def test_what_a_default_session_fuses_does_not_pass(workload, tmp_path, monkeypatch):
    """DequantizeLinear, Transpose and MatMul become MatMulNBits, which rounds what it takes."""

    def fusible(parts, label, group, layout):
        return to_stored(parts.build, parts.weight(label, group), layout)

    monkeypatch.setattr(Parts, "stored", fusible)
    codes = codes_of(workload, (8,))
    path = tmp_path / "fused.onnx"
    onnx.save(emit(workload.classifier, codes), path)
    with pytest.raises(VerificationError, match="in a default session"):
        verify(path, workload, codes)
