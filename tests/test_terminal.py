"""The progress display: what it says of time, and that no line is wider than the terminal."""

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from onnxsemi._cli.terminal import LineProgress, LiveProgress, OnlyWarnings
from onnxsemi._progress import Silent, Within, warn


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self):
        return self.seconds


def live(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    clock = Clock()
    return console, clock, LiveProgress(console, clock)


def lines(console, progress):
    with console.capture() as captured:
        console.print(progress)
    return captured.get().splitlines()


@pytest.mark.parametrize("kind", [LiveProgress, LineProgress, OnlyWarnings])
def test_a_warning_is_one_line_whatever_the_width(kind):
    console = Console(file=io.StringIO(), width=40)
    warn(kind(console), ["a [bold]long[/bold]\nwarning of " + "many words " * 10])
    text = console.file.getvalue()
    assert text.count("\n") == 1
    assert text.startswith("warning: a [bold]long[/bold] warning of many words")


def test_a_progress_without_warnings_is_told_none():
    warn(Silent(), ["nobody hears this"])


class TestLive:
    @pytest.mark.parametrize("width", [40, 60, 80, 200])
    def test_two_lines_that_fit(self, width):
        console, clock, progress = live(width)
        progress.best(0.9403, 0.941, "agreement")
        for phase in ("Δloss and KL, backward passes", "accuracy-increasing phase, 8 bits"):
            progress.start(phase, 128)
            clock.seconds += 5000
            progress.step("a layer with a name that is longer than most terminals are " * 3)
            shown = lines(console, progress)
            assert len(shown) == 2
            assert all(len(line.rstrip()) <= width - 3 for line in shown)

    def test_time_left_follows_the_steps_that_are_done(self):
        console, clock, progress = live(80)
        progress.start("rounding", 4)
        assert "left" not in lines(console, progress)[0]
        clock.seconds = 10
        progress.step("one")
        assert "25%    0:10     0:30 left" in lines(console, progress)[0]
        clock.seconds = 14  # within the second step
        assert "0:14     0:26 left" in lines(console, progress)[0]
        clock.seconds = 40  # which takes longer than the first: 20 seconds each so far
        assert "0:40     0:40 left" in lines(console, progress)[0]

    def test_what_is_left_of_the_whole_run_goes_before_what_is_left_of_a_phase(self):
        console, clock, progress = live(80)
        progress.expect(3700)
        progress.start("rounding", 4)
        clock.seconds = 10
        progress.step("one")
        assert "25%    0:10 ~1:01:30 left" in lines(console, progress)[0]
        clock.seconds = 5000  # longer than was expected: nothing is known
        assert "left" not in lines(console, progress)[0]

    def test_steps_that_a_resumed_run_recalls_say_nothing_of_time(self):
        console, clock, progress = live(80)
        progress.start("frontier phase, frontier", 8)
        for _ in range(5):
            clock.seconds += 0.01
            progress.step("recalled")
        assert "left" not in lines(console, progress)[0]
        clock.seconds = 10.05
        progress.step("measured")
        assert "0:10     0:20 left" in lines(console, progress)[0]

    def test_no_time_left_where_there_is_nothing_to_count(self):
        console, clock, progress = live(80)
        progress.start("writing and verifying", 1)
        clock.seconds = 3
        first = lines(console, progress)[0]
        assert first.split()[-1] == "0:03"
        assert "%" not in first

    def test_a_phase_inside_a_trial_is_its_detail(self):
        console, _, progress = live(80)
        progress.start("frontier phase, frontier", 8)
        progress.step("91% smaller: nothing speaks against it")
        progress.best(0.91, 0.95, "top-1")
        inside = Within(progress)
        inside.start("rounding", 22)
        inside.step("layer", 3)
        bar, below = lines(console, progress)
        assert "frontier phase, frontier" in bar
        assert " 12% " in bar
        assert below.strip() == "best 91.00% smaller, top-1 95.00%; trial 2: rounding 3 of 22"


class TestLines:
    def test_a_line_a_phase_and_one_a_minute(self):
        file, clock = io.StringIO(), Clock()
        progress = LineProgress(Console(file=file, width=20), clock)
        progress.start("rounding [of] all layers", 1000)
        for _ in range(900):
            clock.seconds += 1
            progress.step("layer")
        progress.best(0.9, 0.95, "top-1")
        progress.start("a moment", 8)
        progress.step("")
        progress.start("frontier phase, frontier", 8)
        clock.seconds += 1
        progress.step("", 0)
        said = file.getvalue().splitlines()
        assert len(said) == 1 + (900 - 1) // 60 + 1
        assert said[0] == "rounding [of] all layers"
        assert said[1] == "rounding [of] all layers: 61 of 1,000, 1:01, 15:39 left"
        assert said[-1] == "frontier phase, frontier; best so far 90.00% smaller, top-1 95.00%"
        assert "\x1b" not in file.getvalue()

    def test_what_is_left_of_the_whole_run(self):
        file, clock = io.StringIO(), Clock()
        progress = LineProgress(Console(file=file), clock)
        progress.start("rounding", 9)
        progress.expect(600)
        for _ in range(2):
            clock.seconds += 61
            progress.step("layer")
        assert file.getvalue().splitlines()[-1] == "rounding: 2 of 9, 2:02, ~7:58 left"
