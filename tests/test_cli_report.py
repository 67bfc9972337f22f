"""``onnxsemi report`` and ``compress --report`` as a user types them."""

import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_line, compress_command, frontier_command, run
from residual_net import save_noise
from run_files import content

from onnxsemi._report.record import read_result

pytestmark = pytest.mark.slow

PLACES = ("output", "plan_file", "run")
SMALL = ("--rounding-samples", "40", "--max-drop", "2", "--quiet")


def without_cost(page):
    """A page without what it says of time: that of all sessions is added up."""
    rows = "forward passes over the calibration images|thousands of image-forwards|wall time"
    return re.sub(rf"({rows})</th><td>[^<]*", r"\1", page.read_text())


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    """A finished run of the frontier, with its page."""
    out = tmp_path_factory.mktemp("report") / "small.onnx"
    command = frontier_command(folder, out, *SMALL, "--report", out.with_name("page.html"))
    result = run(*command)
    assert result.exit_code == 0, result.output
    return out.parent


@pytest.fixture
def copy(done, tmp_path):
    """A copy of the run's folder."""
    return shutil.copytree(done / "small.run", tmp_path / "small.run")


class TestReport:
    def test_writes_into_the_run(self, copy):
        result = run("report", copy)
        assert result.exit_code == 0, result.output
        assert result.stdout.split() == ["Wrote", f"{copy}/report.html."]
        assert (copy / "report.html").read_text().startswith("<!DOCTYPE html>")

    def test_is_what_compress_writes(self, done, tmp_path):
        page = tmp_path / "a.html"
        assert run("report", done / "small.run", "--out", page, "--quiet").stdout == ""
        assert (tmp_path / "a.html").read_bytes() == (done / "page.html").read_bytes()

    def test_shows_what_compress_says(self, folder, tmp_path):
        names = tmp_path / "names.txt"
        names.write_text("ant\nbee\ncat\n<dog>\neel\n")
        more = (*SMALL[:-1], "--json", "--classes", names)
        result = run(*frontier_command(folder, tmp_path / "a.onnx", *more))
        document = json.loads(result.stdout)
        kept = content(tmp_path / "a.run/result.json")
        said = {**document, **{key: os.path.relpath(document[key]) for key in PLACES}}
        with_places = ("warnings", "verdict")
        assert {key: kept[key] for key in document} | {
            key: document[key] for key in with_places
        } == said
        assert document["made_from"]["--max-drop"] == 2
        assert run("report", tmp_path / "a.run").exit_code == 0
        page = (tmp_path / "a.run/report.html").read_text()
        assert f"{document['sizes']['file']:.2%}" in page
        assert kept["classes"] == ["ant", "bee", "cat", "<dog>", "eel"]
        assert ">&lt;dog&gt;</th>" in page
        assert page.count('class="mark p-') == len(document["trials"])
        points = content(tmp_path / "a.run/frontier.json")["points"]
        assert page.count('class="mark now') == len(points)
        assert page.count(f"<code>onnxsemi apply {tmp_path}/a.run --at ") >= len(points)

    def test_command_line_that_makes_it_again(self, done, folder):
        command = read_result(done / "small.run").document.command
        model = os.path.relpath(folder / "model.onnx")
        assert command.startswith(f"onnxsemi compress {model} --calibration-data ")
        assert "--rounding-samples 40" in command
        assert "--max-drop 2" in command
        assert "--report " not in command
        assert "--quiet" not in command

    def test_the_command_line_gives_the_same_bytes(self, done, tmp_path):
        before = (done / "small.onnx").read_bytes()
        words = read_result(done / "small.run").document.command.split()
        words[words.index("--out") + 1] = str(tmp_path / "again.onnx")
        result = run(*words[1:], "--quiet")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "again.onnx").read_bytes() == before

    def test_no_file_of_a_run_has_the_whole_path_of_a_file(self, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        names = tmp_path / "names.txt"
        names.write_text("/a\nbee\ncat\ndog\neel\n")
        command = frontier_command(folder, tmp_path / "a b.onnx", *SMALL, "--classes", names)
        assert run(*command).exit_code == 0
        kept = [path for path in (tmp_path / "a b.run").rglob("*") if path.is_file()]
        assert len(kept) > 8
        for path in kept:
            read = path.read_bytes()
            if path.suffix == ".npz":
                with zipfile.ZipFile(path) as archive:
                    read += archive.comment + b"".join(map(archive.read, archive.namelist()))
            assert str(tmp_path).encode() not in read, path
            assert str(folder).encode() not in read, path
        document = read_result(tmp_path / "a b.run").document
        assert (document.output, document.plan_file) == ("a b.onnx", "a b.plan.json")
        assert document.classes == ("/a", "bee", "cat", "dog", "eel")
        assert all((Path.cwd() / name).is_file() for name in (document.output, document.model))
        assert "--out 'a b.onnx'" in document.command

    def test_the_papers_method(self, folder, tmp_path):
        assert run(*compress_command(folder, tmp_path / "a.onnx", "--quiet")).exit_code == 0
        assert run("report", tmp_path / "a.run").exit_code == 0
        evidence = read_result(tmp_path / "a.run").evidence
        assert np.isfinite(evidence.group_kl).all()
        assert np.isfinite(evidence.delta_loss).all()

    def test_pinned_layers_and_integer_kernels(self, folder, tmp_path):
        more = ("--pin", "c1=8", "--pin", "dw=32", "--profile", "int8")
        result = run(
            *frontier_command(folder, tmp_path / "a.onnx", *SMALL, "--max-drop", "9", *more)
        )
        assert result.exit_code == 0, result.output
        assert run("report", tmp_path / "a.run").exit_code == 0
        kept = read_result(tmp_path / "a.run")
        layers, start = kept.document.plan.layers, 0
        for name, bits in layers.items():
            rows = kept.evidence.delta_loss[start : start + len(bits)]
            assert np.isnan(rows).all() == (name in {"c1", "dw"})
            start += len(bits)
        page = (tmp_path / "a.run/report.html").read_text()
        assert "target nodes run on integer kernels" in page
        assert "--pin c1=8 --pin dw=32" in page

    def test_layers_that_are_not_split(self, folder, tmp_path):
        command = compress_command(folder, tmp_path / "a.onnx", "--split", "none", "--quiet")
        assert run(*command, "--max-drop", "5").exit_code == 0
        assert run("report", tmp_path / "a.run").exit_code == 0
        evidence = read_result(tmp_path / "a.run").evidence
        assert np.isnan(evidence.delta_loss).all()
        assert set(evidence.group_sign.tolist()) == {0}

    def test_exact_measurements(self, folder, tmp_path):
        exact = ("--delta-loss", "exact", "--kl", "exact", "--delta-loss-samples", "20")
        command = compress_command(folder, tmp_path / "a.onnx", *exact, "--quiet")
        assert run(*command, "--max-drop", "5").exit_code == 0
        assert run("report", tmp_path / "a.run").exit_code == 0
        evidence = read_result(tmp_path / "a.run").evidence
        assert np.isfinite(evidence.group_kl).any()

    @pytest.mark.parametrize("method", ["frontier", "semilayer"])
    def test_without_labels(self, folder, tmp_path, method):
        for name, seed in (("search", 1), ("report", 2)):
            save_noise(tmp_path / f"{name}.npz", count=60, seed=seed, labels=False)
        shutil.copy(folder / "model.onnx", tmp_path)
        page = tmp_path / "page.html"
        given = ("--max-drop", "5", "--quiet", "--method", method, "--report", page)
        result = run(*compress_command(tmp_path, "a.onnx", *given))
        assert result.exit_code == 0, result.output
        assert "agreement with the float model" in page.read_text()
        assert "accuracy" not in page.read_text().partition("<body>")[2].lower()

    def test_a_run_that_the_time_budget_ended(self, folder, tmp_path, monkeypatch):
        search = sys.modules["onnxsemi._pipeline.search"].Search
        monkeypatch.setattr(search, "_out_of_time", ended_after(4))
        result = run(*frontier_command(folder, tmp_path / "a.onnx", *SMALL))
        assert result.exit_code == 0, result.output
        assert not (tmp_path / "a.run/finished.json").exists()
        assert run("report", tmp_path / "a.run").exit_code == 0
        assert "the time budget ended" in (tmp_path / "a.run/report.html").read_text()


def ended_after(trials):
    """Time that is over once so many trials are made."""
    asked = []

    def ended(self):
        del self
        asked.append(1)
        return len(asked) > trials

    return ended


class TestMistakes:
    @pytest.mark.parametrize("labels", [True, False])
    def test_names_of_other_classes(self, folder, tmp_path, labels):
        (tmp_path / "names.txt").write_text("ant\nbee\n")
        for name, seed in (("search", 1), ("report", 2)):
            save_noise(tmp_path / f"{name}.npz", count=60, seed=seed, labels=labels)
        shutil.copy(folder / "model.onnx", tmp_path)
        command = frontier_command(tmp_path, "a.onnx", "--classes", tmp_path / "names.txt")
        assert_one_line(run(*command), "2 classes are named", "the model has 5")

    def test_no_such_folder(self, tmp_path):
        assert_one_line(run("report", tmp_path / "no.run"), "no.run: there is no such folder")

    def test_a_file(self, done):
        assert_one_line(run("report", done / "small.onnx"), "small.onnx: is no folder")

    def test_a_folder_of_something_else(self, tmp_path):
        assert_one_line(run("report", tmp_path), "holds no run; name the folder of a run")

    def test_no_result_yet(self, copy):
        (copy / "result.json").unlink()
        assert_one_line(run("report", copy), "small.run: the run has no result yet", "--resume")
        assert not (copy / "report.html").exists()

    def test_damaged(self, copy):
        (copy / "evidence.npz").write_bytes(b"PK")
        assert_one_line(run("report", copy), "damaged", "--resume, writes it again")
        assert not (copy / "report.html").exists()

    def test_resume_mends_it(self, folder, tmp_path):
        command = frontier_command(folder, tmp_path / "a.onnx", *SMALL)
        assert run(*command).exit_code == 0
        assert run("report", tmp_path / "a.run").exit_code == 0
        before = without_cost(tmp_path / "a.run/report.html")
        for name in ("result.json", "evidence.npz"):
            (tmp_path / "a.run" / name).write_bytes(b"")
        assert run("report", tmp_path / "a.run").exit_code == 1
        assert run(*command, "--resume").exit_code == 0
        assert run("report", tmp_path / "a.run").exit_code == 0
        assert without_cost(tmp_path / "a.run/report.html") == before

    @pytest.mark.parametrize("name", ["result.json", "run.json", "other.html", "a/b.html"])
    def test_no_other_file_of_the_run_is_overwritten(self, copy, name):
        before = {path: path.read_bytes() for path in copy.iterdir() if path.name != ".lock"}
        result = run("report", copy, "-o", copy / name)
        assert_one_line(result, "in the run's folder", "report.html")
        assert before == {path: path.read_bytes() for path in before}

    def test_no_folder_for_the_page(self, copy, tmp_path):
        result = run("report", copy, "-o", tmp_path / "no/page.html")
        assert_one_line(result, "its folder does not exist")

    def test_compress_refuses_before_it_measures(self, folder, tmp_path):
        out = tmp_path / "a.onnx"
        for page in (tmp_path / "no/page.html", out, tmp_path / "a.plan.json", tmp_path / "a.run"):
            result = run(*frontier_command(folder, out, *SMALL, "--report", page))
            assert_one_line(result, str(page))
        assert not list(tmp_path.iterdir())

    def test_report_in_the_folder_of_the_run(self, folder, tmp_path):
        page = tmp_path / "a.run/report.html"
        result = run(*frontier_command(folder, tmp_path / "a.onnx", *SMALL, "--report", page))
        assert result.exit_code == 0, result.output
        assert page.exists()
