"""Profiles as a user meets them: one plan in every form, sizes that add up, refusals in time."""

import gzip
import json

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, compress_command, run
from emitting import nearest, plan_of
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from onnx_models import HEAD, SAME, Net, conv, head_shapes, images

import onnxsemi
from onnxsemi import Profile, Scheme
from onnxsemi._emit.model import emit
from onnxsemi._emit.stored_weights import emitted_properties
from onnxsemi._model.loader import default_opset
from onnxsemi._model.reader import read_model
from onnxsemi._runtime.sessions import Session

pytestmark = pytest.mark.slow

HINTS = {
    Profile.QDQ: "onnxsemi.load_session",
    Profile.FAST: "in any ONNX Runtime session",
    Profile.DENSE: "in any ONNX Runtime session",
    Profile.INT8: "in any ONNX Runtime session",
    Profile.INT8_DENSE: "in any ONNX Runtime session",
    Profile.NATIVE: "onnxsemi.load_session",
    Profile.NODES: "onnxsemi.load_session",
    Profile.PORTABLE: "in any ONNX Runtime session",
    Profile.TENSORRT: "For TensorRT",
    Profile.FAKE: "the file is no smaller",
}
UNDIVIDED = ("--exclude", "dw")  # the depthwise convolution


@pytest.mark.parametrize("profile", Profile)
def test_compress_and_apply_write_every_profile(profile, folder):
    command = compress_command(folder, f"{profile}.onnx", "--profile", profile, *UNDIVIDED)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert HINTS[profile] in " ".join(result.stdout.split())
    written = folder / f"{profile}.onnx"
    properties = emitted_properties(onnx.load(written))
    assert properties["onnxsemi.profile"] == profile
    again = folder / f"{profile}-again.onnx"
    plan = folder / f"{profile}.plan.json"
    document = json.loads(
        run(
            "apply", plan, folder / "model.onnx", "-o", again, "--profile", profile, "--json"
        ).stdout
    )
    assert document["profile"] == profile
    assert again.read_bytes() == written.read_bytes()


def test_every_profile_gives_the_same_answers(folder):
    images = np.random.default_rng(3).normal(size=(20, 3, 8, 8)).astype(np.float32)
    plan = folder / "profiles.plan.json"
    run(*compress_command(folder, "profiles.onnx", *UNDIVIDED))
    logits = {}
    for profile in (p for p in Profile if not p.quantizes_activations):
        path = folder / f"answers-{profile}.onnx"
        settings = onnxsemi.ApplySettings(profile=profile)
        assert onnxsemi.apply(plan, folder / "model.onnx", output=path, settings=settings)
        logits[profile] = onnxsemi.load_session(path).run(None, {"image": images})[0]
    for found in logits.values():
        assert np.abs(found - logits[Profile.FAKE]).max() <= 1e-5 * np.abs(found).max()


@pytest.mark.parametrize("profile", ["fast", "int8"])
def test_the_best_so_far_has_the_profile_too(profile, folder):
    name = f"best-{profile}"
    run(*compress_command(folder, f"{name}.onnx", "--profile", profile))
    best = onnx.load(folder / f"{name}.run" / "best.onnx")
    assert emitted_properties(best)["onnxsemi.profile"] == profile


@pytest.mark.parametrize("profile", Profile)
def test_sizes_add_up(profile, folder):
    path = folder / f"sizes-{profile}.onnx"
    command = compress_command(folder, path.name, "--profile", profile, *UNDIVIDED)
    sizes = json.loads(run(*command, "--json").stdout)["sizes"]
    held = json.loads(run("inspect", path, "--json").stdout)
    groups = [group for layer in held["layers"] for group in layer["groups"]]
    payload = held["float_bytes"] + sum(g["code_bytes"] + g["scale_bytes"] for g in groups)
    assert sizes["payload_bytes"] == payload
    assert held["sizes"] == sizes
    assert json.loads(held["properties"]["onnxsemi.sizes"])["payload_bytes"] == payload
    table = run("inspect", path).stdout
    assert f"{sizes['overhead']:+.2%}" in table
    assert f"{sizes['gzip_bytes']:,}" in table
    assert sizes["bytes_after"] == path.stat().st_size
    assert sizes["overhead"] == path.stat().st_size / payload - 1
    assert sizes["gzip_bytes"] == len(gzip.compress(path.read_bytes(), mtime=0))
    assert (sizes["model"] == 0) == (profile is Profile.FAKE)


def test_a_profile_that_cannot_hold_a_layer_is_refused_before_the_search(folder):
    result = run(*compress_command(folder, "grouped.onnx", "--profile", "nodes"))
    assert result.exit_code == 1
    assert "'dw' is a grouped convolution of several bitwidths" in result.stderr
    assert "phase" not in result.stderr
    assert not (folder / "grouped.onnx").exists()
    assert not (folder / "grouped.run").exists()
    pinned = run(*compress_command(folder, "grouped.onnx", "--profile", "nodes", "--pin", "dw=8"))
    assert pinned.exit_code == 0, pinned.output


def test_layers_that_are_not_split_can_be_grouped(folder):
    command = compress_command(folder, "whole.onnx", "--profile", "nodes", "--split", "none")
    assert run(*command).exit_code == 0


@pytest.mark.parametrize("profile", Profile)
def test_a_compressed_file_is_not_compressed_again(profile, folder):
    path = folder / f"twice-{profile}.onnx"
    assert (
        run(*compress_command(folder, path.name, "--profile", profile, *UNDIVIDED)).exit_code == 0
    )
    result = run(*compress_command(folder, "never.onnx", model=path.name))
    assert_one_line(result, "already quantized", "give the float model")


def test_a_profile_that_is_none(folder):
    assert run(*compress_command(folder, "none.onnx", "--profile", "tiny")).exit_code == 2
    with pytest.raises(onnxsemi.SettingsError, match="'tiny'"):
        onnxsemi.Settings(profile="tiny")
    with pytest.raises(onnxsemi.SettingsError, match="'tiny'"):
        onnxsemi.ApplySettings(profile="tiny")


NEWER = (Profile.QDQ, Profile.NODES)
"""Profiles whose DequantizeLinear the reference evaluator has not at their own opset."""


@pytest.mark.parametrize("profile", [p for p in Profile if not p.quantizes_activations])
def test_the_reference_evaluator_has_dequantize_linear_from_opset_19(profile):
    model = Net(
        conv("stem", "image", SAME) + "last = Relu (stem)\n" + HEAD,
        {"stem_w": (8, 3, 3, 3), **head_shapes(8)},
    ).model(opset=13)
    classifier, feed = read_model(model), {"image": images(4)}
    codes = nearest(classifier, plan_of(classifier, (8, 4)), Scheme.ASYMMETRIC)
    emitted = emit(classifier, codes, profile)
    (wanted,) = Session(emitted.SerializeToString(), optimize=False).run(feed).values()
    if profile in NEWER:
        assert default_opset(emitted) == 18
        with pytest.raises(RuntimeError, match="DequantizeLinear"):
            ReferenceEvaluator(emitted)
        emitted = version_converter.convert_version(emitted, 19)
    (found,) = ReferenceEvaluator(emitted).run(None, feed)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
