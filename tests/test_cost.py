"""What a run took, in forward passes: CPU time against CPU time."""

from dataclasses import replace
from pathlib import Path

import pytest
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import Settings
from onnxsemi._evaluation import forward
from onnxsemi._evaluation.float_answers import float_answers
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._results.results import Cost
from onnxsemi._run.folder import MadeOf, open_run
from onnxsemi._run.journal import Question
from onnxsemi._run.spent import Spent
from onnxsemi._sensitivity import forecast

NOTHING = MadeOf({}, {})


class Asked(Question, frozen=True):
    """A question."""


class Clock:
    """Each batch takes as long as its turn says; twice that by the wall."""

    def __init__(self, each: list[float]) -> None:
        self.each, self.now, self.calls = each, 0.0, 0

    def perf_counter(self) -> float:
        self.calls += 1
        self.now += 0 if self.calls % 2 else self.each[self.calls // 2 - 1]
        return 2 * self.now

    def thread_time(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("cost")
    save_residual_net(folder / "net.onnx")
    save_noise(folder / "search.npz", count=70, seed=3)
    save_noise(folder / "report.npz", count=20, seed=4)
    paths = [folder / name for name in ("net.onnx", "search.npz", "report.npz")]
    return prepare(*paths, Settings(force=True, threads=1))


@pytest.mark.parametrize("outlier", [0.0, 1000.0])
def test_a_pass_is_the_median_of_warm_batches(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, outlier: float
) -> None:
    """Neither the first run counts, nor one that waited for something else."""
    usual = [32.0, 32.0, 6.0]  # a second an image
    monkeypatch.setattr(forward, "time", Clock([99.0, *usual, 32.0, outlier, 6.0]))
    workload = prepared.workload(prepared.search)
    monkeypatch.setattr(float_answers(workload.classifier), "spent", [])
    assert forecast.forward_pass(workload, 6) == Spent(140.0, 70.0)


def test_a_pass_is_timed_while_the_float_model_answers(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every batch but the first; no image is run again for it."""
    workload = replace(prepared.workload(prepared.search), classifier=replace(prepared.classifier))
    monkeypatch.setattr(forward, "time", Clock([99.0, 64.0, 12.0]))
    workload.float_logits()
    assert forecast.forward_pass(workload, 2) == Spent(280.0, 140.0)


def test_passes_and_image_forwards_are_of_cpu_time() -> None:
    cost = Cost(seconds=7.0, cpu_seconds=300.0, pass_cpu_seconds=4.0, images=4000, trials=9)
    assert (cost.passes, cost.image_forwards) == (75.0, 300_000.0)
    assert cost.text == "75 passes over 4,000 calibration images, 300 thousand image-forwards"


def test_a_pass_too_short_for_the_clock_is_no_division_by_zero() -> None:
    cost = Cost(seconds=7.0, cpu_seconds=3.0, pass_cpu_seconds=0.0, images=40, trials=9)
    assert cost.passes == 3.0 / 1e-6


def test_every_session_of_a_run_counts(tmp_path: Path) -> None:
    """What was measured, and what followed, in a session that ended with an error, too."""
    ago = [Spent(100.0 * n, 10.0 * n) for n in (1, 2, 4)]
    with open_run(tmp_path / "run", NOTHING, resume=False, began=Spent.so_far() - ago[0]) as run:
        run.journal.ask(Asked(), int, lambda: 1)
    with (
        pytest.raises(KeyboardInterrupt),
        open_run(tmp_path / "run", NOTHING, resume=True, began=Spent.so_far() - ago[1]),
    ):
        raise KeyboardInterrupt
    with open_run(tmp_path / "run", NOTHING, resume=True, began=Spent.so_far() - ago[2]) as run:
        assert 700 < run.journal.spent.seconds < 701
        assert 70 < run.journal.spent.cpu_seconds < 71


def test_a_run_counts_from_its_first_moment(prepared: Prepared, tmp_path: Path) -> None:
    """Reading the model and the images belongs to it."""
    before = Spent.so_far()
    model, search, report = prepared.files
    assert model is not None
    assert search is not None
    result = onnxsemi.compress(
        model,
        search,
        output=tmp_path / "out.onnx",
        test_data=report,
        settings=Settings(force=True, allow_loss=True),
    )
    whole = (Spent.so_far() - before).cpu_seconds
    assert 0.9 * whole < result.cost.cpu_seconds < whole
    assert result.cost.images == 70
