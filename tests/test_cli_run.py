"""The options of a run as a user types them: what cannot be used, and what --resume says."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from command_line import assert_one_line, compress_command, run
from typer.testing import Result

pytestmark = pytest.mark.slow

USAGE_ERROR = 2


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name not in (".lock", "spent.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output with nothing beside it."""
    return tmp_path / "out" / "small.onnx"


@pytest.fixture
def command(folder: Path, out: Path) -> list[object]:
    """The command on the shared model and images, which are not written to."""
    out.parent.mkdir()
    return [*compress_command(folder, out, "--quiet")]


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("made") / "small.onnx"
    assert run(*compress_command(folder, out, "--quiet")).exit_code == 0
    return out.with_suffix(".run")


@pytest.fixture
def kept(made: Path, command: list[object], out: Path) -> Path:
    """A copy of it where the command keeps its run; there is no output."""
    assert command
    return shutil.copytree(made, out.with_suffix(".run"))


def assert_refused(result: Result, out: Path, *words: str) -> None:
    """One line, and neither an output, nor a plan, nor a run."""
    assert_one_line(result, *words)
    assert not list(out.parent.iterdir())


class TestHelp:
    def test_options_of_the_run(self) -> None:
        output = run("compress", "--help-all").output
        for option in ("resume", "time-budget", "max-memory", "run", "delta-loss", "kl"):
            assert f"--{option} " in output

    def test_says_how_to_go_on(self) -> None:
        output = " ".join(run("compress", "--help").output.split())
        assert "the same command with --resume goes on" in output


class TestValues:
    @pytest.mark.parametrize("value", ["lots", "", "-1GB", "1,5GB", "2XB", "GB", "1e9", "nan"])
    def test_memory_that_is_no_size(self, command: list[object], out: Path, value: str) -> None:
        result = run(*command, f"--max-memory={value}")
        assert_refused(result, out, "--max-memory", repr(value), "such as 2GB")

    @pytest.mark.parametrize("value", ["0", "0GB", "0.4"])
    def test_no_memory(self, command: list[object], out: Path, value: str) -> None:
        assert_refused(run(*command, "--max-memory", value), out, "--max-memory: 0 must be")

    @pytest.mark.parametrize("value", ["1", "1KB", "0.01 gb"])
    def test_memory_that_is_taken_already(
        self, command: list[object], out: Path, value: str
    ) -> None:
        result = run(*command, "--max-memory", value)
        assert_refused(result, out, "--max-memory", "less than what this model needs, about ")

    @pytest.mark.parametrize(
        "value", ["10", "-5m", "", " ", "m", "5 m", "1m1h", "5M", "soon", "1d", "1h 5m", "nans"]
    )
    def test_time_that_is_no_duration(self, command: list[object], out: Path, value: str) -> None:
        result = run(*command, f"--time-budget={value}")
        assert_refused(result, out, "--time-budget", repr(value), "such as 10m")

    def test_negative_time_as_a_word_of_its_own(self, command: list[object], out: Path) -> None:
        assert_refused(run(*command, "--time-budget", "-5m"), out, "--time-budget", "'-5m'")

    @pytest.mark.parametrize("value", ["0s", "0h0m0s", "0.0m"])
    def test_no_time(self, command: list[object], out: Path, value: str) -> None:
        result = run(*command, "--time-budget", value)
        assert_refused(result, out, "--time-budget: 0 seconds must be above 0")

    @pytest.mark.parametrize("value", ["2", "-0.1", "nan", "inf", "1.0001"])
    def test_agreement_outside_its_range(
        self, command: list[object], out: Path, value: str
    ) -> None:
        result = run(*command, f"--min-agreement={value}")
        assert_refused(result, out, "--min-agreement", "outside 0 to 1")

    @pytest.mark.parametrize(
        ("option", "value"),
        [("--delta-loss", "wrong"), ("--kl", "Fast!"), ("--kl", ""), ("--min-agreement", "much")],
    )
    def test_words_that_are_no_choice(
        self, command: list[object], out: Path, option: str, value: str
    ) -> None:
        result = run(*command, f"{option}={value}")
        assert result.exit_code == USAGE_ERROR
        assert result.stdout == ""
        assert f"Invalid value for '{option}'" in result.stderr
        assert "Traceback" not in result.stderr
        assert not list(out.parent.iterdir())

    @pytest.mark.parametrize("option", ["--run", "--time-budget", "--max-memory"])
    def test_option_without_a_value(self, command: list[object], out: Path, option: str) -> None:
        result = run(*command, option)
        assert result.exit_code == USAGE_ERROR
        assert "requires an argument" in result.stderr
        assert not list(out.parent.iterdir())

    @pytest.mark.parametrize("more", [("--max-memory", "1TB"), ("--time-budget", "1h30m")])
    def test_what_can_be_used_changes_no_byte(
        self, folder: Path, command: list[object], out: Path, more: tuple[str, str]
    ) -> None:
        result = run(*command, *more)
        assert (result.exit_code, result.stdout) == (0, "")
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()


