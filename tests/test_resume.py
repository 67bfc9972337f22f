"""A run that was killed at any moment and taken up again gives the bytes of one that was not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import run_files
from command_line import assert_one_line, compress_command, run
from residual_net import save_noise, save_residual_net

from onnxsemi._pipeline import run_identity as runs

pytestmark = pytest.mark.slow

WAYS = {
    "frontier": ("--method", "frontier", "--targets", "all"),
    "fast": (),
    "exact": ("--delta-loss", "exact", "--kl", "exact"),
    "layers": ("--split", "none", "--order", "ascending"),
    "repaired": ("--targets", "all", "--bits", "8,4,3,2", "--max-drop", "3"),
}
JUDGING = (
    ("frontier", ("--max-drop", "2"), ()),
    ("frontier", ("--tolerance", "3"), ()),
    ("frontier", ("--guarantee", "point"), ()),
    ("frontier", ("--guarantee", "point"), ("--max-drop", "4")),
    ("fast", ("--max-drop", "3"), ()),
    ("fast", (), ("--max-drop", "3")),
    ("repaired", (), ("--max-drop", "0")),
)
Start = Callable[[str, str], Path]


def asked(folder: Path) -> list[tuple[str, str]]:
    """What the journal of ``out.run`` was asked."""
    return run_files.asked(folder / "out.run")


def written(folder: Path) -> tuple[bytes, bytes]:
    """The file and the plan."""
    return (folder / "out.onnx").read_bytes(), (folder / "out.plan.json").read_bytes()


def compress(folder: Path, *options: str) -> None:
    result = run(*compress_command(folder, "out.onnx", "--quiet", *options))
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=20, seed=2)
    return folder


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each way a folder in which the command ran without interruption."""
    folders = {}
    for way, options in WAYS.items():
        folders[way] = shutil.copytree(inputs, tmp_path_factory.mktemp(way) / "whole")
        compress(folders[way], *options)
    return folders


@pytest.fixture
def cut(whole: dict[str, Path], tmp_path: Path) -> Start:
    """Makes a folder in which the command was killed after some bytes of the journal."""

    def make(way: str, keep: Sequence[str], length: int) -> Path:
        folder = tmp_path / f"{way}-{length}-{len(keep)}"
        shutil.copytree(whole[way], folder)
        (folder / "out.onnx").unlink()
        (folder / "out.plan.json").unlink()
        for path in (folder / "out.run").iterdir():
            if path.name not in ("run.json", "journal.jsonl", *keep):
                path.unlink()
        os.truncate(folder / "out.run/journal.jsonl", length)
        return folder

    return make


