"""Two processes at once on all that they can share: outputs, a run, a page, scratch names."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from job import COMMANDS, OUTPUTS, begin, compress

import onnxsemi

pytestmark = pytest.mark.slow
AT_ONCE = 3


def at_once(folder, *commands):
    """Exit code and standard error of each, all begun together."""

    def one(words):
        command = [sys.executable, "-m", "onnxsemi", *map(str, words)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(one, commands))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = begin(tmp_path_factory.mktemp("two") / "done")
    ((code, said),) = at_once(folder, compress())
    assert code == 0, said
    return folder


def whole(folder, done):
    return all((folder / n).read_bytes() == (done / n).read_bytes() for n in OUTPUTS)


def test_one_run(done, tmp_path):
    """One works on it, the others are told so; what is there in the end is whole."""
    folder = begin(tmp_path / "one")
    found = at_once(folder, *[compress()] * AT_ONCE)
    assert sorted(code for code, _ in found)[0] == 0
    for code, said in found:
        assert code == 0 or "another process is working on this run" in said, said
    assert whole(folder, done)
    onnxsemi.verify(folder / OUTPUTS[0], plan=folder / OUTPUTS[1], run=folder / "small.run")


def test_one_output_and_a_run_each(done, tmp_path):
    folder = begin(tmp_path / "outputs")
    runs = [("--run", f"{n}.run") for n in range(AT_ONCE)]
    found = at_once(folder, *(compress(*run) for run in runs))
    assert [code for code, _ in found] == [0] * AT_ONCE, found
    assert whole(folder, done)
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize(("command", "output"), [("apply", "again.onnx"), ("report", "page.html")])
def test_readers_of_one_run(done, tmp_path, command, output):
    folder = shutil.copytree(done, tmp_path / "readers")
    found = at_once(folder, *[COMMANDS[command]] * AT_ONCE)
    assert [code for code, _ in found] == [0] * AT_ONCE, found
    if command == "apply":
        onnxsemi.verify(folder / output, plan=folder / "again.plan.json", run=folder / "small.run")
    assert (folder / output).read_bytes()[-8:].strip()
    assert not list(folder.rglob("*.part"))


def test_a_run_that_is_read_while_it_is_taken_up_again(done, tmp_path):
    """Whoever reads finds a whole run, or is told in a line that it has no result yet."""
    folder = shutil.copytree(done, tmp_path / "while")
    found = at_once(
        folder, compress("--resume"), ["pareto", "small.run"], COMMANDS["report"], COMMANDS["apply"]
    )
    assert found[0][0] == 0, found[0]
    for code, said in found[1:]:
        assert code in (0, 1), said
        assert "Traceback" not in said
    assert whole(folder, done)
