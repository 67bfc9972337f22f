"""Where no plan holds what was asked: an exit code of its own, and everything that was measured."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import run_files
from command_line import assert_one_line, compress_command, frontier_command, run
from msgspec import structs
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import NothingHoldsError, ReadOptions, RunOptions, SearchSettings, Settings
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._run.plan_file import read_plan
from onnxsemi._run.point_choice import At
from onnxsemi._runtime.processor import Processor

pytestmark = pytest.mark.slow

ONE_BIT = ("--bits", "1", "--rounding", "nearest", "--ranges", "minmax")


@dataclass(frozen=True)
class Way:
    """A command that finds nothing, and what the counts are of."""

    options: tuple[str, ...]
    data: str = "search.npz"


WAYS = {
    "frontier": Way(ONE_BIT),
    "no labels": Way(ONE_BIT, "plain.npz"),
    "many images": Way(ONE_BIT, "many.npz"),
    "int8": Way((*ONE_BIT, "--profile", "int8")),
    "aligned": Way((*ONE_BIT, "--align", "4")),
    "pinned": Way((*ONE_BIT, "--pin", "c1=1")),
    "guaranteed": Way((*ONE_BIT, "--guarantee", "interval", "--max-drop", "0.3"), "many.npz"),
    "paper": Way(
        ("--method", "semilayer", "--bits", "1", "--targets", "all", "--split", "none"), "plain.npz"
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nothing")
    save_residual_net(folder / "model.onnx")
    save_residual_net(folder / "other.onnx", seed=1)
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    save_noise(folder / "plain.npz", count=400, seed=1, labels=False)
    save_noise(folder / "plain_report.npz", count=40, seed=2, labels=False)
    save_noise(folder / "many.npz", count=2000, seed=3)
    return folder


def command(folder: Path, way: str, *more: object) -> list[str]:
    """Of one of the ways, into ``out.onnx``."""
    options, data = WAYS[way].options, WAYS[way].data
    make = compress_command if "semilayer" in options else frontier_command
    words = [*map(str, make(folder, "out.onnx", *options, "-q", "--allow-loss", *more, data=data))]
    if data == "plain.npz":
        words[words.index("--report-data") + 1] = str(folder / "plain_report.npz")
    return words


@pytest.fixture(scope="module")
def done(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """For each way the folder, and what was said."""
    found = {}
    for way in WAYS:
        folder = shutil.copytree(inputs, tmp_path_factory.mktemp(way.replace(" ", "")) / "in")
        result = run(*command(folder, way))
        assert_one_line(result, "nothing holds", "best measured", "--max-drop", code=4)
        found[way] = folder, result.stderr
    return found


@pytest.fixture(params=WAYS)
def made(request, done, tmp_path) -> tuple[str, Path, str]:
    """A copy: way, folder, what is said there."""
    way, (folder, said) = request.param, done[request.param]
    copy = shutil.copytree(folder, tmp_path / "in")
    return way, copy, said.replace(str(folder), str(copy))


@pytest.fixture
def frontier(done, tmp_path) -> Path:
    """A copy of the first."""
    return shutil.copytree(done["frontier"][0], tmp_path / "in")


def asked(folder: Path) -> list[tuple[str, str]]:
    """Questions of the journal, each as often as it was measured."""
    return run_files.asked(folder / "out.run")


def advised(said: str) -> float:
    """The allowed drop that the message names."""
    return float(said.partition("--resume --max-drop ")[2].split()[0])


class TestEveryWay:
    def test_nothing_is_written_but_the_run(self, made):
        _, folder, _ = made
        assert not list(folder.glob("out.onnx*"))
        assert not list(folder.glob("out.plan*"))
        left = {path.name for path in (folder / "out.run").iterdir()}
        assert {"run.json", "journal.jsonl", "frontier.json", "finished.json"} <= left
        assert left.isdisjoint({"result.json", "evidence.npz", "best.onnx"})

    def test_the_advised_drop_takes_the_best_and_no_less_does(self, made):
        way, folder, said = made
        best = read_frontier(folder / "out.run").first
        before, drop = asked(folder), advised(said)
        assert drop > 0
        result = run(*command(folder, way, "--resume", "--max-drop", f"{drop - 0.01:.2f}"))
        assert_one_line(result, f"--max-drop {drop:g} ", code=4)
        assert asked(folder) == before
        result = run(*command(folder, way, "--resume", "--max-drop", drop))
        assert result.exit_code == 0, result.output
        assert asked(folder)[: len(before)] == before
        assert len(set(asked(folder))) == len(asked(folder))
        chosen = read_frontier(folder / "out.run").chosen
        assert chosen is not None
        assert chosen.plan.compression >= best.plan.compression
        document = run_files.content(folder / "out.run/result.json")
        assert document["made_from"]["--max-drop"] == drop

    def test_the_command_of_the_message_writes_the_best(self, made):
        _, folder, said = made
        words = said.partition("Write it with: onnxsemi ")[2].partition(";")[0].split()
        before = asked(folder)
        result = run(*words[:-1], folder / "out.onnx", "-q")
        assert result.exit_code == 0, result.output
        kept = read_frontier(folder / "out.run")
        assert (folder / "out.onnx").stat().st_size == pytest.approx(kept.first.file_bytes, rel=0.1)
        written = read_plan(folder / "out.plan.json")  # its weights were not rounded before
        assert written == structs.replace(kept.document, weights_sha256=written.weights_sha256)
        assert written.weights_sha256
        assert written.processor == Processor.here()
        assert asked(folder) == before

    def test_pareto_lists_what_was_measured(self, made):
        _, folder, _ = made
        result = run("pareto", folder / "out.run", "--all")
        assert result.exit_code == 0, result.output
        assert "Nothing held what was asked" in result.stdout
        assert not any(line.startswith("*9") for line in result.stdout.splitlines())
        points = json.loads(run("pareto", folder / "out.run", "--json").stdout)["points"]
        assert not any(point["chosen"] for point in points)
        assert {point["file_bytes_are"] for point in points} == {"estimated"}
        measured = [point for point in points if point["measured_kl_nats"] is not None]
        assert measured
        assert any(point["rejected"] for point in measured)

    def test_the_same_again_says_the_same(self, made):
        way, folder, said = made
        before = asked(folder)
        again = run(*command(folder, way, "--resume"))
        assert (again.exit_code, asked(folder)) == (4, before)
        assert again.stderr == said


def test_judging_otherwise_and_back(frontier):
    """Every setting that only judges, on one run: nothing is measured twice, nothing is left."""
    for more in (("--tolerance", "50"), ("--guarantee", "point"), ("--max-drop", "60")):
        result = run(*command(frontier, "frontier", "--resume", *more))
        assert result.exit_code == 0, result.output
        assert (frontier / "out.run/result.json").exists()
    before = asked(frontier)
    assert len(set(before)) == len(before)
    (frontier / "out.onnx").unlink()
    result = run(*command(frontier, "frontier", "--resume"))
    assert_one_line(result, "nothing holds", code=4)
    assert asked(frontier) == before
    assert not (frontier / "out.run/result.json").exists()
    assert not (frontier / "out.onnx").exists()


def test_an_output_that_was_there_stays(frontier):
    (frontier / "out.onnx").write_bytes(b"mine")
    assert run(*command(frontier, "frontier", "--resume")).exit_code == 4
    assert (frontier / "out.onnx").read_bytes() == b"mine"


def test_a_new_run_may_take_its_place(frontier):
    """Without --resume: the run is finished."""
    result = run(*frontier_command(frontier, "out.onnx", "--max-drop", "60", "-q"))
    assert result.exit_code == 0, result.output


class TestRefused:
    """One line each, and the run stays as it was."""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("apply", "out.run", "-o", "no.onnx"), ("chosen no point", "--at", "pareto")),
            (("apply", "out.run", "--at", "99.9%", "-o", "no.onnx"), ("reaches from",)),
            (("apply", "out.run", "--at", "90", "-o", "no.onnx"), ("written with %",)),
            (("apply", "out.run", "--at", "best", "-o", "no.onnx"), ("neither a compression",)),
            (("report", "out.run"), ("nothing held", "pareto", "--max-drop")),
            (("resume", "--max-drop", "101"), ("--max-drop: 101",)),
            (("resume", "--tolerance", "0"), ("--tolerance: 0",)),
            (("resume", "--guarantee", "point", "--tolerance", "1"), ("--tolerance", "leave one")),
            (("resume", "--guarantee", "interval"), ("--guarantee interval: on 70",)),
            (("resume", "--bits", "2"), ("--bits was 1, now 2",)),
            (("resume", "--tries", "2"), ("--tries was 4, now 2",)),
            (("other model",), ("the model has changed",)),
            (("no frontier",), ("holds no frontier.json",)),
            (("old run",), ("run.json: was written by an older version of onnxsemi; delete",)),
            (("damaged journal",), ("line 2 is damaged",)),
            (("another plan",), ("frontier.json: is damaged",)),
        ],
        ids=" ".join,
    )
    def test_is_one_line(self, frontier, monkeypatch, arguments, words):
        kept, what = frontier / "out.run", arguments[0]
        monkeypatch.chdir(frontier)
        resume = command(frontier, "frontier", "--resume")
        if what == "resume":
            arguments = (*resume, *arguments[1:])
        elif what == "other model":
            shutil.copy(frontier / "other.onnx", frontier / "model.onnx")
            arguments = resume
        elif what == "no frontier":
            (kept / "frontier.json").unlink()
            arguments = ("apply", "out.run", "--at", "90%", "-o", "no.onnx")
        elif what == "old run":
            (kept / "run.json").write_text(json.dumps({"schema": 1, "model": "a" * 64}))
            arguments = resume
        elif what == "damaged journal":
            lines = (kept / "journal.jsonl").read_bytes().splitlines(keepends=True)
            (kept / "journal.jsonl").write_bytes(b"".join([lines[0], b"{}\n", *lines[1:]]))
            arguments = resume
        elif what == "another plan":
            text = (kept / "frontier.json").read_text()
            digest = json.loads(text)["content"]["document"]["plan_sha256"]
            (kept / "frontier.json").write_text(text.replace(digest, digest[::-1]))
            arguments = ("pareto", "out.run")
        before = {path.name: path.read_bytes() for path in kept.iterdir()}
        assert_one_line(run(*arguments), *words)
        assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
        assert not (frontier / "no.onnx").exists()


class TestPython:
    SEARCH = SearchSettings(bits=(1,))
    SETTINGS = Settings(
        search=SEARCH, model=ReadOptions(targets="all"), rounding_samples=40, force=True
    )

    def compress(self, folder: Path, **more: object) -> onnxsemi.CompressResult:
        return onnxsemi.compress(
            folder / "model.onnx",
            folder / "search.npz",
            test_data=folder / "report.npz",
            output=folder / "py.onnx",
            settings=replace(self.SETTINGS, **more),
        )

    @pytest.mark.parametrize("keep", [True, False], ids=["run", "nowhere"])
    def test_the_error_has_everything(self, inputs, tmp_path, keep):
        options = RunOptions(folder=tmp_path / "py.run" if keep else None)
        with pytest.raises(NothingHoldsError) as caught:
            self.compress(inputs, run=options)
        error = caught.value
        assert isinstance(error, onnxsemi.AccuracyError)
        assert error.run == options.folder
        assert error.best in error.frontier.points
        assert error.frontier.chosen is None
        assert error.best.measured
        assert error.best.kl is not None
        assert f"`max_drop` {error.max_drop:g}" in str(error)
        if keep:
            assert onnxsemi.pareto(error.run) == error.frontier
            size = f"{100 * error.best.plan.compression:.2f}%"
            assert At.parse(size).pick(error.frontier) == error.best
            options = replace(options, resume=True)
        result = self.compress(
            inputs, run=options, search=replace(self.SEARCH, max_drop=error.max_drop)
        )
        assert result.plan.compression >= error.best.plan.compression

    def test_few_images_are_noted(self, inputs):
        result = self.compress(inputs, search=SearchSettings(max_drop=5))
        assert any(
            "70 calibration images cannot show a change of 5.5 points" in n for n in result.warnings
        )
        assert result.finding.asked == 5.5
        assert result.finding.allowed > 5.5
        many = onnxsemi.compress(
            inputs / "model.onnx",
            inputs / "many.npz",
            output=inputs / "many.onnx",
            settings=Settings(search=SearchSettings(max_drop=5), test_fraction=0.1, force=True),
        )
        assert not any("cannot show" in said for said in many.warnings)


def test_json_warns_on_standard_error(inputs, tmp_path):
    result = run(*frontier_command(inputs, tmp_path / "out.onnx", "--max-drop", "5", "--json"))
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("warning: 70 calibration images cannot show")
    assert any("cannot show" in said for said in json.loads(result.stdout)["warnings"])


def test_measured_points_have_their_kl(done):
    """From the journal: the mean KL of a plan is what its check has found."""
    folder, _ = done["frontier"]
    lines = run_files.lines(folder / "out.run")
    checks = [line["reply"]["kl"] for line in lines if line["ask"] == "Check"]
    kept = [point.kl for point in read_frontier(folder / "out.run").points if point.measured]
    assert set(kept) <= set(checks)
    assert 0.0 in checks  # the float model
    assert np.isfinite(kept).all()
