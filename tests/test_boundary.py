"""Where the last plan that changes few enough answers is expected, from what was seen of some."""

import math

import numpy as np
import pytest
from fake_search import Fake

from onnxsemi._search.boundary import TYPICAL, Boundary, Seen
from onnxsemi._search.frontier_course import Course


@pytest.fixture(scope="module")
def course():
    fake = Fake(1)
    return Course(fake.start, tuple(fake.free), fake.kl_increase)


def boundary_of(course, power, allowed, places, noise=0.0):
    """Plans of some places, seen with the room that a power of their KL leaves."""
    generator, found = np.random.default_rng(0), Boundary(course)
    for place in places:
        plan = course.plan(place)
        room = (allowed / course.prediction.of(plan)) ** power
        room *= math.exp(noise * generator.normal())
        found.seen.append(Seen(plan, min(max(room, 0.1), 3.0)))
    return found


@pytest.mark.parametrize("power", [0.4, 0.5, 0.6, 1.0])
def test_the_power_is_found(course, power):
    allowed = course.prediction.of(course.plan(100))
    found = boundary_of(course, power, allowed, (95, 98, 104))
    assert abs(found.place - 100) <= 1


def test_one_plan_is_enough_for_the_usual_power(course):
    allowed = course.prediction.of(course.plan(100))
    assert abs(boundary_of(course, 0.5, allowed, (97,)).place - 100) <= 1


def test_many_plans_make_up_for_noise(course):
    allowed = course.prediction.of(course.plan(100))
    found = boundary_of(course, 0.5, allowed, range(90, 112), noise=0.2)
    assert abs(found.place - 100) <= 2


def test_what_is_far_away_counts_for_less(course):
    allowed = course.prediction.of(course.plan(100))
    found = boundary_of(course, 0.5, allowed, (99, 101))
    alone = found.kl
    found.seen.append(Seen(course.plan(60), 0.1))  # as if next to nothing might change there
    assert abs(math.log(found.kl / alone)) < 1


def test_before_anything_is_seen(course):
    assert Boundary(course).kl == TYPICAL
