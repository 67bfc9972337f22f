"""The folder of a run: who may work in it, and what makes two runs the same."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import run_files
from onnx import numpy_helper
from residual_net import residual_net, save_noise, save_residual_net

from onnxsemi import (
    DataOptions,
    Pin,
    ReadOptions,
    RoundingSettings,
    RunError,
    RunOptions,
    SearchSettings,
    Settings,
    SettingsError,
    compress,
)
from onnxsemi._option import settings_of
from onnxsemi._pipeline import run_identity as runs
from onnxsemi._pipeline.preparation import prepare
from onnxsemi._pipeline.remaining_time import ForwardPass
from onnxsemi._run.folder import Identity, MadeOf, nothing_held, nowhere, open_run
from onnxsemi._run.store import NO_RUN, opened_file, sealed, typed, write

MADE_OF: Identity = {"model": "a" * 64, "--bits": (8, 6, 4), "--output": None, "numpy": "2.0"}
FOUND = ("best.onnx", "best.plan.json")
LEFT_BY_A_RUN = ("journal.jsonl", "moments.npz", *FOUND)

JUDGED = {"--max-drop": 0.0}


def made(measured: Identity, judged: Identity | None = None) -> MadeOf:
    return MadeOf(measured, JUDGED if judged is None else judged)


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock and the time that was taken, which are nobody's result."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name not in (".lock", "spent.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Killed(BaseException):
    """Not an error: nothing may catch it."""


def until(calls: Iterator[int], method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, for so many calls."""

    def counted(*arguments: Any, **options: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return method(*arguments, **options)

    return counted


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run with one measurement."""
    path = tmp_path / "run"
    with open_run(path, made(MADE_OF), resume=False) as run:
        run.journal.ask(ForwardPass(3), float, lambda: 1.0)
    for name in LEFT_BY_A_RUN[1:]:
        (path / name).write_bytes(b"old")
    return path


@pytest.fixture
def finished(unfinished: Path) -> Path:
    """The same run, finished."""
    with open_run(unfinished, made(MADE_OF), resume=True) as run:
        run.finish(held=True)
    return unfinished


class TestBegin:
    @pytest.mark.parametrize("resume", [False, True])
    @pytest.mark.parametrize("there", [False, True])
    def test_folder_is_made_and_says_what_it_is_made_of(
        self, tmp_path: Path, *, resume: bool, there: bool
    ) -> None:
        path = tmp_path / "run"
        if there:
            path.mkdir()
        with open_run(path, made(MADE_OF), resume=resume) as run:
            assert run.path == path
            assert run.file("best.onnx") == path / "best.onnx"
            assert not run.journal.recalling
            assert typed(run_files.content(path / "run.json"), MadeOf) == made(MADE_OF)
        assert not (path / "finished.json").exists()

    def test_unfinished_is_not_lost(self, unfinished: Path) -> None:
        before = content(unfinished)
        with (
            pytest.raises(RunError, match="not finished: go on with `resume`"),
            open_run(unfinished, made(MADE_OF), resume=False),
        ):
            pass
        assert content(unfinished) == before

    def test_finished_of_another_model_is_not_lost(self, finished: Path) -> None:
        before, other = content(finished), made({**MADE_OF, "model": "b" * 64})
        with (
            pytest.raises(RunError, match=r"finished run of another model: choose .* `force`"),
            open_run(finished, other, resume=False),
        ):
            pass
        assert content(finished) == before
        with open_run(finished, other, resume=False, force=True) as run:
            assert not list({*LEFT_BY_A_RUN} & {path.name for path in finished.iterdir()})
            assert run.made_of == other

    def test_finished_whose_head_is_damaged_gives_way(self, finished: Path) -> None:
        (finished / "run.json").write_bytes(b"no head")
        with open_run(finished, made({**MADE_OF, "model": "b" * 64}), resume=False):
            pass

    def test_finished_gives_way_to_a_new_one(self, finished: Path) -> None:
        assert run_files.content(finished / "finished.json") == {"held": True}
        assert not nothing_held(finished)
        with open_run(finished, made({**MADE_OF, "--bits": (2,)}), resume=False) as run:
            assert not run.journal.recalling
        assert list(content(finished)) == ["run.json"]
        assert run_files.content(finished / "run.json")["measured"]["--bits"] == [2]

    @pytest.mark.parametrize("resume", [False, True])
    def test_folder_with_other_files_is_refused(self, tmp_path: Path, *, resume: bool) -> None:
        (tmp_path / "holiday").mkdir()
        for name in ("holiday/photo.png", "journal.jsonl", "best.onnx"):
            (tmp_path / name).write_bytes(b"mine")
        before = content(tmp_path)
        with (
            pytest.raises(RunError, match="is not empty and holds no run"),
            open_run(tmp_path, made(MADE_OF), resume=resume),
        ):
            pass
        assert content(tmp_path) == before
        assert not (tmp_path / ".lock").exists()

    @pytest.mark.parametrize("resume", [False, True])
    def test_file_in_its_place(self, tmp_path: Path, *, resume: bool) -> None:
        path = tmp_path / "run"
        path.write_bytes(b"mine")
        with (
            pytest.raises(RunError, match="no folder"),
            open_run(path, made(MADE_OF), resume=resume),
        ):
            pass
        assert path.read_bytes() == b"mine"

    @pytest.mark.parametrize("resume", [False, True])
    def test_missing_parent(self, tmp_path: Path, *, resume: bool) -> None:
        path = tmp_path / "no" / "run"
        with (
            pytest.raises(RunError, match="cannot be made"),
            open_run(path, made(MADE_OF), resume=resume),
        ):
            pass
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(
        sys.platform == "win32" or os.geteuid() == 0, reason="needs folders that refuse this user"
    )
    def test_folder_that_is_not_writable(self, tmp_path: Path) -> None:
        path = tmp_path / "run"
        path.mkdir(mode=0o500)
        with (
            pytest.raises(RunError, match="cannot be written"),
            open_run(path, made(MADE_OF), resume=False),
        ):
            pass

    def test_nowhere_keeps_nothing(self) -> None:
        run = nowhere()
        assert run.path is None
        assert run.file("moments.npz") is None
        run.finish(held=True)


class TestLock:
    def test_second_in_the_same_process(self, tmp_path: Path) -> None:
        with open_run(tmp_path / "run", made(MADE_OF), resume=False):
            before = content(tmp_path)
            for resume in (False, True):
                with (
                    pytest.raises(RunError, match="another process is working on this run"),
                    open_run(tmp_path / "run", made(MADE_OF), resume=resume),
                ):
                    pass
            assert content(tmp_path) == before

    def test_second_process(self, tmp_path: Path) -> None:
        script = """
            import sys
            from pathlib import Path
            from onnxsemi._run.folder import MadeOf, open_run
            with open_run(Path(sys.argv[1]), MadeOf({}, {}), resume=False):
                print("in", flush=True)
                sys.stdin.readline()
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "run")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "in\n"
            with (
                pytest.raises(RunError, match="another process"),
                open_run(tmp_path / "run", made({}), resume=True),
            ):
                pass
            other.kill()
        with open_run(tmp_path / "run", made({}), resume=True):  # a lock dies with its process
            pass

    def test_is_given_back(self, tmp_path: Path) -> None:
        def fail() -> None:
            with open_run(tmp_path / "run", made(MADE_OF), resume=False):
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        for _ in range(2):
            with open_run(tmp_path / "run", made(MADE_OF), resume=True):
                pass


