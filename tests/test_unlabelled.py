"""Images without labels: what is measured is agreement, and is called nothing else."""

import json
import re

import numpy as np
import pytest
from command_line import assert_one_line, run
from residual_net import save_noise, save_residual_net

from onnxsemi._cli import terminal

pytestmark = pytest.mark.slow

NOT_SAID = re.compile(r"accura|top-?[15]|\bcorrect\b|correct_|\bright\b|mcnemar", re.IGNORECASE)
SMALL = ("--bits", "8,4,2", "--rounding-samples", "40", "--max-drop", "4")


def assert_agreement_only(text):
    found = NOT_SAID.search(text)
    assert found is None, text[max(0, found.start() - 80) : found.end() + 80]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, images without labels, and one compressed file with its plan."""
    folder = tmp_path_factory.mktemp("unlabelled")
    save_residual_net(folder / "model.onnx")
    for name, count, seed in (("search", 200, 1), ("report", 40, 2)):
        save_noise(folder / f"{name}.npz", count=count, seed=seed, labels=False)
    found = compress(folder, "small")
    assert found.exit_code == 0, found.output
    return folder


def compress(folder, out, *more):
    data = ("-d", folder / "search.npz", "--report-data", folder / "report.npz")
    return run(
        "compress", folder / "model.onnx", *data, "-o", folder / f"{out}.onnx", *SMALL, *more
    )


@pytest.mark.parametrize("how", [(), ("--json",)], ids=["table", "json"])
class TestCompress:
    @pytest.mark.parametrize(
        "options",
        [
            (),
            ("--method", "semilayer"),
            ("--guarantee", "interval"),
            ("--guarantee", "point"),
            ("--profile", "int8"),
        ],
        ids=" ".join,
    )
    def test_speaks_of_agreement(self, made, how, options, monkeypatch):
        monkeypatch.setattr(terminal, "MOMENT_SECONDS", 0)
        name = re.sub(r"\W", "", "".join((*how, *options))) or "plain"
        found = compress(made, name, *options, *how)
        assert found.exit_code == 0, found.output
        assert_agreement_only(found.stdout)
        assert_agreement_only(found.stderr)
        assert "agreement" in found.stdout
        if how:
            self.check_document(json.loads(found.stdout))
        else:
            assert "agreement" in found.stderr  # the best so far
            assert max(map(len, found.stdout.splitlines())) <= 80

    def check_document(self, document):
        for part, count in ((document["search"], 200), (document["report"], 40)):
            assert part["images"] == count
            assert part["agreement"] == part["same"] / count
            low, high = part["agreement_interval_95"]
            assert low <= part["agreement"] <= high
        assert document["report"]["kl_nats"] > 0
        for point in (document["baseline"], document["chosen"], *document["trajectory"]):
            assert 0 <= point["same"] <= point["images"]

    def test_apply(self, made, how):
        images = ("--calibration-data", made / "search.npz", "--data", made / "report.npz")
        plan = (made / "small.plan.json", made / "model.onnx")
        found = run("apply", *plan, "-o", made / "applied.onnx", *images, *how)
        assert found.exit_code == 0, found.output
        assert_agreement_only(found.output)
        assert "of 40 images" in " ".join(found.stdout.split())

    @pytest.mark.parametrize("reference", [True, False], ids=["reference", "alone"])
    def test_evaluate(self, made, how, reference):
        data = ("-d", made / "report.npz", *(("--reference", made / "model.onnx") * reference))
        found = run("evaluate", made / "small.onnx", *data, *how)
        assert found.exit_code == 0, found.output
        assert_agreement_only(found.output)
        if how:
            assert ("comparison" in json.loads(found.stdout)) == reference


def test_compress_apply_and_evaluate_say_the_same(made):
    compressed = json.loads(compress(made, "again", "--json").stdout)["report"]
    images = ("--calibration-data", made / "search.npz", "--data", made / "report.npz")
    plan = (made / "again.plan.json", made / "model.onnx")
    applied = run("apply", *plan, "-o", made / "applied.onnx", *images, "--json")
    data = ("-d", made / "report.npz", "--reference", made / "model.onnx", "--json")
    evaluated = json.loads(run("evaluate", made / "again.onnx", *data).stdout)["comparison"]
    assert json.loads(applied.stdout)["report"] == compressed
    evaluated["summary"] = [s.replace("reference", "float model") for s in evaluated["summary"]]
    assert evaluated == compressed


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "code"),
        [
            (("--bits", "1", "--max-drop", "0"), 4),
            (("--guarantee", "interval", "--max-drop", "0"), 1),
        ],
    )
    def test_nothing_holds(self, made, options, code, tmp_path):
        data = ("-d", made / "search.npz", "--report-data", made / "report.npz")
        out = ("-o", tmp_path / "o.onnx", "-q")
        found = run("compress", made / "model.onnx", *data, *out, *options)
        assert_one_line(found, "200 calibration images", code=code)
        assert_agreement_only(found.stderr)

    def test_labels_for_one_of_both(self, made, tmp_path):
        save_noise(tmp_path / "r.npz", count=40, seed=5)
        data = ("-d", made / "search.npz", "--report-data", tmp_path / "r.npz")
        found = run("compress", made / "model.onnx", *data, "-o", tmp_path / "o.onnx", "-q")
        assert_one_line(found, "one has labels, the other has none")
        assert_agreement_only(found.stderr)


class TestLabelled:
    def test_top_5_and_the_p_value_are_shown(self, made, tmp_path):
        """Fewer than ten classes have no top-5; with labels the words are those of accuracy."""
        save_noise(tmp_path / "r.npz", count=60, seed=3)
        data = ("-d", tmp_path / "r.npz", "--reference", made / "model.onnx", "--force")
        found = run("evaluate", made / "small.onnx", *data)
        assert "McNemar p" in found.stdout
        assert "top-5" not in found.stdout
        document = json.loads(run("evaluate", made / "small.onnx", *data, "--json").stdout)
        said = document["comparison"]["summary"]
        assert said[0].startswith("change of top-1: ")
        with np.load(tmp_path / "r.npz") as arrays:
            assert document["images"] == len(arrays["y"])