class TestFolder:
    def test_beside_the_output_unless_given(self, command: list[object], out: Path) -> None:
        assert run(*command).exit_code == 0
        assert sorted(path.name for path in out.parent.iterdir()) == [
            *("small.onnx", "small.plan.json", "small.run")
        ]
        assert (out.parent / "small.run/finished.json").exists()

    def test_given(self, command: list[object], out: Path, tmp_path: Path) -> None:
        assert run(*command, "--run", tmp_path / "kept").exit_code == 0
        assert (tmp_path / "kept/finished.json").exists()
        assert not (out.parent / "small.run").exists()

    def test_best_so_far_is_a_compressed_model(self, folder: Path, kept: Path, out: Path) -> None:
        """What a killed run leaves in its folder can be used as it is."""
        document = json.loads(run("inspect", kept / "best.onnx", "--json").stdout)
        assert document["properties"]["onnxsemi.profile"] == "qdq"
        applied = run("apply", kept / "best.plan.json", folder / "model.onnx", "-o", out, "-q")
        assert applied.exit_code == 0, applied.output
        assert out.read_bytes() == (kept / "best.onnx").read_bytes()

    @pytest.mark.parametrize("resume", [(), ("--resume",)])
    def test_file_in_its_place(
        self, command: list[object], out: Path, tmp_path: Path, resume: tuple[str, ...]
    ) -> None:
        (tmp_path / "notes").write_text("mine")
        result = run(*command, "--run", tmp_path / "notes", *resume)
        assert_refused(result, out, "notes: is no folder", "--run")
        assert (tmp_path / "notes").read_text() == "mine"

    @pytest.mark.parametrize("resume", [(), ("--resume",)])
    def test_in_a_missing_folder(
        self, command: list[object], out: Path, tmp_path: Path, resume: tuple[str, ...]
    ) -> None:
        result = run(*command, "--run", tmp_path / "no" / "such", *resume)
        assert_refused(result, out, "cannot be made")
        assert not (tmp_path / "no").exists()

    @pytest.mark.parametrize("resume", [(), ("--resume",)])
    def test_folder_of_something_else(
        self, command: list[object], out: Path, tmp_path: Path, resume: tuple[str, ...]
    ) -> None:
        photos = tmp_path / "photos"
        photos.mkdir()
        (photos / "one.png").write_bytes(b"mine")
        result = run(*command, "--run", photos, *resume)
        assert_refused(result, out, "is not empty and holds no run")
        assert content(photos) == {"one.png": b"mine"}

    @pytest.mark.parametrize(
        ("run_folder", "output"),
        [
            *(("small.onnx", "small.onnx"), ("small.plan.json", "small.onnx")),
            *(("kept", "kept/best.onnx"), (".", "small.onnx")),
        ],
    )
    def test_where_the_output_goes(
        self, folder: Path, out: Path, run_folder: str, output: str
    ) -> None:
        (out.parent / output).parent.mkdir(parents=True)
        where = ("--run", out.parent / run_folder)
        result = run(*compress_command(folder, out.parent / output, "--quiet", *where))
        assert_one_line(result, "is the run's folder", "choose another --run")
        assert not [path for path in out.parent.rglob("*") if path.is_file()]

    @pytest.mark.parametrize("which", [1, 3])
    def test_an_input(self, command: list[object], out: Path, which: int) -> None:
        path = Path(str(command[which]))
        before = path.read_bytes()
        assert_refused(run(*command, "--run", path), out, path.name, "is no folder")
        assert path.read_bytes() == before

    @pytest.mark.skipif(
        sys.platform == "win32" or os.geteuid() == 0, reason="needs folders that refuse this user"
    )
    def test_not_writable(self, command: list[object], out: Path, tmp_path: Path) -> None:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert_refused(run(*command, "--run", tmp_path / "locked"), out, "cannot be written")

    def test_damaged_journal(self, command: list[object], out: Path, kept: Path) -> None:
        journal = kept / "journal.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join([*lines[:4], lines[4][:-20] + b"\n", *lines[5:]]))
        before = content(out.parent)
        assert_one_line(run(*command, "--resume"), "journal.jsonl: line 5 is damaged")
        assert content(out.parent) == before

    @pytest.mark.parametrize("damage", [b"", b"no archive"])
    def test_damaged_moments(
        self, command: list[object], out: Path, kept: Path, damage: bytes
    ) -> None:
        (kept / "moments.npz").write_bytes(damage)
        assert_one_line(run(*command, "--resume"), "moments.npz: is damaged", "delete it")
        assert not out.exists()
        (kept / "moments.npz").unlink()
        assert run(*command, "--resume").exit_code == 0


class TestResume:
    def test_with_nothing_there_begins(
        self, folder: Path, command: list[object], out: Path
    ) -> None:
        result = run(*command, "--resume")
        assert (result.exit_code, result.stdout) == (0, "")
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()

    def test_of_a_finished_run_measures_nothing_again(
        self, folder: Path, command: list[object], out: Path, kept: Path
    ) -> None:
        journal = (kept / "journal.jsonl").read_bytes()
        assert run(*command, "--resume").exit_code == 0
        assert (kept / "journal.jsonl").read_bytes() == journal
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()

    def test_not_given_for_an_unfinished_run(
        self, folder: Path, command: list[object], out: Path, kept: Path
    ) -> None:
        (kept / "finished.json").unlink()
        before = content(out.parent)
        result = run(*command)
        assert_one_line(result, "small.run", "not finished", "--resume", "--run")
        assert content(out.parent) == before
        assert run(*command, "--resume").exit_code == 0
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()

    def test_to_another_output(self, folder: Path, out: Path, kept: Path) -> None:
        """Where the result is written is no part of the run."""
        (kept / "finished.json").unlink()
        other = out.with_name("other.onnx")
        command = compress_command(folder, other, "--quiet", "--resume", "--run", kept)
        assert run(*command).exit_code == 0
        assert other.read_bytes() == (folder / "small.onnx").read_bytes()
        assert not out.exists()

    def test_after_a_budget_that_ended_at_once(
        self, folder: Path, command: list[object], out: Path
    ) -> None:
        result = run(*command, "--time-budget", "0.001s")
        assert_one_line(result, "time budget of 0.001 seconds", "--resume", "more time")
        assert list(out.parent.iterdir()) == []  # it ended while images were read
        assert run(*command, "--resume").exit_code == 0
        assert out.read_bytes() == (folder / "small.onnx").read_bytes()
