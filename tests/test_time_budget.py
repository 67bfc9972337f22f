"""A time budget is kept, and gives the best so far; by a clock that each look at it winds."""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import run_files
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import CompressResult, RunOptions, SearchSettings, Settings
from onnxsemi._errors import BudgetError
from onnxsemi._pipeline import rounding
from onnxsemi._pipeline.run_identity import Clock, Limited
from onnxsemi._progress import Silent, Within
from onnxsemi._search.tolerance import ToleranceGuard

FRONTIER = SearchSettings(tolerance=50.0)
SEMILAYER = SearchSettings(method="semilayer", max_drop=10.0)
NEVER = 1e9
SHORT = "the time budget ended before the search had found anything"


class Ticks:
    """A second passes with every look."""

    each = 1.0

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.each
        return self.now


class Traced(Clock):
    """Keeps what every look was made within, and when the time would have had to end for it."""

    looks: ClassVar[list[tuple[float, frozenset[str]]]] = []

    @property
    def ended(self) -> bool:
        frame, within = sys._getframe(), set()
        while frame is not None:
            within.add(frame.f_code.co_qualname)
            frame = frame.f_back
        ended = super().ended
        self.looks.append((self._now.now + self.after, frozenset(within)))
        return ended


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_residual_net(folder / "net.onnx")
    save_noise(folder / "search.npz", count=70, seed=1)
    save_noise(folder / "report.npz", count=20, seed=2)
    return folder


@pytest.fixture
def compress(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs within a budget of ticks; gives the result and how many there were."""

    def within(
        folder: Path,
        budget: float | None,
        search: SearchSettings = FRONTIER,
        clock: type[Clock] = Clock,
    ) -> tuple[CompressResult, float]:
        ticks = Ticks()
        module = import_module("onnxsemi._pipeline.compress")
        monkeypatch.setattr(module, "Clock", partial(clock, now=ticks))
        folder.mkdir(exist_ok=True)
        options = RunOptions(folder=folder / "run", resume=True, time_budget=budget)
        settings = Settings(search=search, run=options, force=True, allow_loss=True, threads=1)
        result = onnxsemi.compress(
            inputs / "net.onnx",
            inputs / "search.npz",
            output=folder / "out.onnx",
            test_data=inputs / "report.npz",
            settings=settings,
        )
        return result, ticks.now

    return within


def written(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "out.onnx").read_bytes(), (folder / "out.plan.json").read_bytes()


@pytest.mark.slow
def test_always_a_plan_in_time_then_the_same_as_without(compress, tmp_path):
    """The time ends in tables, while weights are rounded, and within plans."""
    _, ticks = compress(tmp_path / "whole", NEVER)
    asked = run_files.asked(tmp_path / "whole/run")
    found, short = [], []
    for share in (0.1, 0.5, 0.8):
        folder, budget = tmp_path / str(share), share * ticks
        result, taken = compress(folder, budget)
        assert result.trajectory.out_of_time
        assert taken < budget + 3
        found.append(result.plan.compression)
        short.append(any(SHORT in note for note in result.notes))
        known = run_files.asked(folder / "run")
        assert known == asked[: len(known)]
        compress(folder, None)
        assert written(folder) == written(tmp_path / "whole")
        assert run_files.asked(folder / "run") == asked
    assert found == sorted(found)
    assert (short[0], short[-1]) == (True, False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "places"),
    [
        (
            FRONTIER,
            {
                "input_moments": "Table",
                "measure_agreement": "ExactSample",
                "SequentialRounder._float_values": "Look Check",
                "RoundedScout._run": "Look",
                "Walk._pass_blocks": "Look Check",
            },
        ),
        (SEMILAYER, {"ModelEvaluator.trial": "TrialOf"}),
    ],
    ids=["frontier", "semilayer"],
)
def test_it_ends_between_any_two_batches(compress, tmp_path, monkeypatch, search, places):
    """What is cut short there is not recorded; what was found before is given."""
    monkeypatch.setattr(rounding, "FEWEST_SCOUTED", 8)
    monkeypatch.setattr(Traced, "looks", [])
    whole, _ = compress(tmp_path / "whole", NEVER, search, Traced)
    asked, looks = run_files.asked(tmp_path / "whole/run"), list(Traced.looks)
    for place, questions in places.items():
        within = [when for when, names in looks if place in names]
        folder, budget = tmp_path / place, within[-len(within) // 3] - 0.5
        result, taken = compress(folder, budget, search)
        assert result.trajectory.out_of_time
        assert result.plan.compression <= whole.plan.compression
        assert taken < budget + 3
        known = run_files.asked(folder / "run")
        assert known == asked[: len(known)]
        assert asked[len(known)][0] in questions.split()
        compress(folder, None, search)
        assert written(folder) == written(tmp_path / "whole")
        assert run_files.asked(folder / "run") == asked


@pytest.mark.slow
def test_too_short_for_one_plan_says_what_it_takes(compress, tmp_path, monkeypatch):
    """As soon as the float model was run on some images, though next to no time has passed."""
    monkeypatch.setattr(Ticks, "each", 1e-9)
    with pytest.raises(BudgetError, match=r"one plan takes about \d+\.\d seconds; go on with"):
        compress(tmp_path / "short", 1e-6)
    assert not (tmp_path / "short/out.onnx").exists()
    assert not (tmp_path / "short/run").exists()


@pytest.mark.slow
def test_the_time_ends_while_images_are_read(compress, tmp_path):
    with pytest.raises(BudgetError, match="budget of 2 seconds ended before anything could be"):
        compress(tmp_path / "short", 2.0)
    assert not (tmp_path / "short/run").exists()


@pytest.mark.slow
def test_a_first_plan_that_does_not_hold_is_not_given(compress, tmp_path, monkeypatch):
    monkeypatch.setattr(ToleranceGuard, "against", lambda *_: "all of it")
    with pytest.raises(BudgetError, match="ended before anything could be compressed"):
        compress(tmp_path / "refused", 10.0)


class TestClock:
    def test_what_follows_is_counted_in(self):
        clock = Clock(10.0, now=Ticks())
        clock.after = 5.0
        assert [clock.ended for _ in range(6)] == [False] * 4 + [True] * 2

    def test_rounding_counts_where_the_best_has_no_codes_at_hand(self):
        clock = Clock(10.0, now=Ticks())
        clock.rounding = 8.5
        assert not clock.ended
        clock.rounds_again = True
        assert clock.ended

    def test_what_follows_takes_its_time(self):
        clock = Clock(1.0, now=Ticks())
        assert clock.ended
        clock.stop()
        assert not clock.ended

    def test_without_a_budget(self):
        assert not Clock(None).ended

    @pytest.mark.parametrize("amount", [0, 1])
    def test_a_plan_is_cut_short_within(self, amount):
        """Steps inside a plan do not count as such, but the time ends there, too."""
        limited = Limited(Silent(), Clock(3.0, now=Ticks()))
        inside = Within(limited)
        inside.step("a batch", amount)
        inside.step("a batch", amount)
        with pytest.raises(BudgetError, match="budget of 3 seconds"):
            inside.step("a batch", amount)