class TestSame:
    def test_journal_is_recalled_and_nothing_is_removed(self, unfinished: Path) -> None:
        before = content(unfinished)
        with open_run(unfinished, made(MADE_OF), resume=True) as run:
            assert run.journal.recalling
        assert content(unfinished) == before

    def test_finished_is_taken_up_again_too(self, finished: Path) -> None:
        before = content(finished)
        with open_run(finished, made(MADE_OF), resume=True) as run:
            assert run.journal.recalling
            assert not (finished / "finished.json").exists()  # until it is finished again
            run.finish(held=True)
        assert content(finished) == before

    def test_other_judging_keeps_what_was_measured(self, finished: Path) -> None:
        (finished / "best.onnx").write_bytes(b"of the other judging")
        before = content(finished)
        with open_run(finished, made(MADE_OF, {"--max-drop": 1.0}), resume=True) as run:
            assert run.journal.recalling
            left = content(finished)
        assert before.keys() - left.keys() == {*FOUND, "finished.json"}
        assert all(left[name] == before[name] for name in left if name != "run.json")
        assert run_files.content(finished / "run.json")["judged"] == {"--max-drop": 1.0}

    def test_other_judging_of_another_run_touches_nothing(self, finished: Path) -> None:
        before = content(finished)
        with (
            pytest.raises(RunError, match="`bits` was 8,6,4, now 2"),
            open_run(finished, made({**MADE_OF, "--bits": (2,)}, {}), resume=True),
        ):
            pass
        assert content(finished) == before

    @pytest.mark.parametrize("place", range(9))
    def test_killed_while_other_judging_begins(
        self, finished: Path, monkeypatch: pytest.MonkeyPatch, place: int
    ) -> None:
        """What was measured stays; the next one removes what is left of the other judging."""
        other, calls = made(MADE_OF, {"--max-drop": 1.0}), iter(range(place))
        journal = (finished / "journal.jsonl").read_bytes()
        for name in ("unlink", "replace"):
            monkeypatch.setattr(Path, name, until(calls, getattr(Path, name)))
        with suppress(Killed), open_run(finished, other, resume=True):
            pass
        monkeypatch.undo()
        with open_run(finished, other, resume=True) as run:
            assert run.journal.recalling
        left = content(finished)
        assert left.keys().isdisjoint((*FOUND, "finished.json"))
        assert left["journal.jsonl"] == journal

    @pytest.mark.parametrize("place", range(16))
    def test_killed_while_it_is_cleared(
        self, finished: Path, monkeypatch: pytest.MonkeyPatch, place: int
    ) -> None:
        """Whatever was deleted then, a new run can begin, and can be taken up again."""
        other, calls = {**MADE_OF, "--bits": (4,)}, iter(range(place))
        for name in ("unlink", "replace"):
            monkeypatch.setattr(Path, name, until(calls, getattr(Path, name)))
        with (
            suppress(Killed),
            open_run(finished, made(other), resume=False) as run,
        ):
            run.journal.ask(ForwardPass(3), float, lambda: 1.0)
        monkeypatch.undo()
        begun = run_files.content(finished / "run.json")["measured"]["--bits"] == [4]
        assert begun == (place > 11)  # eleven files, and what takes the place of run.json
        with open_run(finished, made(other), resume=begun) as run:
            assert run.journal.ask(ForwardPass(3), float, lambda: 2.0) == (
                1.0 if place > 14 else 2.0
            )

    @pytest.mark.parametrize("text", ["[]", "3", "null", '"run"'])
    def test_head_that_is_no_object(self, unfinished: Path, text: str) -> None:
        (unfinished / "run.json").write_text(text)
        with (
            pytest.raises(
                RunError,
                match=r"run\.json: (is damaged|was written by an older).*; delete the folder",
            ),
            open_run(unfinished, made(MADE_OF), resume=True),
        ):
            pass

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"model": "b" * 64}, "the model has changed"),
            ({"--bits": (8, 4)}, "`bits` was 8,6,4, now 8,4"),
            ({"--bits": ()}, "`bits` was 8,6,4, now none"),
            ({"--output": "scores"}, "`output` was not set, now scores"),
            ({"numpy": "2.1"}, "numpy was 2.0, now 2.1"),
            ({"numpy": "2.1", "model": "b" * 64}, "model has changed; numpy was 2.0, now 2.1"),
            ({"something new": 1}, "something new was not set, now 1"),
        ],
    )
    def test_what_has_changed_is_named(
        self, unfinished: Path, change: dict[str, Any], words: str
    ) -> None:
        before = content(unfinished)
        with (
            pytest.raises(RunError) as error,
            open_run(unfinished, made(MADE_OF | change), resume=True),
        ):
            pass
        assert words in str(error.value)
        assert "\n" not in str(error.value)
        assert "aaaa" not in str(error.value)
        assert content(unfinished) == before

    def test_part_that_is_gone(self, unfinished: Path) -> None:
        fewer = {name: value for name, value in MADE_OF.items() if name != "numpy"}
        with (
            pytest.raises(RunError, match=r"numpy was 2\.0, now not set"),
            open_run(unfinished, made(fewer), resume=True),
        ):
            pass

    def test_numbers_of_another_type_are_the_same(self, unfinished: Path) -> None:
        judged, before = {"--max-drop": 0}, content(unfinished)
        with open_run(unfinished, made({**MADE_OF, "--bits": (8.0, 6, 4)}, judged), resume=True):
            pass
        assert content(unfinished) == before

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"schema": 1,\n'])
    def test_damaged_head(self, unfinished: Path, text: bytes) -> None:
        (unfinished / "run.json").write_bytes(text)
        before = content(unfinished)
        with (
            pytest.raises(
                RunError,
                match=r"run\.json: (is damaged|was written by an older).*; delete the folder",
            ),
            open_run(unfinished, made(MADE_OF), resume=True),
        ):
            pass
        assert content(unfinished) == before

    def test_head_of_another_version(self, unfinished: Path) -> None:
        write(unfinished / "run.json", {"schema": 4, "model": "a" * 64}, NO_RUN)
        with (
            pytest.raises(RunError, match=r"is of another version: .*; delete the folder"),
            open_run(unfinished, made(MADE_OF), resume=True),
        ):
            pass

    @pytest.mark.parametrize("name", ["finished.json", "best.onnx", "moments.npz"])
    def test_a_folder_in_the_place_of_a_file(self, finished: Path, name: str) -> None:
        (finished / name).unlink()
        (finished / name).mkdir()
        other = made(MADE_OF | {"--bits": (2,)})
        with (
            pytest.raises(RunError, match=f"{name}: cannot be deleted: .*; delete the folder"),
            open_run(finished, other, resume=False),
        ):
            pass


