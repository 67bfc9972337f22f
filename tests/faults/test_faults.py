"""A sample of the faults that ``sweep.py`` injects: another one for every commit.

``$ONNXSEMI_COMMIT`` seeds it (the gate sets it), else the version.
"""

import os
import random
import sys

import pytest
from job import COMMANDS, OLD, OUTPUTS, again, begin, call
from sweep import CASES, KINDS, cases, starts, wrong

import onnxsemi

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, forks"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # of a fork
]
SAMPLE = 12
SEED = os.environ.get("ONNXSEMI_COMMIT", onnxsemi.__version__)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def every(room):
    return cases(starts(room))


def test_every_command_and_every_fault_is_among_them(every):
    assert {case.start.command for case in every} == set(CASES) == set(COMMANDS)
    assert {case.kind for case in every} == set(KINDS)
    assert len(every) > 1500


@pytest.mark.parametrize("number", range(SAMPLE))
def test_a_fault(every, room, number):
    case = random.Random(SEED).sample(every, SAMPLE)[number]
    assert wrong(case, room, {}) is None, case


def test_a_clock_that_jumps(tmp_path):
    """The wall clock decides nothing: forward and back again by years, between any two calls."""
    plain = begin(tmp_path / "plain")
    assert call(plain, "compress").code == 0
    jumping = begin(tmp_path / "jumping")
    assert call(jumping, "compress", clock=True).code == 0
    for name in OUTPUTS:
        assert (jumping / name).read_bytes() == (plain / name).read_bytes() != OLD
    copied = again(jumping, tmp_path / "copied")
    assert call(copied, "resume", clock=True).code == 0
    assert (copied / OUTPUTS[0]).read_bytes() == (plain / OUTPUTS[0]).read_bytes()
