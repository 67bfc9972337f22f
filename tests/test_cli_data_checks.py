"""The commands given images and labels of another model: what they say, and where."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_line, compress_command, frontier_command, run
from PIL import Image
from residual_net import save_noise, save_residual_net
from run_files import content

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[1] / "models"
MODEL = MODELS / "fashion_resnet20.onnx"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A few hundred images, right and wrong ones."""
    folder = tmp_path_factory.mktemp("images")
    with np.load(MODELS / "fashion_search.npz") as arrays:
        x, y = arrays["x"][:300], arrays["y"][:300]
    right = {"mean": [0.286], "std": [0.353]}
    np.savez(folder / "right.npz", x=x, y=y, **right)
    np.savez(folder / "shifted.npz", x=x, y=(y + 1) % 10, **right)
    np.savez(folder / "forgotten.npz", x=x, y=y)
    np.savez(folder / "ten.npz", x=x[:10], y=y[:10], **right)
    for place in range(40):
        into = folder / "flat"
        into.mkdir(exist_ok=True)
        Image.fromarray(x[place, :, :, 0]).save(into / f"{place:02}.png")
    lines = [f"{place:02}.png,{label}" for place, label in enumerate(y[:40])]
    (folder / "flat/labels.csv").write_text("\n".join(["file,label", *lines, ""]))
    (folder / "names.txt").write_text("".join(f"class{number}\n" for number in range(10)))
    for number in range(3):
        into = folder / "some" / f"class{number}"
        into.mkdir(parents=True)
        for place in np.flatnonzero(y == number)[:10]:
            Image.fromarray(x[place, :, :, 0]).save(into / f"{place}.png")
    return folder


def evaluate(data, *more):
    return run("evaluate", MODEL, "--data", data, *more)


class TestRefused:
    @pytest.mark.parametrize("quiet", [(), ("-q",), ("--json",)], ids=str)
    def test_one_line_before_anything_is_measured(self, images, tmp_path, quiet):
        words = "guessing gives 10", "labels are shifted by one", "--force goes on"
        assert_one_line(evaluate(images / "shifted.npz", *quiet), *words)
        out = ("-o", tmp_path / "o.onnx")
        found = run("compress", MODEL, "--data", images / "shifted.npz", *out, *quiet)
        assert_one_line(found, *words)
        assert not list(tmp_path.iterdir())

    def test_ten_images(self, images, tmp_path):
        found = run("compress", MODEL, "-d", images / "ten.npz", "-o", tmp_path / "o.onnx", "-q")
        assert_one_line(found, "too few", "at least 23 are needed")

    def test_only_some_of_the_classes(self, images):
        numbers = ("--mean", "0.286", "--std", "0.353")
        assert_one_line(evaluate(images / "some", *numbers), "3 classes are named", "--classes")
        found = evaluate(images / "some", *numbers, "--classes", images / "names.txt", "--json")
        assert found.exit_code == 0, found.output
        assert json.loads(found.stdout)["correct"] >= 20

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (("--classes", "absent.txt"), "--classes: absent.txt: cannot be read"),
            (("--labels", "absent.csv"), "--labels is for a folder"),
            (("--mean", "0.5"), "for uint8 images"),
        ],
    )
    def test_options_that_cannot_be_used(self, tmp_path, more, words):
        np.savez(tmp_path / "f.npz", x=np.zeros((3, 1, 28, 28), np.float32))
        assert_one_line(evaluate(tmp_path / "f.npz", *more), words)


class TestWarned:
    def test_on_standard_error_even_if_quiet(self, images):
        for how in ((), ("-q",), ("--json",)):
            found = evaluate(images / "forgotten.npz", *how)
            assert found.exit_code == 0
            (line,) = [li for li in found.stderr.splitlines() if li.startswith("warning: ")]
            assert "with mean 0.28" in line
        assert [line] == [f"warning: {said}" for said in json.loads(found.stdout)["warnings"]]

    def test_nothing_to_say(self, images):
        found = evaluate(images / "right.npz", "--json")
        assert json.loads(found.stdout)["warnings"] == []
        assert found.stderr == ""

    def test_force(self, images):
        found = evaluate(images / "shifted.npz", "--force", "--json")
        assert found.exit_code == 0
        assert "labels are shifted by one" in found.stderr
        assert "labels are shifted by one" in json.loads(found.stdout)["warnings"][0]

    def test_compress_keeps_them_in_document_and_run(self, tmp_path):
        save_residual_net(tmp_path / "model.onnx")
        save_noise(tmp_path / "search.npz", count=60, seed=1)
        save_noise(tmp_path / "report.npz", count=40, seed=2)
        found = run(*compress_command(tmp_path, "o.onnx", "--max-drop", "50", "--json"))
        assert found.exit_code == 0, found.output
        warnings = json.loads(found.stdout)["warnings"]
        assert len(warnings) == 2
        assert all("guessing gives" in warning for warning in warnings)
        assert all(f"warning: {warning}\n" in found.stderr for warning in warnings)
        here = [warning.replace(str(tmp_path), os.path.relpath(tmp_path)) for warning in warnings]
        assert content(tmp_path / "o.run/result.json")["warnings"] == here
        assert run("report", tmp_path / "o.run").exit_code == 0
        assert "guessing gives" in (tmp_path / "o.run/report.html").read_text()

    def test_force_is_no_part_of_the_run(self, tmp_path):
        """A run that was forced is taken up again, forced again; nothing is measured anew."""
        save_residual_net(tmp_path / "model.onnx")
        save_noise(tmp_path / "search.npz", count=60, seed=1, labels=False)
        save_noise(tmp_path / "report.npz", count=40, seed=2, labels=False)
        command = compress_command(tmp_path, "o.onnx", "--max-drop", "50", "-q")
        assert run(*command).exit_code == 0
        before = (tmp_path / "o.onnx").read_bytes()
        again = [word for word in command if word != "--force"]
        assert run(*again, "--resume").exit_code == 0
        assert (tmp_path / "o.onnx").read_bytes() == before


class TestTable:
    def test_evaluate(self, images):
        numbers = ("--mean", "0.286", "--std", "0.353", "--json")
        assert "correct" not in json.loads(evaluate(images / "flat", *numbers).stdout)
        found = evaluate(images / "flat", *numbers, "--labels", images / "flat/labels.csv")
        assert json.loads(found.stdout)["correct"] >= 34

    def test_compress_and_apply_of_its_run(self, tmp_path):
        """The run knows table and names: its points can be written without naming them again."""
        save_residual_net(tmp_path / "model.onnx")
        save_noise(tmp_path / "report.npz", count=40, seed=2)
        pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
        (tmp_path / "flat").mkdir()
        for place, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / "flat" / f"{place}.png")
        lines = [f"{place}.png,{'abcde'[place % 5]}" for place in range(40)]
        (tmp_path / "labels.csv").write_text("\n".join(["file,label", *lines]))
        (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
        tables = ("--labels", tmp_path / "labels.csv", "--classes", tmp_path / "names.txt")
        numbers = ("--mean", "0.5", "--std", "0.25", "--max-drop", "50", "-q")
        command = frontier_command(tmp_path, "o.onnx", *tables, *numbers, data="flat")
        found = run(*command)
        assert found.exit_code == 0, found.output
        data = ("--data", tmp_path / "report.npz", "-o", tmp_path / "again.onnx", "-q")
        applied = run("apply", tmp_path / "o.run", *data)
        assert applied.exit_code == 0, applied.output
        assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "o.onnx").read_bytes()
