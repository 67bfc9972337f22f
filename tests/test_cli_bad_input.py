"""The commands given what cannot be used: one clear line, exit code 1, nothing written."""

import json
import os

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, compress_command, run
from onnx import parser
from residual_net import residual_net


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
            (("--bits", "9"), "9 is outside 0 to 8"),
            (("--bits", "8,0"), "0 bits are for --method frontier"),
            (("--bits", ""), "--bits is empty"),
            (("--bits", "eight"), "'eight'"),
            (("--bits", "8,,4"), "'' is no whole number"),
            (("--std", "0"), "--std: 0 must be above 0"),
            (("--mean", "nan,0"), "--mean: nan,0 is not such as"),
            (("--max-drop", "-1"), "--max-drop"),
            (("--delta-loss-samples", "0"), "--delta-loss-samples"),
            (("--search-samples", "0"), "--search-samples"),
            (("--threads", "0"), "--threads"),
            (("--seed", "-1"), "--seed"),
            (("--pin", "c1"), "--pin"),
            (("--pin", "c1=0"), "--pin"),
            (("--pin", "nothing*=8"), "matches no target layer"),
            (("--exclude", "nothing*"), "matches no layer"),
            (("--exclude", "*"), "no layer is left"),
            (("--mean", "a,b"), "--mean"),
            (("--output", "nothing"), "'scores'"),
            (("--report-fraction", "1.5"), "--test-fraction"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_settings(self, folder, options, words):
        assert_one_line(run(*compress_command(folder, "never.onnx", *options)), words)
        assert not (folder / "never.onnx").exists()

    def test_report_images_that_the_search_saw(self, folder):
        command = ("compress", folder / "model.onnx", "-o", folder / "never.onnx", "--force")
        data = ("-d", folder / "search.npz", "--report-data", folder / "search.npz")
        assert_one_line(run(*command, *data), "60 of its 60 images")

    def test_accuracy_that_cannot_be_held(self, folder):
        """Labels that the float model all gets right, and 2 bits that break some answers."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (300, 8, 8, 3), np.uint8)
        np.savez(folder / "hard.npz", x=images, mean=np.float32(0.5), std=np.float32(0.25))
        before = (folder / "small.onnx").read_bytes()
        command = ("compress", folder / "model.onnx", "-d", folder / "hard.npz", "--bits", "2")
        command = (*command, "--method", "semilayer", "--targets", "hidden")
        result = run(*command, "--split", "none", "-o", folder / "small.onnx", "-q")
        assert_one_line(result, "nothing holds a drop of at most 0", "--max-drop", code=4)
        assert (folder / "small.onnx").read_bytes() == before

    @pytest.mark.parametrize("out", ["no/such/folder/small.onnx", "images", "model.onnx"])
    def test_output_that_cannot_be_written(self, folder, out):
        (folder / "images").mkdir(exist_ok=True)
        before = (folder / "model.onnx").read_bytes()
        assert_one_line(run(*compress_command(folder, out)), out)
        assert (folder / "model.onnx").read_bytes() == before

    def test_output_that_is_the_inputs_external_data(self, folder, tmp_path):
        path = tmp_path / "ext.onnx"
        options = {"save_as_external_data": True, "location": "ext.bin", "size_threshold": 0}
        onnx.save(residual_net(), path, **options)
        before = (tmp_path / "ext.bin").read_bytes()
        command = ("compress", path, "-d", folder / "search.npz", "-o", tmp_path / "ext.bin")
        assert_one_line(run(*command), "is an input too")
        assert (tmp_path / "ext.bin").read_bytes() == before

    def test_output_that_is_no_regular_file(self, folder, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        plan = folder / "small.plan.json"
        result = run("apply", plan, folder / "model.onnx", "-o", tmp_path / "pipe")
        assert_one_line(result, "no regular file")

    def test_output_with_too_long_a_name(self, folder, tmp_path):
        plan, name = folder / "small.plan.json", "x" * 250 + ".onnx"
        result = run("apply", plan, folder / "model.onnx", "-o", tmp_path / name)
        assert_one_line(result, "cannot be written")

    @pytest.mark.parametrize("command", ["evaluate", "apply"])
    def test_threads_of_the_other_commands(self, folder, tmp_path, command):
        data = ("-d", folder / "report.npz", "--threads", "-1")
        first = {
            "evaluate": (folder / "model.onnx",),
            "apply": (folder / "small.plan.json", folder / "model.onnx", "-o", tmp_path / "n"),
        }
        assert_one_line(run(command, *first[command], *data), "--threads: -1")

    def test_plan_for_the_same_weights_in_another_graph(self, folder, tmp_path):
        model = residual_net()
        node = next(node for node in model.graph.node if "c2_w" in node.input)
        next(a for a in node.attribute if a.name == "pads").ints[:] = [2, 2, 0, 0]
        onnx.save(model, tmp_path / "other.onnx")
        plan = folder / "small.plan.json"
        result = run("apply", plan, tmp_path / "other.onnx", "-o", tmp_path / "never.onnx")
        assert_one_line(result, "made for another model")

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
            (lambda p: p.update(schema=3), "schema 3"),
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


@pytest.mark.parametrize(
    ("words", "said", "where"),
    [
        (["--no-such"], "--no-such", " --help"),
        (["no-such"], "no-such", " --help"),
        (["compress", "--no-such"], "--no-such", " compress --help"),
        (["compress"], "model", " compress --help"),
        (["compress", "m", "-d", "x", "-o", "y", "--profile", "tiny"], "tiny", "compress --help"),
        (["bench", "a.onnx", "--rounds", "few"], "--rounds", " bench --help"),
    ],
)
def test_a_wrong_command_line_gets_one_line(words, said, where):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert line.endswith(f"{where}'")
    assert "Value error" not in line


def test_no_command_shows_the_help():
    result = run()
    assert result.exit_code == 2
    assert "compress" in result.output


@pytest.mark.parametrize("output", [".", "/"])
def test_an_output_that_is_a_folder(folder, output):
    command = [
        output if str(word).endswith("x.onnx") else word
        for word in compress_command(folder, "x.onnx")
    ]
    assert_one_line(run(*command), "is a folder")


@pytest.mark.parametrize(
    ("place", "value"),
    [(6, b"\x01"), (8, b"\x06")],  # of a member: general purpose flags, method of compression
    ids=["encrypted", "of another compression"],
)
def test_an_archive_that_is_no_plain_one(folder, place, value):
    np.savez(folder / "odd.npz", x=np.zeros((9, 8, 8, 3), np.uint8))
    archive = bytearray((folder / "odd.npz").read_bytes())
    central = archive.index(b"PK\x01\x02")  # has the same two bytes further on
    for start in (place, central + place + 2):
        archive[start : start + 1] = value
    (folder / "odd.npz").write_bytes(bytes(archive))
    result = run("evaluate", folder / "model.onnx", "--data", folder / "odd.npz")
    assert_one_line(result, "odd.npz: not a readable .npz archive")
