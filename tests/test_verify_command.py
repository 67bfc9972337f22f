"""``verify``: a file is whole, and the one of its plan and its run; else one line, exit code 1."""

import json
import shutil

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, frontier_command, run
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi._emit.seal import CHANGED, content_digest, is_whole
from onnxsemi._emit.stored_weights import CONTENT, WEIGHTS
from onnxsemi._run.plan_file import read_plan

pytestmark = pytest.mark.slow
SMALL = ("--rounding-samples", "20", "--max-drop", "90", "--bits", "8,4", "-q")
FLIPS = 300


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    for name, seed in (("small", "0"), ("seeded", "1")):
        made = run(*frontier_command(folder, f"{name}.onnx", *SMALL, "--seed", seed))
        assert made.exit_code == 0, made.output
    return folder


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done, tmp_path / "copy")


def test_whole(done):
    model, plan, folder = done / "small.onnx", done / "small.plan.json", done / "small.run"
    found = onnxsemi.verify(model, plan=plan, run=folder)
    said = [line.partition(":")[0] for line in found.checked]
    assert said == ["model", "plan", "weights", "run", "run", "weights"]
    shown = run("verify", model, "--plan", plan, "--run", folder)
    assert shown.exit_code == 0, shown.output
    assert "small.onnx: whole" in shown.stdout
    document = json.loads(run("verify", model, "--json").stdout)
    assert document["checked"] == ["model: what was written, 7 layers"]


@pytest.mark.parametrize("profile", list(onnxsemi.Profile))
def test_every_profile_carries_its_digests(done, tmp_path, profile):
    more = ("--scheme", "symmetric", "--profile", profile, "--pin", "dw=8")
    out = tmp_path / "out.onnx"
    made = run(*frontier_command(done, out, *SMALL, "--run", tmp_path / "r.run", *more))
    assert made.exit_code == 0, made.output
    found = onnxsemi.verify(out, plan=tmp_path / "out.plan.json", run=tmp_path / "r.run")
    assert "weights: those of" in found.checked[2]
    properties = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert properties[WEIGHTS] == read_plan(tmp_path / "out.plan.json").weights_sha256


def test_one_flipped_bit_of_the_model(done, tmp_path):
    """It is refused, or means the same: a name of no consequence, an order of bytes."""
    whole = (done / "small.onnx").read_bytes()
    proto, path = onnx.load(done / "small.onnx"), tmp_path / "flipped.onnx"
    places = np.random.default_rng(0).integers(8 * len(whole), size=FLIPS)
    for place in places.tolist():
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            onnxsemi.verify(path)
        except onnxsemi.OnnxSemiError:
            continue
        assert content_digest(onnx.load(path)) == content_digest(proto), place


def changed_bias(folder):
    model = onnx.load(folder / "small.onnx")
    bias = next(t for t in model.graph.initializer if t.data_type == 1 and len(t.dims) == 1)
    values = np.frombuffer(bias.raw_data, "<f4").copy()
    values[0] += 1
    bias.raw_data = values.tobytes()
    onnx.save(model, folder / "small.onnx")


def test_a_changed_weight_is_said_wherever_the_file_is_read(copy):
    changed_bias(copy)
    assert_one_line(run("verify", copy / "small.onnx"), "was changed since onnxsemi wrote it")
    assert CHANGED in " ".join(run("inspect", copy / "small.onnx").stdout.split())
    told = run("evaluate", copy / "small.onnx", "--data", copy / "report.npz", "--force")
    assert CHANGED in told.stderr
    more = ("--reference", copy / "small.onnx")
    told = run("evaluate", copy / "model.onnx", "--data", copy / "report.npz", "--force", *more)
    assert f"small.onnx: {CHANGED}" in told.stderr


def test_what_others_add_to_the_metadata_does_not_count(copy):
    model = onnx.load(copy / "small.onnx")
    model.metadata_props.add(key="author", value="us")
    onnx.save(model, copy / "small.onnx")
    onnxsemi.verify(copy / "small.onnx")


