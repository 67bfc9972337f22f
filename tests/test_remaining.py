"""What is left of a whole run, by a clock that the test winds."""

from onnxsemi._pipeline.remaining_time import PLANS, Remaining
from onnxsemi._progress_callback import Event

FRONTIER, LAYERS, *_ = PLANS
ALL = sum(PLANS.values())


class Run:
    """A run by the clock, and what was told of it last."""

    def __init__(self, budget=None):
        self.seconds, self.left = 0.0, None
        self.told = Remaining(self, budget, lambda: self.seconds)

    def start(self, phase, total):
        pass

    def step(self, detail, amount=1):
        pass

    def best(self, compression, share, measured):
        pass

    def expect(self, seconds):
        self.left = seconds

    def plan(self, seconds):
        self.seconds += seconds
        self.told.step("a plan", 0)  # what is rounded within it
        self.told.step("a plan")


def test_nothing_is_told_before_a_pass_is_timed():
    run = Run()
    run.told.start("rounding", 3)
    run.told.step("layer")
    assert run.left is None


def test_first_as_many_passes_as_runs_take():
    run = Run()
    run.seconds = 5
    run.told.forecast((70, 130), 2.0)
    assert run.left == 200 - 5
    run.seconds = 60
    run.told.start("rounding", 3)
    assert run.left == 200 - 60


def test_then_as_many_plans_as_runs_measure():
    run = Run()
    run.told.forecast((70, 130), 2.0)
    run.seconds = 30
    run.told.step("a backward pass")
    run.told.start(FRONTIER, 3)
    run.plan(10)
    assert run.left == (ALL - 1) * 10
    run.plan(10)
    run.told.start(LAYERS, 12)  # without the third: what is left is counted from here
    assert run.left == (ALL - 3) * 10
    for _ in range(12):  # more than is usual
        run.plan(10)
    assert run.left == (ALL - 3 - PLANS[LAYERS]) * 10


def test_plans_that_a_resumed_run_recalls_say_nothing_of_time():
    run = Run()
    run.told.forecast((70, 130), 2.0)
    run.told.start(FRONTIER, 3)
    run.plan(0.001)
    assert run.left > 199
    run.plan(20)
    assert run.left == (ALL - 2) * 20


def test_no_more_than_the_time_budget():
    run = Run(budget=50)
    run.told.forecast((70, 130), 2.0)
    run.seconds = 20
    run.told.start("rounding", 1)
    assert run.left == 30


def test_a_function_is_told_too():
    events = []
    told = Remaining(events.append, now=lambda: 0.0)
    told.forecast((70, 130), 2.0)
    told.start("rounding", 3)
    assert events == [Event("rounding", 0, 3, left=200.0)]
