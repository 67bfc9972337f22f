"""A search along the frontier of everything but a model: plans turn answers, by their KL."""

import numpy as np
from fake_evaluator import FakeChecker, FakeMeasures, plan_of, problem

from onnxsemi._search.frontier import frontier, merged_groups
from onnxsemi._search.frontier_course import PLACES
from onnxsemi._search.frontier_search import FrontierSearch, FrontierSettings
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._search.trajectory import Phase

CHANNELS = {"a": 8, "b": 6, "c": 10}
LADDER = (8, 6, 4, 3, 2, 1)
IMAGES = 4000
FRONTIER_PHASES = (Phase.UNIFORM, Phase.SCOUTING, Phase.FRONTIER)
NEAR = 2  # places that the search may stay away from the last that holds
SETTINGS = FrontierSettings(bits=LADDER)
PARAMS = 10_000  # so many weights that no group of channels is too small
SEEDS = range(8)
NATS = 10_000  # turned answers for each nat of KL


def tables(seed):
    """KL increases, turned answers in proportion to them, and Δloss of either sign.

    Turned are even numbers: an odd one out counts as broken where labels are not known.
    """
    rng = np.random.default_rng(seed)
    kl_increase, turned, loss = {}, {}, {}
    for layer, count in CHANNELS.items():
        rises = rng.exponential(size=(count, len(LADDER))) * 3.0 ** np.arange(-3, 3)
        kl_increase[layer] = np.cumsum(rises, axis=1)
        turned[layer] = 2 * np.minimum(np.rint(kl_increase[layer] / 2), IMAGES // 48)
        loss[layer] = rng.normal(size=rises.shape)
    return [DeltaLossTable(LADDER, nats, samples=1) for nats in (kl_increase, turned, loss)]


class Fake:
    """A search of everything but the images: half of them right before, or ``share``."""

    def __init__(self, seed, share=0.5, *, has_labels=True):
        self.kl_increase, turned, loss = tables(seed)
        before = np.random.default_rng(seed).random(IMAGES) < share
        truth = {layer: nats / NATS for layer, nats in self.kl_increase.nats.items()}
        self.checker = FakeChecker(turned, before, DeltaLossTable(LADDER, truth, samples=1))
        self.kl_increase = self.checker.truth
        self.delta_loss, self.has_labels = loss, has_labels
        self.start, self.free = plan_of(CHANNELS, PARAMS), list(CHANNELS)

    def walk(self, settings=SETTINGS, watch=None, scout=None):
        tables = {"delta_loss": self.delta_loss, "kl_increase": self.kl_increase}
        measures, asked = FakeMeasures(self.checker, scout), {"has_labels": self.has_labels}
        return FrontierSearch(settings).search(
            problem(self.start, self.free, measures, watch=watch, **tables, **asked)
        )

    def objection(self, plan, settings=SETTINGS, *, has_labels=True):
        after = self.checker.check(plan).right
        before, method = self.checker.before, FrontierSearch(settings)
        known, balanced = method.guard(has_labels=has_labels), method.guard(has_labels=False)
        return known.objection(before, after, None) or balanced.objection(before, after, None)


def points_between(fake):
    """The plans of all places."""
    path = frontier(fake.start, fake.kl_increase, fake.free)
    return [merged_groups(path.plan(stop), fake.free) for stop in path.points_between(PLACES)]