def lengths(folder: Path, count: int) -> list[int]:
    """Journal lengths to cut at: between lines, and in the middle of the line behind."""
    lines = (folder / "out.run/journal.jsonl").read_bytes().splitlines(keepends=True)
    ends = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    step = max(1, len(lines) // count)
    chosen = sorted({*range(0, len(lines), step), len(lines)})
    inside = [ends[place] + len(lines[place]) // 2 for place in chosen[:-1:2]]
    return sorted({*(ends[place] for place in chosen), *inside})


class TestKilled:
    @pytest.mark.parametrize("way", WAYS)
    def test_after_any_measurement(self, whole, cut, way):
        for place, length in enumerate(lengths(whole[way], 3)):
            folder = cut(way, ("moments.npz",) if place % 2 else (), length)
            compress(folder, "--resume", *WAYS[way])
            assert written(folder) == written(whole[way])
            assert asked(folder) == asked(whole[way])

    def test_the_ways_cover_what_a_search_may_do(self, whole):
        kinds = {way: {kind for kind, _ in asked(folder)} for way, folder in whole.items()}
        assert {"BackwardPasses", "ExactSample", "Check", "TrialOf", "ForwardPass"} <= kinds["fast"]
        assert {"ExactDeltaLoss"} <= kinds["exact"]
        assert "BackwardPasses" not in kinds["exact"]
        assert len({written(folder) for folder in whole.values()}) == len(WAYS)

    def test_before_the_first_measurement(self, whole, cut):
        """The folder is there, but not what the run is made of."""
        folder = cut("fast", (), 0)
        for name in ("run.json", "journal.jsonl"):
            (folder / "out.run" / name).unlink()
        left = folder / "out.run/.run.json.99999999.part"
        left.write_text("{")
        compress(folder, "--resume")
        assert written(folder) == written(whole["fast"])
        assert not left.exists()

    def test_a_finished_run_gives_its_result_again(self, whole, tmp_path):
        folder = shutil.copytree(whole["fast"], tmp_path / "again")
        (folder / "out.onnx").unlink()
        compress(folder, "--resume")
        assert written(folder) == written(whole["fast"])


class TestInterrupted:
    def test_ctrl_c_says_how_to_go_on(self, whole, inputs, tmp_path):
        folder = shutil.copytree(inputs, tmp_path / "interrupted")
        command = interrupted_command(folder)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 130
        last = done.stderr.splitlines()[-1]
        assert last.startswith("interrupted; what was measured is in ")
        assert "--resume" in last
        assert "out.run" in last
        assert "Traceback" not in done.stderr
        assert not (folder / "out.onnx").exists()
        compress(folder, "--resume")
        assert written(folder) == written(whole["fast"])


class TestTimeBudget:
    @pytest.fixture
    def ending(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
        """Makes the time end when it was asked for so many times; gives how often it was asked."""

        def after(questions: int) -> list[int]:
            asked: list[int] = []

            def ended(clock: runs.Clock) -> bool:
                if clock._stopped:
                    return False
                asked.append(len(asked))
                return len(asked) > questions

            monkeypatch.setattr(runs.Clock, "ended", property(ended))
            return asked

        return after

    @pytest.mark.parametrize("share", [0.25, 0.5, 0.7, 0.95])
    def test_best_so_far_then_the_same_as_without(
        self, whole, inputs, tmp_path, ending, monkeypatch, share
    ):
        counted = ending(sys.maxsize)
        compress(shutil.copytree(inputs, tmp_path / "counted"), "--time-budget", "1h")
        ending(int(share * len(counted)))
        folder = shutil.copytree(inputs, tmp_path / "budget")
        result = run(*compress_command(folder, "out.onnx", "--time-budget", "1h", "--json"))
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["stop"] == "the time budget ended"
        assert written(folder) != written(whole["fast"]) or share > 0.9
        assert not (folder / "out.run/finished.json").exists()
        monkeypatch.undo()
        compress(folder, "--resume")
        assert written(folder) == written(whole["fast"])
        assert asked(folder) == asked(whole["fast"])

    @pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
    def test_ends_within_exact_kl_too(self, inputs, tmp_path, ending, monkeypatch, share):
        """Before the search there is a first plan; between its phases the best so far is given."""
        options = ("--kl", "exact", "--split", "none")
        counted = ending(sys.maxsize)
        whole = shutil.copytree(inputs, tmp_path / "whole")
        compress(whole, "--time-budget", "1h", *options)
        ending(int(share * len(counted)))
        folder = shutil.copytree(inputs, tmp_path / "budget")
        result = run(*compress_command(folder, "out.onnx", "--time-budget", "1h", "-q", *options))
        assert result.exit_code == 0, result.output
        assert asked(folder) == asked(whole)[: len(asked(folder))]
        assert len(asked(folder)) < len(asked(whole))
        monkeypatch.undo()
        compress(folder, "--resume", *options)
        assert written(folder) == written(whole)


class TestChanged:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("model", "the model has changed"),
            ("search", "the calibration data has changed"),
            ("--bits=8,4", "--bits was 8,6,4, now 8,4"),
            ("--seed=1", "--seed was 0, now 1"),
            ("--kl=exact", "--kl was fast, now exact"),
            ("--pin=c1=8", "--pin was none, now c1=8"),
            ("--mean=0.4", "the calibration data has changed"),
            ("--delta-loss-samples=20", "--delta-loss-samples was 70, now 20"),
        ],
    )
    def test_is_named_and_nothing_is_touched(self, cut, change, words):
        folder = cut("fast", ("moments.npz",), 2000)
        if change == "model":
            save_residual_net(folder / "model.onnx", seed=1)
        elif change == "search":
            save_noise(folder / "search.npz", count=40, seed=9)
        before = contents(folder / "out.run")
        option = (change,) if change.startswith("--") else ()
        result = run(*compress_command(folder, "out.onnx", "--resume", *option))
        assert result.exit_code == 1
        assert_one_line(result, words)
        assert contents(folder / "out.run") == before
        assert not (folder / "out.onnx").exists()


@pytest.fixture(scope="module")
def judged(
    inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, tuple[str, ...]], Path]:
    """A folder in which the command ran with such options from the beginning."""
    made: dict[tuple[object, ...], Path] = {}

    def give(way: str, options: tuple[str, ...]) -> Path:
        if (way, options) not in made:
            folder = shutil.copytree(inputs, tmp_path_factory.mktemp("judged") / "run")
            compress(folder, *WAYS[way], *options)
            made[way, options] = folder
        return made[way, options]

    return give


