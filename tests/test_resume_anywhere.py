"""Runs broken off at any call, again and again: the same measurements, bit for bit, in the end."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import compress_command
from residual_net import save_noise, save_residual_net
from run_files import lines

import onnxsemi
from onnxsemi import ReadOptions, RunOptions, SearchSettings, Settings
from onnxsemi._pipeline import preparation as prepare
from onnxsemi._pipeline import sensitivity
from onnxsemi._progress import Silent

pytestmark = pytest.mark.slow

PAPER: dict[str, Any] = {
    "search": SearchSettings(method="semilayer"),
    "model": ReadOptions(targets="hidden"),
}
WAYS: dict[str, dict[str, Any]] = {
    "frontier": {"rounding_samples": 24},
    "fast": PAPER,
    "exact": {**PAPER, "delta_loss": "exact", "kl": "exact"},
    "mixed": {
        "kl": "exact",
        "model": ReadOptions(targets="all"),
        "search": SearchSettings(method="semilayer", bits=(8, 3, 2), order="ascending", max_drop=3),
    },
}
Outcome = tuple[bytes, bytes, list[dict[str, Any]]]
Whole = tuple[Outcome, int]
IMAGES = 40  # two blocks of backward passes


BACKWARD = "Δloss and KL, backward passes"


class Killed(BaseException):
    """Not an error: nothing may catch it."""


class Counting(Silent):
    """Counts what a run reports, of one phase or of all, and breaks it off at so many reports."""

    def __init__(self, most: int | None = None, phase: str | None = None) -> None:
        self.most, self.calls, self._counted = most, 0, phase
        self.resumed_at: dict[str, int] = {}
        self._phase = ""

    def start(self, phase: str, _total: int) -> None:
        self._phase = phase
        self._count()

    def step(self, _detail: str, amount: int = 1) -> None:
        self.resumed_at.setdefault(self._phase, amount)
        self._count()

    def best(self, _compression: float, _share: float, _measured: str) -> None:
        self._count()

    def _count(self) -> None:
        self.calls += self._counted in (None, self._phase)
        if self.most is not None and self.calls > self.most:
            raise Killed


def compress(inputs: Path, folder: Path, way: str, progress: Counting, **more: Any) -> None:
    """Begin or go on with the run in ``folder``; writes ``out.onnx`` there."""
    options = RunOptions(folder=folder / "out.run", resume=True)
    onnxsemi.compress(
        inputs / "model.onnx",
        inputs / "search.npz",
        test_data=inputs / "report.npz",
        output=folder / "out.onnx",
        settings=Settings(run=options, force=True, **WAYS[way], **more),
        progress=progress,
    )


def outcome(folder: Path) -> Outcome:
    """Model, plan, and everything measured but how long it took."""
    measured = [line | {"spent": None} for line in lines(folder / "out.run")]
    replies = [
        line | {"reply": None} if line["ask"] == "ForwardPass" else line for line in measured
    ]
    return (
        (folder / "out.onnx").read_bytes(),
        (folder / "out.plan.json").read_bytes(),
        replies,
    )


def kill_at(inputs: Path, folder: Path, way: str, calls: int, phase: str | None = None) -> None:
    with pytest.raises(Killed):
        compress(inputs, folder, way, Counting(calls, phase))
    assert not list(folder.glob("out.*on*"))  # neither model nor plan
    assert not list(folder.rglob("*.part"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=IMAGES, seed=1)
    save_noise(folder / "report.npz", count=20, seed=2)
    return folder


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """Outcome of each way without interruption, and how much it reported."""
    outcomes = {}
    for way in WAYS:
        folder, progress = tmp_path_factory.mktemp(way), Counting()
        compress(inputs, folder, way, progress)
        outcomes[way] = (outcome(folder), progress.calls)
    return outcomes


@pytest.fixture(autouse=True)
def save_after_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "_SAVE_SECONDS", -1.0)


@pytest.mark.parametrize(
    ("way", "share"),
    [
        *(("frontier", 0.05), ("frontier", 0.6)),
        *(("fast", 0.2), ("fast", 0.9), ("exact", 0.5)),
    ],
)
def test_broken_off_once(
    inputs: Path, whole: dict[str, Whole], tmp_path: Path, way: str, share: float
) -> None:
    expected, calls = whole[way]
    kill_at(inputs, tmp_path, way, int(share * calls))
    compress(inputs, tmp_path, way, Counting())
    assert outcome(tmp_path) == expected


@pytest.mark.parametrize("way", WAYS)
def test_broken_off_again_and_again(
    inputs: Path, whole: dict[str, Whole], tmp_path: Path, way: str
) -> None:
    expected, calls = whole[way]
    # what is recalled is reported in part: later sessions come further
    for share in (0, 0.01, 0.05, 0.3, 0.5, 0.7):
        try:
            compress(inputs, tmp_path, way, Counting(int(share * calls)))
        except Killed:
            continue
    compress(inputs, tmp_path, way, Counting())
    assert outcome(tmp_path) == expected


def test_blocks_of_backward_passes_are_not_run_again(
    inputs: Path, whole: dict[str, Whole], tmp_path: Path
) -> None:
    kill_at(inputs, tmp_path, "fast", 3, BACKWARD)  # in the second block
    with np.load(tmp_path / "out.run/moments.npz") as arrays:
        assert arrays["done"] == 32
    progress = Counting()
    compress(inputs, tmp_path, "fast", progress)
    assert progress.resumed_at[BACKWARD] == 32
    assert outcome(tmp_path) == whole["fast"][0]


@pytest.mark.parametrize(("way", "threads"), [("frontier", 3), ("fast", 1), ("mixed", 3)])
def test_other_threads_and_hardly_any_memory(
    inputs: Path,
    whole: dict[str, Whole],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    threads: int,
) -> None:
    """One image a run, nothing kept: not one bit of a measurement differs."""
    expected, calls = whole[way]
    kill_at(inputs, tmp_path, way, calls // 2)
    monkeypatch.setattr(prepare, "check_memory", lambda *_: None)
    compress(inputs, tmp_path, way, Counting(), threads=threads, max_memory=1)
    assert outcome(tmp_path) == expected


@pytest.mark.parametrize("threads", [3])
def test_killed_while_weights_are_rounded(
    inputs: Path,
    whole: dict[str, Whole],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    """Within the table, and again with the table kept: taken up with hardly any memory."""
    expected, _ = whole["frontier"]
    table = tmp_path / "out.run/rounding.npz"
    kill_at(inputs, tmp_path, "frontier", 2, "rounding")
    assert not table.exists()
    monkeypatch.setattr(prepare, "check_memory", lambda *_: None)
    progress = Counting(0, BACKWARD)
    with pytest.raises(Killed):
        compress(inputs, tmp_path, "frontier", progress, threads=threads, max_memory=1)
    assert table.exists()
    compress(inputs, tmp_path, "frontier", Counting(), threads=threads, max_memory=1)
    assert outcome(tmp_path) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("count", [12])
def test_killed_by_the_system_after_some_measurements(
    inputs: Path, whole: dict[str, Whole], tmp_path: Path, count: int
) -> None:
    command = [sys.executable, "-m", "onnxsemi", *compress_command(inputs, tmp_path / "out.onnx")]
    journal = tmp_path / "out.run/journal.jsonl"
    with subprocess.Popen([*map(str, command), "--quiet"]) as process:
        while not journal.exists() or journal.read_bytes().count(b"\n") < count:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.onnx").exists()
    assert not (tmp_path / "out.plan.json").exists()
    compress(inputs, tmp_path, "fast", Counting())
    assert outcome(tmp_path) == whole["fast"][0]
    assert not list(tmp_path.rglob("*.part"))
