"""``compress --bench``: both models timed once the file is written, and nothing else changed."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import frontier_command, run
from run_files import content

from onnxsemi._errors import ModelError
from onnxsemi._report.record import read_result
from onnxsemi._report.speed import Speed
from onnxsemi._settings import Settings

pytestmark = pytest.mark.slow

SMALL = ("--rounding-samples", "40", "--max-drop", "2")


@dataclass(frozen=True)
class Timed:
    """A run that was taken up again with ``--bench``.

    Attributes:
        folder: Where its files are.
        printed: What the second command printed.
        document: What the first one gave as JSON.
        before: Its files between the two.
    """

    folder: Path
    printed: str
    document: dict
    before: dict


FILES = ("a.onnx", "a.run/run.json", "a.run/frontier.json", "a.run/journal.jsonl")


@pytest.fixture(scope="module")
def timed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "a.onnx"
    command = frontier_command(folder, out, *SMALL)
    first = run(*command, "--json")
    assert first.exit_code == 0, first.output
    before = {name: (out.parent / name).read_bytes() for name in FILES}
    result = run(*command, "--resume", "--bench")
    assert result.exit_code == 0, result.output
    return Timed(out.parent, " ".join(result.stdout.split()), json.loads(first.stdout), before)


def test_one_line_of_the_short_table(timed):
    assert timed.printed.count("Speed: ") == 1
    assert "an image by load_session" in timed.printed
    assert "in a default session" in timed.printed


def test_kept_in_the_run_with_both_kinds_of_session(timed):
    document = content(timed.folder / "a.run/result.json")
    rows = document["speed"]["rows"]
    assert [row["load_session"] for row in rows] == [False, True, False, True]
    assert [Path(row["model"]).name for row in rows] == [*["model.onnx"] * 2, *["a.onnx"] * 2]
    assert all(row["latency"]["1"]["seconds"] > 0 for row in rows)
    assert "--bench" not in document["command"]
    assert run("report", timed.folder / "a.run", "--quiet").exit_code == 0


def test_decides_nothing_and_measures_nothing_again(timed):
    assert timed.document["speed"] is None
    assert timed.before == {name: (timed.folder / name).read_bytes() for name in FILES}


def test_a_model_that_cannot_be_timed_is_a_warning(folder, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ModelError("no floats")

    monkeypatch.setattr(sys.modules["onnxsemi._pipeline.speed"], "bench", refuse)
    result = run(*frontier_command(folder, tmp_path / "a.onnx", *SMALL, "--quiet", "--bench"))
    assert result.exit_code == 0, result.output
    assert "warning: speed was not measured: no floats" in result.stderr
    assert (tmp_path / "a.onnx").exists()
    document = read_result(tmp_path / "a.run").document
    assert document.speed is None
    assert "speed was not measured: no floats" in document.warnings


def test_off_by_default():
    assert not Settings().bench
    assert Speed.read(None) is None
