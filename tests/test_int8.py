"""Profile int8 as a user meets it: calibrated, searched, applied, refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from command_line import assert_one_line, compress_command, run
from onnx import numpy_helper, parser
from run_files import asked

import onnxsemi
from onnxsemi import Calibration, ImageSet, ModelError, Profile, Scheme, Settings
from onnxsemi._model.reader import read_model
from onnxsemi._pipeline import selection as choice
from onnxsemi._pipeline.activations import calibrate
from onnxsemi._search.protocols import Closeness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compressed(folder):
    """The document of a compression to int8."""
    command = compress_command(folder, "eight.onnx", "--profile", "int8", "--max-drop", "5")
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_target_is_counted(compressed, folder):
    inspected = run("inspect", folder / "model.onnx", "--json", "--targets", "hidden")
    layers = json.loads(inspected.stdout)["layers"]
    targets = {layer["name"] for layer in layers if layer["status"] == "target"}
    nodes = compressed["kernels"]["integer"] | compressed["kernels"]["float32"]
    assert targets <= nodes.keys()
    assert set(compressed["kernels"]["integer"].values()) <= {"QLinearConv"}
    assert set(compressed["kernels"]["float32"].values()) <= {"it has float32 channels"}


def test_accuracy_is_that_of_a_users_session(compressed, folder):
    """Search and report figures again, with an ONNX Runtime session as a user opens it."""
    session = onnxruntime.InferenceSession(
        folder / "eight.onnx", providers=["CPUExecutionProvider"]
    )
    for part in ("search", "report"):
        data = np.load(folder / f"{part}.npz")
        pixels = ((data["x"] / np.float32(255) - data["mean"]) / data["std"]).astype(np.float32)
        logits = session.run(None, {"image": pixels.transpose(0, 3, 1, 2)})[0]
        right = int((logits.argmax(axis=1) == data["y"]).sum())
        assert compressed[part]["correct_after"] == right


def test_the_drop_allowed_holds_with_quantized_activations(compressed):
    search = compressed["search"]
    assert search["correct_before"] - search["correct_after"] <= 5 / 100 * search["images"]
    assert compressed["plan"]["compression"] == compressed["chosen"]["compression"]


def test_the_table_says_how_it_runs(folder, compressed):
    del compressed  # the plan is there
    result = run("apply", folder / "eight.plan.json", folder / "model.onnx", "-o",
                 folder / "table.onnx", "--profile", "int8")  # fmt: skip
    text = " ".join(result.stdout.split())
    assert "Integer kernels: " in text
    assert "QLinearConv)." in text
    assert "weights verified bit for bit, logits within the noise of the uint8 grids" in text


class Scripted:
    """Gives so many right answers, plan by plan; none at the end."""

    def __init__(self, rights):
        self.rights = list(rights)
        self.plans = []

    def __call__(self, plan, _ranges):
        self.plans.append(plan)
        right = self.rights.pop(0) if self.rights else 0
        return choice.Seen(np.arange(60) < right, Closeness(kl=0.0, changed=0))


def test_the_most_compressed_point_that_holds_is_taken(folder, monkeypatch):
    """The first two plans lose too much on integers, the third holds."""
    float_right = json.loads(
        run(
            "evaluate", folder / "model.onnx", "-d", folder / "search.npz", "--json", "--force"
        ).stdout
    )["correct"]
    oracle = Scripted([float_right - 1, float_right - 2, float_right])
    monkeypatch.setattr(choice.Chooser, "_on_integers", oracle)
    command = compress_command(folder, "third.onnx", "--profile", "int8")
    document = json.loads(run(*command, "--json").stdout)
    compressions = [plan.compression for plan in oracle.plans]
    assert len(compressions) == 3
    assert compressions == sorted(compressions, reverse=True)
    assert document["plan"]["compression"] == compressions[2]


def test_no_point_holds(folder, monkeypatch):
    monkeypatch.setattr(choice.Chooser, "_on_integers", Scripted([]))
    result = run(*compress_command(folder, "none.onnx", "--profile", "int8", "--quiet"))
    assert_one_line(result, "activations in uint8", "--max-drop", "--calibration", code=4)
    assert not (folder / "none.onnx").exists()
    assert not (folder / "none.plan.json").exists()


def test_a_run_that_is_taken_up_again_gives_the_same_bytes(folder, compressed):
    del compressed
    written = (folder / "eight.onnx").read_bytes()
    command = compress_command(folder, "eight.onnx", "--profile", "int8", "--max-drop", "5")
    journal = folder / "eight.run" / "journal.jsonl"
    kinds = [kind for kind, _ in asked(journal.parent)]
    assert {"Calibrated", "OnIntegers"} <= set(kinds)
    for keep in (kinds.index("Calibrated"), kinds.index("OnIntegers") + 1, len(kinds)):
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:keep]))
        (folder / "eight.onnx").unlink()
        assert run(*command, "--resume").exit_code == 0
        assert (folder / "eight.onnx").read_bytes() == written


def test_threads_and_batches_change_no_byte(folder, compressed):
    del compressed
    command = compress_command(folder, "threads.onnx", "--profile", "int8", "--max-drop", "5")
    assert run(*command, "--threads", "3").exit_code == 0
    assert (folder / "threads.onnx").read_bytes() == (folder / "eight.onnx").read_bytes()


@pytest.mark.parametrize("calibration", Calibration)
def test_calibrators(calibration, folder, compressed):
    del compressed
    path = folder / f"{calibration}.onnx"
    command = (
        *("apply", folder / "eight.plan.json", folder / "model.onnx", "-o", path),
        *("--profile", "int8", "--calibration-data", folder / "search.npz"),
    )
    assert run(*command, "--calibration", calibration).exit_code == 0
    scales = {t.name: t for t in onnx.load(path).graph.initializer if not t.dims}
    assert scales  # one value a grid
    other = folder / "eight.onnx"
    same = path.read_bytes() == other.read_bytes()
    assert same == (calibration is Calibration.MINMAX)  # all calibration images were calibrated on


def test_a_plan_of_every_layer_gives_the_same_bytes_again(folder):
    """With the stem among the targets the image is quantized too."""
    more = ("--profile", "int8", "--targets", "all", "--max-drop", "20")
    assert run(*compress_command(folder, "all.onnx", *more)).exit_code == 0
    document = json.loads((folder / "all.plan.json").read_text())
    assert "image" in document["activations"]
    apply = ("apply", folder / "all.plan.json", folder / "model.onnx", "-o", folder / "all2.onnx")
    assert run(*apply, "--profile", "int8").exit_code == 0
    assert (folder / "all2.onnx").read_bytes() == (folder / "all.onnx").read_bytes()


def test_a_symmetric_plan_without_ranges_needs_images(folder):
    command = compress_command(folder, "sym.onnx", "--scheme", "symmetric")
    assert run(*command).exit_code == 0
    apply = ("apply", folder / "sym.plan.json", folder / "model.onnx", "-o", folder / "never.onnx")
    assert_one_line(run(*apply, "--profile", "int8"), "no ranges", "--calibration-data")
    with_data = (*apply, "--profile", "int8", "--calibration-data", folder / "search.npz")
    assert run(*with_data).exit_code == 0


def test_an_asymmetric_plan_is_refused_with_the_reason(folder):
    command = ("apply", folder / "small.plan.json", folder / "model.onnx", "-o", folder / "no.onnx")
    result = run(*command, "--profile", "int8", "--calibration-data", folder / "search.npz")
    assert_one_line(result, "asymmetric", "integer kernels take no zero points", "--scheme")
    assert not (folder / "no.onnx").exists()


def test_asymmetric_grids_cannot_be_asked_for(folder):
    command = compress_command(folder, "no.onnx", "--profile", "int8", "--scheme", "asymmetric")
    assert_one_line(run(*command), "--scheme asymmetric", "symmetric grids")
    assert Settings(profile=Profile.INT8).grids is Scheme.SYMMETRIC
    assert Settings().grids is Scheme.ASYMMETRIC
    assert Settings(scheme="symmetric").grids is Scheme.SYMMETRIC


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--calibration-data", "missing.npz", "--profile", "int8"), ["missing.npz"]),
        (("--calibration-data", "search.npz", "--profile", "fast"), ["leaves activations float32"]),
        (("--calibration-data", "search.npz"), ["profile qdq leaves activations float32"]),
    ],
)
def test_calibration_data_that_cannot_be_used(arguments, words, folder, compressed):
    del compressed
    given = [folder / a if a.endswith(".npz") else a for a in arguments]
    command = ("apply", folder / "eight.plan.json", folder / "model.onnx", "-o", folder / "no.onnx")
    assert_one_line(run(*command, *given), *words)


@pytest.mark.parametrize(
    ("activations", "words"),
    [
        ({"nowhere": [0, 1]}, ["'nowhere' is no tensor"]),
        ({"a": [1, 0]}, ["'a'", "1 to 0"]),
        ({"a": [0, float("nan")]}, ["'a'", "no range"]),
        ({"a": [0]}, ["array` of length 2", "activations"]),
        ([], ["got `array`", "activations"]),
    ],
)
def test_ranges_that_cannot_be_used(activations, words, folder, compressed):
    del compressed
    document = json.loads((folder / "eight.plan.json").read_text())
    plan = folder / "edited.plan.json"
    plan.write_text(json.dumps(document | {"activations": activations}))
    command = ("apply", plan, folder / "model.onnx", "-o", folder / "no.onnx", "--profile", "int8")
    assert_one_line(run(*command), "edited.plan.json", *words)


@pytest.mark.parametrize("method", Calibration)
def test_an_activation_that_is_not_finite_is_refused_by_name(method, tmp_path):
    """The logits are finite all the same: what is NaN is replaced on the way."""
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N,1,8,8] image) => (float[N,4] scores) {
            root = Sqrt (image)
            a = Conv (root, w)
            nan = IsNaN (a)
            inf = IsInf (a)
            odd = Or (nan, inf)
            zero = Constant <value = float[1] {0.0}> ()
            whole = Where (odd, zero, a)
            pooled = GlobalAveragePool (whole)
            scores = Flatten (pooled)
        }
    """)
    weight = np.random.default_rng(0).normal(size=(4, 1, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "model.onnx")
    classifier = read_model(tmp_path / "model.onnx")
    pixels = np.ones((40, 1, 8, 8), np.float32)
    pixels[-1, 0, 3, 3] = -1
    images = ImageSet("images", pixels)
    with pytest.raises(ModelError, match=r"'root' is NaN or infinite|cannot calibrate"):
        calibrate(classifier, images, method)


def test_calibration_on_no_images(folder):
    command = compress_command(folder, "no.onnx", "--profile", "int8")
    result = run(*command, "--calibration-samples", "0")
    assert_one_line(result, "--calibration-samples: 0 must be 1 or more")


def test_evaluate_runs_on_integers(folder, compressed):
    document = json.loads(
        run(
            "evaluate", folder / "eight.onnx", "-d", folder / "report.npz", "--json", "--force"
        ).stdout
    )
    assert document["correct"] == compressed["report"]["correct_after"]


def test_load_session_leaves_the_integer_kernels(folder, compressed, tmp_path):
    del compressed
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxsemi.load_session(folder / "eight.onnx", options)
    kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    assert "QLinearConv" in kinds


def test_a_shared_weight_loads_where_integer_sums_must_not_overflow(folder, compressed):
    """The option of processors without VNNI replaces every constant of a DequantizeLinear once."""
    del compressed
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    model = folder / "eight.onnx"
    codes = [n.input[0] for n in onnx.load(model).graph.node if n.op_type == "DequantizeLinear"]
    assert len(codes) == len(set(codes))
    onnxruntime.InferenceSession(model, options)