PAPER = Settings(search=SearchSettings(method="semilayer"), model=ReadOptions(targets="hidden"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=30, seed=1)
    save_noise(folder / "report.npz", count=10, seed=2)
    return folder


def identity(
    folder: Path,
    settings: Settings | None = None,
    model: str = "model.onnx",
    search: str = "search.npz",
    report: str | None = "report.npz",
) -> Identity:
    test_data = None if report is None else folder / report
    chosen = replace(settings or PAPER, force=True)
    prepared = prepare(folder / model, folder / search, test_data, chosen)
    return runs.identity(prepared)


def changed(one: Identity, other: Identity) -> set[str]:
    return {name for name in {**one, **other} if one.get(name) != other.get(name)}


class TestIdentity:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("--bits", replace(PAPER, search=SearchSettings(method="semilayer", bits=(8, 4)))),
            (
                "--order",
                replace(PAPER, search=SearchSettings(method="semilayer", order="ascending")),
            ),
            ("--split", replace(PAPER, search=SearchSettings(method="semilayer", split="none"))),
            ("--max-drop", replace(PAPER, search=SearchSettings(method="semilayer", max_drop=1))),
            ("--targets", replace(PAPER, model=ReadOptions(targets="all"))),
            ("--exclude", replace(PAPER, model=ReadOptions(targets="hidden", exclude=("c1",)))),
            ("--output", replace(PAPER, model=ReadOptions(targets="hidden", output="scores"))),
            ("--scheme", replace(PAPER, scheme="symmetric")),
            ("--profile", replace(PAPER, profile="fast")),
            ("--delta-loss", replace(PAPER, delta_loss="exact")),
            ("--kl", replace(PAPER, kl="exact")),
            ("--min-agreement", replace(PAPER, min_agreement=0.5)),
            ("--delta-loss-samples", replace(PAPER, delta_loss_samples=12)),
            ("calibration data", replace(PAPER, search_samples=20)),
            ("--pin", replace(PAPER, pins=(Pin("c1", 8),))),
            ("--seed", replace(PAPER, seed=1)),
            ("calibration data", replace(PAPER, data=DataOptions(mean=(0.4,)))),
            ("calibration data", replace(PAPER, data=DataOptions(std=(0.4,)))),
            ("test data", replace(PAPER, data=DataOptions(std=(0.4,)))),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_every_setting_that_decides_is_part_of_it(
        self, inputs: Path, name: str, settings: Settings
    ) -> None:
        assert name in changed(identity(inputs), identity(inputs, settings))

    @pytest.mark.parametrize(
        "settings",
        [
            replace(PAPER, threads=1),
            replace(PAPER, max_memory=2**40),
            replace(PAPER, bench=True),
            replace(PAPER, run=RunOptions(folder="elsewhere", resume=True, time_budget=5)),
        ],
        ids=["threads", "memory", "bench", "run"],
    )
    def test_what_changes_no_result_is_not(self, inputs: Path, settings: Settings) -> None:
        assert identity(inputs, settings) == identity(inputs)

    def test_share_and_seed_of_the_split_show_in_the_images(self, inputs: Path) -> None:
        one = identity(inputs, report=None)
        for settings in (replace(PAPER, test_fraction=0.4), replace(PAPER, seed=1)):
            assert changed(one, identity(inputs, settings, report=None)) >= {
                "calibration data",
                "test data",
            }

    def test_no_setting_was_forgotten(self, inputs: Path) -> None:
        """A new setting is in the identity, or was left out on purpose."""
        apart = {each.flag for each in settings_of(Settings)} - set(identity(inputs, Settings()))
        assert apart == {
            *("--run", "--resume", "--time-budget", "--command", "--threads", "--max-memory"),
            *("--force", "--allow-loss", "--bench", "--cluster", "--allow-mixed"),
            "--cluster-wait",
            "--provider",  # in the identity where it is not the processor
            *("--search-samples", "--test-fraction", "--test-labels"),  # show in the images
            *("--mean", "--std", "--resize", "--crop", "--preset", "--classes", "--labels"),
        }

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("--method", Settings(search=SearchSettings(method="semilayer"))),
            ("--tolerance", Settings(search=SearchSettings(tolerance=0.4))),
            ("--tries", Settings(search=SearchSettings(tries=1))),
            ("--rounding-samples", Settings(rounding_samples=7)),
            ("--rounding", Settings(rounding=RoundingSettings(method="nearest"))),
            ("--ranges", Settings(rounding=RoundingSettings(ranges="mse"))),
            ("--inputs", Settings(rounding=RoundingSettings(inputs="float"))),
            ("--bias-correction", Settings(rounding=RoundingSettings(bias_correction=False))),
            ("--half-steps", Settings(rounding=RoundingSettings(half_steps=False))),
            ("--half-steps", Settings(profile="native")),
            ("--sweeps", Settings(rounding=RoundingSettings(sweeps=0))),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_settings_of_the_frontier(self, inputs: Path, name: str, settings: Settings) -> None:
        assert name in changed(identity(inputs, Settings()), identity(inputs, settings))

    def test_versions(self, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = identity(inputs)
        monkeypatch.setattr(runs, "version", lambda _name: "0.0")
        monkeypatch.setattr(runs, "build", lambda: "0.0")
        assert changed(one, identity(inputs)) == {
            *("onnxsemi", "onnx", "onnxruntime", "numpy", "scipy")
        }

    def test_can_be_written(self, inputs: Path) -> None:
        one = made(identity(inputs))
        assert opened_file(sealed(one, NO_RUN), MadeOf, NO_RUN) == one

    @pytest.mark.parametrize("name", ["stem_b", "tied_w", "fc_w"])
    def test_any_weight_of_the_model(self, inputs: Path, tmp_path: Path, name: str) -> None:
        model = residual_net()
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[-1] = np.nextafter(values.flat[-1], np.float32(9))
        tensor.CopyFrom(numpy_helper.from_array(values, name))
        onnx.save(model, tmp_path / "other.onnx")
        other = identity(inputs, model=str(tmp_path / "other.onnx"))
        assert changed(identity(inputs), other) == {"model"}

    @pytest.mark.parametrize("which", ["search", "report"])
    @pytest.mark.parametrize("part", ["x", "y"])
    def test_any_pixel_and_any_label(
        self, inputs: Path, tmp_path: Path, which: str, part: str
    ) -> None:
        names = {"search": "calibration data", "report": "test data"}
        with np.load(inputs / f"{which}.npz") as arrays:
            values = {name: arrays[name].copy() for name in arrays}
        last = values[part].reshape(-1)
        last[-1] = (last[-1] + 1) % 5
        np.savez(tmp_path / "other.npz", **values)
        other = identity(inputs, **{which: str(tmp_path / "other.npz")})
        assert changed(identity(inputs), other) == {names[which]}

    def test_order_of_the_images(self, inputs: Path, tmp_path: Path) -> None:
        with np.load(inputs / "search.npz") as arrays:
            values = {name: arrays[name] for name in arrays}
        turned = {name: values[name][::-1] for name in "xy"}
        np.savez(tmp_path / "other.npz", **(values | turned))
        other = identity(inputs, search=str(tmp_path / "other.npz"))
        assert changed(identity(inputs), other) == {"calibration data"}

    def test_labels_given_or_not(self, inputs: Path, tmp_path: Path) -> None:
        for name, seed in (("s.npz", 1), ("r.npz", 2)):
            save_noise(tmp_path / name, count=30, seed=seed, labels=False)
        other = identity(inputs, search=str(tmp_path / "s.npz"), report=str(tmp_path / "r.npz"))
        assert "labels" in changed(identity(inputs), other)

    def test_names_and_places_of_the_files_do_not_matter(
        self, inputs: Path, tmp_path: Path
    ) -> None:
        for name in ("model.onnx", "search.npz", "report.npz"):
            (tmp_path / f"moved_{name}").write_bytes((inputs / name).read_bytes())
        moved = identity(tmp_path, None, "moved_model.onnx", "moved_search.npz", "moved_report.npz")
        assert moved == identity(inputs)

    def test_defaults_spelled_out_are_the_same(self, inputs: Path) -> None:
        spelled = replace(
            PAPER, search=SearchSettings(method="semilayer", bits=(8, 6, 4), order="descending")
        )
        assert identity(inputs, replace(spelled, scheme="asymmetric")) == identity(inputs)


def test_to_go_on_takes_a_folder(inputs: Path, tmp_path: Path) -> None:
    settings = Settings(run=RunOptions(resume=True))
    with pytest.raises(SettingsError, match="`resume` needs the folder of the run: `run`"):
        compress(
            inputs / "model.onnx",
            inputs / "search.npz",
            output=tmp_path / "out.onnx",
            settings=settings,
        )
    assert list(tmp_path.iterdir()) == []