@pytest.mark.parametrize("key", ["onnxsemi.sizes", "onnxsemi.profile", WEIGHTS, CONTENT])
def test_what_it_says_of_itself_counts(copy, key):
    model = onnx.load(copy / "small.onnx")
    entry = next(entry for entry in model.metadata_props if entry.key == key)
    entry.value = entry.value.replace("0", "1").replace("q", "f")
    onnx.save(model, copy / "small.onnx")
    assert_one_line(run("verify", copy / "small.onnx"), "was changed since")


def test_files_that_say_nothing(copy):
    assert_one_line(run("verify", copy / "model.onnx"), "onnxsemi did not write it")
    model = onnx.load(copy / "small.onnx")
    kept = [entry for entry in model.metadata_props if entry.key != CONTENT]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, copy / "older.onnx")
    assert is_whole(model) is None
    assert_one_line(run("verify", copy / "older.onnx"), "an older version wrote it")
    assert_one_line(run("verify", copy / "absent.onnx"), "no such file")


def test_another_plan(copy):
    plan = json.loads((copy / "small.plan.json").read_text())
    plan["layers"]["stem"]["bits"] = {"32": f"0-{plan['layers']['stem']['channels'] - 1}"}
    (copy / "edited.plan.json").write_text(json.dumps(plan))
    result = run("verify", copy / "small.onnx", "--plan", copy / "edited.plan.json")
    assert_one_line(result, "has other bitwidths than", "in layer 'stem' first")


def test_other_weights_of_the_same_bits(copy):
    plan = json.loads((copy / "small.plan.json").read_text())
    plan["weights_sha256"] = "0" * 64
    (copy / "other.plan.json").write_text(json.dumps(plan))
    result = run("verify", copy / "small.onnx", "--plan", copy / "other.plan.json")
    assert_one_line(result, "has other weights than", "other.plan.json")


def test_another_run(copy):
    result = run("verify", copy / "small.onnx", "--run", copy / "seeded.run")
    assert_one_line(result, "small.onnx: has", "seeded.run")


NAMES = ("run.json", "journal.jsonl", "rounding.npz", "crossed.npz", "moments.npz", "result.json")
NAMES = (*NAMES, "evidence.npz", "frontier.json", "finished.json", "spent.json", "looks.json")
NAMES = (*NAMES, "best.onnx")


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_of_the_run(copy, name):
    path = copy / "small.run" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = run("verify", copy / "small.onnx", "--run", copy / "small.run")
    assert_one_line(result, name)
    assert path.read_bytes() == bytes(data)


@pytest.mark.parametrize("name", ["rounding.npz", "evidence.npz", "frontier.json", "spent.json"])
def test_a_file_of_another_run(copy, name):
    shutil.copy(copy / "seeded.run" / name, copy / "small.run" / name)
    result = run("verify", copy / "small.onnx", "--run", copy / "small.run")
    assert_one_line(result, name, "is of another run")


def test_a_line_that_was_cut_short_is_left(copy):
    journal = copy / "small.run/journal.jsonl"
    cut = journal.read_bytes() + b'{"run'
    journal.write_bytes(cut)
    assert run("verify", copy / "small.onnx", "--run", copy / "small.run").exit_code == 0
    assert journal.read_bytes() == cut


@pytest.mark.parametrize("same_bits", [True, False])
def test_a_new_model_beside_an_old_plan(copy, same_bits):
    """As a process leaves them that was killed between the two: who reads both is told."""
    plan = copy / "small.plan.json"
    if same_bits:  # rounded by another seed
        document = json.loads((copy / "seeded.plan.json").read_text())
        document["layers"] = json.loads(plan.read_text())["layers"]
        document["plan_sha256"] = json.loads(plan.read_text())["plan_sha256"]
    else:
        document = json.loads(plan.read_text())
        layer = next(iter(document["layers"].values()))
        layer["bits"] = {"2": f"0-{layer['channels'] - 1}"}
    plan.write_text(json.dumps(document))
    assert_one_line(run("verify", copy / "small.onnx", "--plan", plan), "small.onnx: has other")
    shown = run("inspect", copy / "small.onnx", plan)
    assert shown.exit_code == 0, shown.output
    found = json.loads(run("inspect", copy / "small.onnx", plan, "--json").stdout)
    assert found["settings"] if same_bits else found["layers"]