def plan_of(folder: Path) -> object:
    """Bits of the plan that a run gave."""
    return json.loads((folder / "out.plan.json").read_text())["plan_sha256"]


class TestJudging:
    """What only judges may be another: nothing that was measured is measured again."""

    @pytest.mark.parametrize(("way", "first", "then"), JUDGING)
    def test_gives_what_it_would_have_given(self, judged, tmp_path, way, first, then):
        folder = shutil.copytree(judged(way, first), tmp_path / "run")
        before = asked(folder)
        compress(folder, "--resume", *WAYS[way], *then)
        other = judged(way, then)
        assert written(folder) == written(other)
        after = asked(folder)
        assert after[: len(before)] == before
        assert len(set(after)) - len(set(before)) == len(set(asked(other)) - set(before))
        for name in ("result.json", "frontier.json"):
            one, two = (
                json.loads(_placeless((at / "out.run" / name).read_text(), at))["content"]
                for at in (folder, other)
            )
            looks = [found.pop("verdict", {}).get("looks") for found in (one, two)]
            assert without_times(one) == without_times(two)
            if name == "result.json":  # the test images were asked of the first plan, too
                again = plan_of(judged(way, first)) == plan_of(other)
                assert looks == [1 if again else 2, 1]

    def test_there_and_back_measures_nothing_more(self, judged, tmp_path):
        there, back = ("--max-drop", "2"), ()
        folder = shutil.copytree(judged("frontier", back), tmp_path / "run")
        compress(folder, "--resume", *WAYS["frontier"], *there)
        whole = asked(folder)
        compress(folder, "--resume", *WAYS["frontier"])
        assert asked(folder) == whole
        assert written(folder) == written(judged("frontier", back))

    def test_other_report_images(self, whole, tmp_path):
        folder = shutil.copytree(whole["fast"], tmp_path / "report")
        save_noise(folder / "report.npz", count=30, seed=9)
        before = asked(folder)
        compress(folder, "--resume")
        assert asked(folder) == before
        assert written(folder) == written(whole["fast"])
        assert run_files.content(folder / "out.run/result.json")["report"]["images"] == 30

    def test_killed_after_the_judging_changed(self, judged, tmp_path):
        """The journal is cut where it was before the other judging, and behind."""
        other = ("--max-drop", "2")
        folder = shutil.copytree(judged("frontier", ()), tmp_path / "run")
        at = (folder / "out.run/journal.jsonl").stat().st_size
        compress(folder, "--resume", *WAYS["frontier"], *other)
        done, journal = written(folder), (folder / "out.run/journal.jsonl").read_bytes()
        for length in sorted({at, (at + len(journal)) // 2, len(journal)}):
            (folder / "out.run/journal.jsonl").write_bytes(journal[:length])
            compress(folder, "--resume", *WAYS["frontier"], *other)
            assert written(folder) == done
            assert len(asked(folder)) == journal.count(b"\n")


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """A document without paths and times."""
    paths = ("command", "model", "source", "output", "plan_file", "run", "search_data")
    dropped = (*paths, "test_data", "cost", "sha256")
    return {name: value for name, value in document.items() if name not in dropped}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


CTRL_C_ONCE_SAVED = """
import os
import signal
from onnxsemi._cli import app
from onnxsemi._sensitivity.fast import FastMeasurement
save = FastMeasurement.save
def save_then_ctrl_c(measurement, *where):
    save(measurement, *where)
    os.kill(os.getpid(), signal.SIGINT)
FastMeasurement.save = save_then_ctrl_c
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
app()
"""


def interrupted_command(folder: Path) -> list[str]:
    """The command for a process of its own, interrupted when it has measured something."""
    arguments = compress_command(folder, "out.onnx")
    return [sys.executable, "-c", CTRL_C_ONCE_SAVED, *map(str, arguments)]


def _placeless(text, folder):
    """The same text wherever the folder is, named whole or from the current one."""
    return text.replace(os.path.relpath(folder), "HERE").replace(str(folder), "HERE")
