"""The commands as a user types them: what they print, what they write, how they fail."""

import json

import numpy as np
import onnx
import pytest
from onnx import parser
from residual_net import residual_net, save_noise, save_residual_net
from typer.testing import CliRunner

import onnxsemi
from onnxsemi.cli import app

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, search and report images, and one compressed file with its plan."""
    folder = tmp_path_factory.mktemp("cli")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    result = run(*compress_command(folder, "small.onnx"))
    assert result.exit_code == 0, result.output
    return folder


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def compress_command(folder, out, *more, model="model.onnx", data="search.npz"):
    report = ("--report-data", folder / "report.npz")
    return ("compress", folder / model, "--data", folder / data, *report, "-o", folder / out, *more)


def assert_one_line(result, *words):
    """Exit code 1, nothing on standard output, one line on standard error that has the words."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.stderr, result.stderr


class TestHelp:
    @pytest.mark.parametrize("command", ["compress", "apply", "evaluate", "inspect"])
    def test_each_command_teaches_with_an_example(self, command):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert f"Example: onnxsemi {command}" in " ".join(result.output.split())

    def test_version(self):
        result = run("--version")
        assert (result.exit_code, result.output) == (0, f"onnxsemi {onnxsemi.__version__}\n")

    def test_unknown_option_is_a_usage_error(self):
        assert run("compress", "--no-such-option").exit_code == 2


class TestCompress:
    def test_table_has_sizes_accuracy_and_how_to_load(self, folder):
        output = " ".join(run(*compress_command(folder, "again.onnx")).output.split())
        for words in (
            "target weights (the paper's ratio)",
            "whole model",
            "file",
            "search 60",
            "report 40",
            "lost/won",
            "95 % interval",
            "verified bit for bit",
            "onnxsemi.load_session",
        ):
            assert words in output

    def test_same_bytes_again_whatever_the_threads(self, folder):
        for threads in (1, 3):
            run(*compress_command(folder, "again.onnx", "--threads", threads))
            for name in ("onnx", "plan.json"):
                again, first = (folder / f"{stem}.{name}" for stem in ("again", "small"))
                assert again.read_bytes() == first.read_bytes()

    def test_json_is_complete_and_alone_on_standard_output(self, folder):
        result = run(*compress_command(folder, "again.onnx", "--json"))
        document = json.loads(result.stdout)
        assert result.stderr == ""
        assert document["sizes"]["bytes_after"] == (folder / "again.onnx").stat().st_size
        assert document["report"]["images"] == 40
        assert len(document["trials"]) == document["cost"]["trials"]
        assert {trial["decision"] for trial in document["trials"]} <= {
            "kept",
            "postponed",
            "quantized",
        }
        assert all(trial["reason"] for trial in document["trials"])
        chosen, held = document["chosen"], document["baseline"]["correct"]
        assert chosen["correct"] >= held
        assert document["search"]["correct_after"] == chosen["correct"]

    def test_quiet_prints_nothing(self, folder):
        result = run(*compress_command(folder, "again.onnx", "--quiet"))
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")

    def test_progress_names_the_phases_on_standard_error(self, folder):
        result = run(*compress_command(folder, "again.onnx"))
        for phase in ("Δloss", "KL", "accuracy-increasing phase, 8 bits", "postponing phase"):
            assert phase in result.stderr

    @pytest.mark.parametrize(
        "options",
        [
            ("--bits", "7,5,3,2"),
            ("--order", "ascending"),
            ("--split", "none"),
            ("--scheme", "symmetric"),
            ("--targets", "all"),
            ("--targets", "conv", "--exclude", "sum*", "--exclude", "stem"),
            ("--pin", "c1=4", "--max-drop", "100"),
            ("--delta-loss-samples", "10", "--search-samples", "20", "--seed", "7"),
        ],
        ids=" ".join,
    )
    def test_options(self, folder, options):
        if "sum*" in options:
            options = tuple(o.replace("sum*", "short") for o in options)
        result = run(*compress_command(folder, "option.onnx", *options, "--json"))
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        layers = document["plan"]["layers"]
        if "--pin" in options:
            assert set(layers["c1"]) == {4}
        if "--exclude" in options:
            assert not {"stem", "short"} & set(layers)
        if "--search-samples" in options:
            assert (document["search"]["images"], document["delta_loss_samples"]) == (20, 10)
        if "--split" in options:
            assert document["delta_loss_samples"] == 0

    def test_one_file_is_split_into_search_and_report(self, folder):
        command = ("compress", folder / "model.onnx", "-d", folder / "search.npz")
        result = run(*command, "-o", folder / "split.onnx", "--report-fraction", "0.25", "--json")
        document = json.loads(result.stdout)
        assert (document["search"]["images"], document["report"]["images"]) == (45, 15)

    def test_without_labels_agreement_is_reported_not_accuracy(self, folder):
        for name, seed in (("s", 1), ("r", 2)):
            save_noise(folder / f"{name}_unlabelled.npz", count=40, seed=seed, labels=False)
        command = ("compress", folder / "model.onnx", "--max-drop", 50)
        data = ("-d", folder / "s_unlabelled.npz", "--report-data", folder / "r_unlabelled.npz")
        result = run(*command, *data, "-o", folder / "unlabelled.onnx")
        assert result.exit_code == 0, result.output
        assert "agreement" in result.stdout
        assert "top-1" not in result.stdout


