"""Profile native: ONNX's own types of 2 and 4 bits, whatever grids a plan was searched on."""

import json

import numpy as np
import onnx
import pytest
from command_line import frontier_command, run
from onnx import TensorProto
from residual_net import save_noise, save_residual_net

import onnxsemi

pytestmark = pytest.mark.slow

NARROW = {TensorProto.UINT4, TensorProto.INT4, TensorProto.UINT2, TensorProto.INT2}
OPTIONS = ("--rounding-samples", "40", "--max-drop", "3", "--bits", "8,4,2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A default run, its plan and its file; and one of profile native."""
    folder = tmp_path_factory.mktemp("native")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    for out, profile in (("small", "qdq"), ("native", "native")):
        command = frontier_command(folder, f"{out}.onnx", *OPTIONS, "--profile", profile, "--json")
        result = run(*command)
        assert result.exit_code == 0, result.output
        (folder / f"{out}.json").write_text(result.stdout)
    return folder


def apply(folder, out, *more, plan="small.plan.json", profile="native"):
    command = ("apply", folder / plan, folder / "model.onnx", "-o", folder / out)
    images = ("--calibration-data", folder / "search.npz")
    return run(*command, *images, "--profile", profile, *more)


def narrow(path):
    """Names of the types of 2 and 4 bits -> number of initializers."""
    types = [tensor.data_type for tensor in onnx.load(path).graph.initializer]
    return {TensorProto.DataType.Name(kind): types.count(kind) for kind in NARROW & set(types)}


def test_a_default_plan_is_on_half_steps(folder):
    record = json.loads((folder / "small.plan.json").read_text())["rounding"]
    assert record["half_steps"] is True
    assert narrow(folder / "small.onnx") == {}


def test_a_default_plan_is_written_in_onnx_types(folder):
    result = apply(folder, "typed.onnx", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    bits = {
        name: {int(b) for b in layer["bits"]} & {2, 4}
        for name, layer in json.loads((folder / "small.plan.json").read_text())["layers"].items()
    }
    typed = {name for name, found in bits.items() if found}
    assert typed
    assert document["rounded_anew"] is True
    assert document["types"]["layers"] == {
        name: [f"UINT{each}" for each in sorted(bits[name], reverse=True)]
        for name in bits
        if name in typed
    }
    assert set(document["types"]["others"]) == bits.keys() - typed
    assert set(narrow(folder / "typed.onnx")) == {
        f"UINT{b}" for found in bits.values() for b in found
    }
    assert (folder / "typed.onnx").stat().st_size < (folder / "small.onnx").stat().st_size


def test_it_is_said(folder):
    result = apply(folder, "typed.onnx")
    words = " ".join(result.stdout.split())
    assert "ONNX's own types hold" in words
    assert "rounded anew on whole steps" in words


def test_every_other_profile_keeps_the_weights_of_the_plan(folder):
    for profile in ("qdq", "fast"):
        document = json.loads(apply(folder, "other.onnx", "--json", profile=profile).stdout)
        assert document["rounded_anew"] is False
        assert document["types"] is None
        assert document["same_weights"] is True


def test_compress_says_it_too_and_its_plan_is_on_whole_steps(folder):
    document = json.loads((folder / "native.json").read_text())
    assert document["types"]["layers"]
    assert json.loads((folder / "native.plan.json").read_text())["rounding"]["half_steps"] is False
    again = json.loads(apply(folder, "again.onnx", "--json", plan="native.plan.json").stdout)
    assert again["rounded_anew"] is False
    assert again["same_weights"] is True
    assert (folder / "again.onnx").read_bytes() == (folder / "native.onnx").read_bytes()


def test_a_point_of_a_run(folder):
    """The plan beside it says how it was rounded: it gives the same bytes, and the same logits."""
    result = run("apply", folder / "small.run", "-o", folder / "point.onnx", "--profile", "native")
    assert result.exit_code == 0, result.output
    assert narrow(folder / "point.onnx")
    record = json.loads((folder / "point.plan.json").read_text())["rounding"]
    assert record["half_steps"] is False
    for profile in ("native", "fake"):
        made = apply(folder, f"{profile}_again.onnx", plan="point.plan.json", profile=profile)
        assert made.exit_code == 0, made.output
    assert (folder / "native_again.onnx").read_bytes() == (folder / "point.onnx").read_bytes()
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    native, fake = (
        onnxsemi.load_session(folder / f"{name}.onnx").run(None, {"image": images})[0]
        for name in ("point", "fake_again")
    )
    np.testing.assert_allclose(native, fake, atol=1e-5 * np.abs(fake).max())


def test_bitwidths_without_a_type_keep_their_weights(folder):
    plan = json.loads((folder / "small.plan.json").read_text())
    for layer in plan["layers"].values():
        layer["bits"] = {"3": f"0-{layer['channels'] - 1}"}
    (folder / "three.plan.json").write_text(json.dumps(plan))
    document = json.loads(apply(folder, "three.onnx", "--json", plan="three.plan.json").stdout)
    assert document["rounded_anew"] is False
    assert document["types"]["layers"] == {}
    assert "0 of 7 layers (none)" in apply(folder, "three.onnx", plan="three.plan.json").stdout
