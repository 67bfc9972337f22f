"""Names that come from models, labels and files steer no terminal, and are cut."""

import json
import subprocess
import sys
import unicodedata
from io import StringIO

import onnx
import pytest
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from residual_net import save_noise, save_residual_net
from rich.table import Table

import onnxsemi
from onnxsemi._cli.console import VisibleConsole
from onnxsemi._cli.terminal import LineProgress, LiveProgress, OnlyWarnings
from onnxsemi._errors import one_line
from onnxsemi._progress_callback import Event
from onnxsemi._visible import LONGEST_LINE, LONGEST_WORD, shown, shown_line, visible

HOSTILE = "e\x1b[2J\x1b]0;title\x07\u202egnp.\u2066\x9b31m\udcff\nerror: no"
FORBIDDEN = {"\x1b", "\x07", "\x9b", "\x7f", "\u202e", "\u2066", "\udcff"}


def seen(text: str) -> bool:
    """Whether nothing in it can steer a terminal or turn the text around it."""
    unseen = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return not any(c not in "\n\t" and unicodedata.category(c) in unseen for c in text)


@given(st.text(max_size=50))
def test_whatever_the_text(text):
    assert seen(visible(text))
    assert visible(visible(text)) == visible(text)
    line = shown_line(text)
    assert "\n" not in line
    assert seen(line)


@given(st.lists(st.text("ab", min_size=1, max_size=900), max_size=8))
def test_words_and_lines_end(words):
    assert all(len(word) <= LONGEST_WORD + 3 for word in shown(" ".join(words)).split())
    line = shown_line(" ".join(words))
    assert len(line) <= LONGEST_LINE
    whole = {*shown(" ".join(words)).split(" "), "..."}
    assert set(line.split(" ")) <= whole  # cut between two words
    long = one_line(RuntimeError(" ".join(words)))
    assert len(long) <= 300


def test_a_name_within_the_bounds_is_left_alone():
    assert shown_line("/layer1/layer1.0/conv1/Conv_output_0 é 漢") == (
        "/layer1/layer1.0/conv1/Conv_output_0 é 漢"
    )


def test_an_error_as_a_library_raises_it():
    said = str(onnxsemi.ModelError(f"{HOSTILE}: no such file"))
    assert seen(said)
    assert said.startswith("e⟨1B⟩[2J")
    assert "\n" not in said


def test_a_console_passes_nothing_on():
    out = StringIO()
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    VisibleConsole(file=out, force_terminal=False, width=200).print(table)
    assert not FORBIDDEN & set(out.getvalue())


@pytest.mark.parametrize("kind", [LineProgress, LiveProgress, OnlyWarnings])
def test_progress(kind):
    out, times = StringIO(), iter(range(1000))
    console = VisibleConsole(file=out, force_terminal=False, width=80)
    more = () if kind is OnlyWarnings else (lambda: float(next(times)),)
    progress = kind(console, *more)
    progress.start(HOSTILE, 3)
    progress.step(HOSTILE)
    progress.step(HOSTILE)
    progress.warn(HOSTILE)
    if kind is LiveProgress:
        console.print(progress)
    assert out.getvalue()
    assert not FORBIDDEN & set(out.getvalue())


def test_events_and_results():
    assert seen(str(Event(HOSTILE, 1, 2, HOSTILE)))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A model whose layers, output and file have such names, and images whose classes have."""
    folder = tmp_path_factory.mktemp("host\x1b[31mile")
    model = onnx.load(save_residual_net(folder / "model.onnx"))
    for node in model.graph.node:
        node.name = f"{node.op_type}\x1b[31m\u202e{node.output[0]}\x07"
    model.producer_name = "p\x1b[2J"
    onnx.save(model, folder / "model\u202e.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    (folder / "classes.txt").write_text("\n".join(f"c{n}\x1b[5m\u202e" for n in range(5)))
    return folder


def check_seen(result, code=0):
    assert result.exit_code == code, result.output
    assert not FORBIDDEN & set(result.output)


@pytest.mark.slow
def test_commands(hostile):
    model, data = hostile / "model\u202e.onnx", hostile / "search.npz"
    check_seen(run("inspect", model))
    found = run("inspect", model, "--json")
    check_seen(found)
    names = {layer["name"] for layer in json.loads(found.stdout)["layers"]}
    assert "Conv\x1b[31m\u202estem\x07" in names  # documents have whole names
    check_seen(run("inspect", hostile / "absent\x1b[1m.onnx"), 1)
    check_seen(run("inspect", "--ab\x1b[1m"), 2)
    given = ("--data", data, "--test-data", hostile / "report.npz", "--force", "--max-drop", "90")
    names = ("--classes", hostile / "classes.txt", "--pin", "Conv*stem*=8", "--verbose")
    out = hostile / "small\x1b[0m.onnx"
    check_seen(run("check", model, *given))
    searched = run(
        "compress", model, *given, *names, "--bits", "8,4", "--rounding-samples", "20", "-o", out
    )
    check_seen(searched)
    check_seen(run("inspect", out))
    check_seen(run("pareto", out.with_suffix(".run")))
    check_seen(run("report", out.with_suffix(".run"), "--out", hostile / "p\u202e.html"))
    page = (hostile / "p\u202e.html").read_text()
    assert not FORBIDDEN & set(page)


def test_a_terminal_that_has_no_such_characters(hostile, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    command = [sys.executable, "-m", "onnxsemi", "inspect", str(hostile / "model\u202e.onnx")]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.isascii()