class TestOtherCommands:
    def test_apply_gives_the_same_bytes_as_compress(self, folder):
        plan = folder / "small.plan.json"
        result = run("apply", plan, folder / "model.onnx", "-o", folder / "applied.onnx")
        assert result.exit_code == 0, result.output
        assert (folder / "applied.onnx").read_bytes() == (folder / "small.onnx").read_bytes()

    def test_apply_takes_an_edited_plan(self, folder, tmp_path):
        plan = json.loads((folder / "small.plan.json").read_text())
        plan["layers"]["c1"]["bits"] = {"32": "0", "3": "1-7"}
        (tmp_path / "edited.json").write_text(json.dumps(plan))
        data = ("--data", folder / "report.npz")
        out = tmp_path / "e.onnx"
        result = run(
            "apply", tmp_path / "edited.json", folder / "model.onnx", "-o", out, *data, "--json"
        )
        document = json.loads(result.stdout)
        assert document["plan"]["layers"]["c1"] == [32, *[3] * 7]
        assert document["report"]["images"] == 40
        groups = {layer.name: layer.groups for layer in onnxsemi.inspect(out).layers}["c1"]
        assert [(group.bits, group.channels) for group in groups] == [(32, 1), (3, 7)]

    def test_evaluate_against_the_float_model(self, folder):
        reference = ("--reference", folder / "model.onnx")
        data = ("--data", folder / "report.npz")
        result = run("evaluate", folder / "small.onnx", *data, *reference, "--json")
        found = json.loads(result.stdout)
        compressed = json.loads(run(*compress_command(folder, "x.onnx", "--json")).stdout)["report"]
        assert found["paired"] == compressed
        assert found["correct"] == compressed["correct_after"]
        assert found["kl_nats"] > 0
        assert "95 % interval" in run("evaluate", folder / "small.onnx", *data, *reference).stdout

    def test_inspect_float_model_says_why_layers_are_no_targets(self, folder):
        output = run("inspect", folder / "model.onnx").stdout
        for words in ("target", "stem", "projection shortcut", "Gemm"):
            assert words in output

    def test_inspect_compressed_file_shows_bits_and_bytes(self, folder):
        document = json.loads(run("inspect", folder / "small.onnx", "--json").stdout)
        assert document["properties"]["onnxsemi.profile"] == "qdq"
        plan = json.loads((folder / "small.plan.json").read_text())["layers"]
        stored = {layer["name"]: layer for layer in document["layers"]}
        for name, entry in plan.items():
            bits = [int(bits) for bits in entry["bits"] if bits != "32"]
            found = [group["bits"] for group in stored[name]["groups"] if group["bits"] != 32]
            assert found == sorted(bits, reverse=True)


