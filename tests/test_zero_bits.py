"""Channels at 0 bits through the whole tool: searched, written, taken up again, applied."""

import json

import numpy as np
import onnx
import pytest
from command_line import frontier_command, run
from onnx import numpy_helper
from residual_net import residual_net, save_noise

import onnxsemi
from onnxsemi._rounding.gptq import Factor
from onnxsemi._rounding.second_moments import MomentSums

pytestmark = pytest.mark.slow

DEAD = (1, 2, 4, 6, 7)
MORE = ("--bits", "8,4,2,1,0", "--rounding-samples", "40", "--max-drop", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A net in which nothing comes of some channels of c1, compressed, and the JSON of that."""
    folder = tmp_path_factory.mktemp("zero")
    model = residual_net()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "c1_b")
    values = numpy_helper.to_array(bias).copy()
    values[list(DEAD)] = -1000  # below zero whatever the image, before a Relu
    bias.CopyFrom(numpy_helper.from_array(values, "c1_b"))
    onnx.save(model, folder / "model.onnx")
    for name, seed in (("search", 1), ("report", 2)):
        save_noise(folder / f"{name}.npz", count=70, seed=seed, labels=False)
    result = run(*frontier_command(folder, "small.onnx", *MORE, "--json"))
    assert result.exit_code == 0, result.output
    (folder / "small.json").write_text(result.stdout)
    return folder


def test_channels_without_influence_have_no_bits(folder):
    bits = json.loads((folder / "small.json").read_text())["plan"]["layers"]["c1"]
    assert {bits[channel] for channel in DEAD} == {0}
    held = json.loads(run("inspect", folder / "small.onnx", "--json").stdout)["layers"]
    groups = next(layer["groups"] for layer in held if layer["name"] == "c1")
    zero = next(group for group in groups if group["bits"] == 0)
    assert zero["channels"] == bits.count(0)
    assert (zero["code_bytes"], zero["scale_bytes"]) == (0, 0)


def test_weights_are_zero_in_a_users_session(folder):
    """The outputs of the channels are what their biases are: the same for every image."""
    model = onnx.load(folder / "small.onnx")
    c1 = next(node for node in model.graph.node if node.name == "c1")
    model.graph.output.append(onnx.helper.make_tensor_value_info(c1.output[0], 1, None))
    onnx.save(model, folder / "exposed.onnx")
    images = np.random.default_rng(3).normal(size=(4, 3, 8, 8)).astype(np.float32)
    session = onnxsemi.load_session(folder / "exposed.onnx")
    channels = session.run(None, {"image": images})[1]
    constant = np.ptp(channels, axis=(0, 2, 3)) == 0
    bits = json.loads((folder / "small.json").read_text())["plan"]["layers"]["c1"]
    assert constant.tolist() == [b == 0 for b in bits]


@pytest.mark.parametrize("lines", [3, 8, None])
def test_a_run_that_is_taken_up_again_gives_the_same_bytes(folder, lines):
    before = (folder / "small.onnx").read_bytes()
    journal = folder / "small.run" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    (folder / "small.onnx").unlink()
    result = run(*frontier_command(folder, "small.onnx", *MORE, "--resume", "-q"))
    assert result.exit_code == 0, result.output
    assert (folder / "small.onnx").read_bytes() == before


def test_the_plan_gives_the_same_bytes(folder):
    command = ("apply", folder / "small.plan.json", folder / "model.onnx")
    data = ("--calibration-data", folder / "search.npz")
    assert run(*command, "-o", folder / "again.onnx", *data).exit_code == 0
    assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()


def test_pages_show_it(folder):
    assert run("report", folder / "small.run", "-o", folder / "page.html").exit_code == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert "0 bits" in page
    assert 'class="b0"' in page


def test_integer_kernels_run_it(folder):
    result = run(*frontier_command(folder, "int8.onnx", *MORE, "--profile", "int8", "--json"))
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert 0 in document["plan"]["layers"]["c1"]
    assert document["kernels"]["integer"]["c1"] == "QLinearConv"


def test_inputs_that_never_change_can_be_rounded_for():
    """Covariances of a constant are noise of float32 sums, which may be below zero."""
    sums = MomentSums(1, 6, 2)
    rng = np.random.default_rng(0)
    for _ in range(50):
        block = np.full((1, 6, 999), np.float32(0.3)) * np.arange(1, 7, dtype=np.float32)[:, None]
        block[0, 5] = rng.normal(size=999)
        sums.add([sums.block(block, rng.normal(size=(2, 999)).astype(np.float32))])
    moments = sums.moments(centred=True, damping=np.zeros(1))
    assert not moments.second[0, :5].any()
    assert not moments.second[0, :, :5].any()
    assert moments.second[0, 5, 5] == pytest.approx(1, abs=0.05)
    assert moments.cross is not None
    assert not moments.cross[:, :5].any()
    Factor.of(moments.second[0])


def test_noise_that_is_larger_than_the_damping():
    second = np.eye(20, dtype=np.float32) - np.float32(0.1)  # one eigenvalue is -1
    upper = Factor.of(second).upper[0]
    assert np.isfinite(upper).all()
    assert (np.diag(upper) > 0).all()
