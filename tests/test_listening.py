"""What follows a run: functions, objects, the log."""

import logging

import pytest

from onnxsemi._progress import Progress, Silent, warn
from onnxsemi._progress_callback import BETWEEN_CALLS, Event, listening


def told(progress):
    progress.start("rounding", 3)
    progress.step("one")
    progress.step("two")
    progress.step("three")
    progress.best(0.91, 0.95, "top-1")
    warn(progress, ["mean and std may be others"])


def test_a_function_is_told_of_phases_bests_and_warnings():
    events = []
    told(listening(events.append))
    assert BETWEEN_CALLS > 0.01  # so that the steps in between are left out
    assert [str(event) for event in events] == [
        "rounding: 0 of 3",
        "rounding: 3 of 3: three",
        "best: 91.00% smaller, top-1 95.00%",
        "warning: mean and std may be others",
    ]
    assert events[1] == Event("rounding", 3, 3, "three")


def test_print_is_a_progress(capsys):
    told(listening(print))
    assert capsys.readouterr().out.splitlines()[0] == "rounding: 0 of 3"


def test_the_log_has_a_line_a_phase_and_not_one_a_step(caplog):
    with caplog.at_level(logging.DEBUG, logger="onnxsemi"):
        told(listening(None))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "rounding"),
        ("INFO", "91.00% smaller, top-1 95.00%"),
        ("WARNING", "mean and std may be others"),
    ]


def test_nothing_is_printed_unless_asked_for(capfd):
    told(listening(None))
    assert capfd.readouterr() == ("", "")


def test_an_object_is_told_everything():
    class Mine(Silent):
        def __init__(self):
            self.steps = []

        def step(self, detail, amount=1):
            self.steps.append((detail, amount))

    mine = Mine()
    assert isinstance(mine, Progress)
    told(listening(mine))
    assert mine.steps == [("one", 1), ("two", 1), ("three", 1)]


@pytest.mark.parametrize("wrong", [True, "print", 3, Silent])
def test_anything_else_is_refused(wrong):
    with pytest.raises(TypeError, match="progress must be a function"):
        listening(wrong)