class TestBadInput:
    @pytest.mark.parametrize(
        ("model", "words"),
        [
            ("absent.onnx", "no such file"),
            ("text.onnx", "not an ONNX"),
            ("empty.onnx", "not an ONNX"),
            ("truncated.onnx", "cut short"),
            ("small.onnx", "already quantized"),
            ("dense.onnx", "no convolution"),
            ("images", "folder"),
        ],
    )
    def test_models(self, folder, model, words):
        (folder / "text.onnx").write_text("hello, this is no model\n" * 50)
        (folder / "empty.onnx").write_bytes(b"")
        (folder / "truncated.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-500])
        (folder / "images").mkdir(exist_ok=True)
        dense = parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,2] y)'
            " <float[4,2] w = {1,2,3,4,5,6,7,8}> { y = MatMul(x, w) }"
        )
        onnx.save(dense, folder / "dense.onnx")
        result = run(*compress_command(folder, "never.onnx", model=model))
        assert_one_line(result, words, model)
        assert not (folder / "never.onnx").exists()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"x": np.zeros((9, 8, 9, 3), np.uint8)}, "[3, 8, 8]"),
            ({"x": np.zeros((0, 8, 8, 3), np.uint8)}, "no images"),
            ({"x": np.full((9, 3, 8, 8), np.nan, np.float32)}, "image 0 holds NaN"),
            ({"y": np.array([0] * 8 + [5])}, "label 5 of image 8"),
            ({"y": np.array([0] * 8 + [-1])}, "label -1 of image 8"),
            ({"y": np.zeros(8, int)}, "9 images"),
            ({"x": np.array([{}] * 9, object)}, "not a readable .npz"),
            ({"mean": np.float32([1, 2])}, "mean or std"),
            ({"std": np.float32(0)}, "--std"),
        ],
        ids=["shape", "empty", "nan", "label", "negative", "count", "objects", "mean", "std"],
    )
    def test_images(self, folder, change, words):
        arrays = {"x": np.zeros((9, 8, 8, 3), np.uint8), "y": np.zeros(9, int)}
        np.savez(folder / "bad.npz", **(arrays | change))
        assert_one_line(run(*compress_command(folder, "n.onnx", data="bad.npz")), words)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--bits", "9"), "9 is outside 2 to 8"),
            (("--bits", "1"), "1 is outside 2 to 8"),
            (("--bits", ""), "--bits is empty"),
            (("--bits", "eight"), "'eight'"),
            (("--max-drop", "-1"), "--max-drop"),
            (("--delta-loss-samples", "0"), "--delta-loss-samples"),
            (("--search-samples", "0"), "--search-samples"),
            (("--threads", "0"), "--threads"),
            (("--seed", "-1"), "--seed"),
            (("--pin", "c1"), "--pin"),
            (("--pin", "c1=1"), "--pin"),
            (("--pin", "nothing*=8"), "matches no target layer"),
            (("--exclude", "nothing*"), "matches no layer"),
            (("--exclude", "*"), "no layer is left"),
            (("--mean", "a,b"), "--mean"),
            (("--output", "nothing"), "'scores'"),
            (("--report-fraction", "1.5"), "--report-fraction"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_settings(self, folder, options, words):
        assert_one_line(run(*compress_command(folder, "never.onnx", *options)), words)
        assert not (folder / "never.onnx").exists()

    def test_report_images_that_the_search_saw(self, folder):
        command = ("compress", folder / "model.onnx", "-o", folder / "never.onnx")
        data = ("-d", folder / "search.npz", "--report-data", folder / "search.npz")
        assert_one_line(run(*command, *data), "60 of its 60 images")

    def test_accuracy_that_cannot_be_held(self, folder):
        """Labels that the float model all gets right, and 2 bits that break some answers."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (300, 8, 8, 3), np.uint8)
        np.savez(folder / "hard.npz", x=images, mean=np.float32(0.5), std=np.float32(0.25))
        before = (folder / "small.onnx").read_bytes()
        command = ("compress", folder / "model.onnx", "-d", folder / "hard.npz", "--bits", "2")
        result = run(*command, "--split", "none", "-o", folder / "small.onnx", "-q")
        assert_one_line(result, "nothing could be compressed", "--max-drop")
        assert (folder / "small.onnx").read_bytes() == before

    @pytest.mark.parametrize("out", ["no/such/folder/small.onnx", "images", "model.onnx"])
    def test_output_that_cannot_be_written(self, folder, out):
        (folder / "images").mkdir(exist_ok=True)
        before = (folder / "model.onnx").read_bytes()
        assert_one_line(run(*compress_command(folder, out)), out)
        assert (folder / "model.onnx").read_bytes() == before

    def test_plan_for_another_model(self, folder):
        onnx.save(residual_net(seed=1), folder / "other.onnx")
        plan = folder / "small.plan.json"
        result = run("apply", plan, folder / "other.onnx", "-o", folder / "never.onnx")
        assert_one_line(result, "made for another model")
        assert not (folder / "never.onnx").exists()

    @pytest.mark.parametrize(
        ("edit", "words"),
        [
            (lambda p: p["layers"].update(ghost=p["layers"]["c1"]), "'ghost'"),
            (lambda p: p["layers"].pop("c1"), "'c1'"),
            (lambda p: p["layers"]["c1"].update(bits={"8": "0-6"}), "channel 7 is missing"),
            (lambda p: p["layers"]["c1"].update(bits={"9": "0-7"}), "9 bits"),
            (lambda p: p["layers"]["c1"].update(channels=9, bits={"8": "0-8"}), "8 channels"),
            (lambda p: p.update(schema=2), "schema 2"),
            (lambda p: p.update(scheme="magic"), "magic"),
            (lambda p: p.update(targets="most"), "most"),
        ],
        ids=[
            "unknown",
            "absent",
            "missing-channel",
            "bits",
            "count",
            "schema",
            "scheme",
            "targets",
        ],
    )
    def test_wrong_plans(self, folder, tmp_path, edit, words):
        plan = json.loads((folder / "small.plan.json").read_text())
        edit(plan)
        path = tmp_path / "wrong.json"
        path.write_text(json.dumps(plan))
        result = run("apply", path, folder / "model.onnx", "-o", tmp_path / "never.onnx")
        assert_one_line(result, "wrong.json", words)
        assert not list(tmp_path.glob("*.onnx"))

    def test_evaluate_models_of_different_classes(self, folder, tmp_path):
        model = residual_net()
        for tensor in model.graph.initializer:
            if tensor.name in {"fc_w", "fc_b"}:
                values = onnx.numpy_helper.to_array(tensor)[:3]
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
        onnx.save(model, tmp_path / "three.onnx")
        command = ("evaluate", folder / "model.onnx", "-d", folder / "report.npz")
        assert_one_line(run(*command, "--reference", tmp_path / "three.onnx"), "classes")

    def test_nothing_is_left_behind_by_all_these_failures(self, folder):
        assert not list(folder.glob(".*"))
