"""The frontier under way: its plans by size, drawn anew where measurements contradict it.

A *place* is a size: 0 is the widest plan, ``PLACES`` the narrowest, equally far apart in bits of
the target weights, whatever KL increases the frontier is drawn from.

Every plan that was measured is held against its prediction. Where the two part by more than
``PARTED``, the KL increase of the layers is corrected (:mod:`onnxsemi._search.correction`), the
frontier is drawn anew, and what was found is reported.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.correction import Correction, Measured, Prediction, correction
from onnxsemi._search.frontier import Frontier, frontier, merged_groups, one_bitwidth
from onnxsemi._search.protocols import DeltaLossTable

PLACES = 128
PARTED = 1.5
_NAMED_LAYERS = 3


@dataclass
class Course:
    """The frontier as far as it is known.

    Attributes:
        start: All float32, but for pinned layers.
        free: Names of the layers whose bitwidths are searched, in graph order.
        estimated: KL of every free channel quantized alone, nats per sample.
        pinned_kl: Measured KL of the start, which is in that of every plan.
        per_layer: Whether plans have one bitwidth for all channels of a layer.
        prediction: What plans are predicted to cost, corrected by those that were measured.
        factor: KL of plans as they are measured over that of a quick look.
        redrawn: What was told when the frontier was drawn anew.
    """

    start: BitPlan
    free: Sequence[str]
    estimated: DeltaLossTable
    pinned_kl: float = 0.0
    per_layer: bool = False
    prediction: Prediction = field(init=False)
    factor: float = field(default=1.0, init=False)
    redrawn: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.per_layer:
            self.estimated = even(self.estimated)
        self._measured: list[Measured] = []
        self._corrected = False  # not before the uniform plans are measured
        self._draw(Prediction(self.estimated))

    def __len__(self) -> int:
        """Number of places."""
        return len(self._stops)

    @property
    def last(self) -> int:
        """The narrowest place."""
        return len(self) - 1

    def plan(self, place: int) -> BitPlan:
        """The plan of a place."""
        if place not in self._plans:
            tidy = one_bitwidth if self.per_layer else merged_groups
            self._plans[place] = tidy(self._path.plan(self._stops[place]), self.free)
        return self._plans[place]

    @property
    def plans(self) -> tuple[BitPlan, ...]:
        """The plan of every place, the widest first: as they would be measured."""
        return tuple(self.plan(place) for place in range(len(self)))

    def uniform(self, bits: int) -> BitPlan:
        """One bitwidth for every free channel."""
        return self.start.with_layers(self.free, bits)

    def place_of(self, plan: BitPlan) -> int:
        """The first place whose plan is at least as small as another; the last if none is."""
        places = range(len(self))
        found = bisect_left(
            places, -plan.weight_bits, key=lambda place: -self.plan(place).weight_bits
        )
        return min(found, self.last)

    def at_most(self, plan: BitPlan) -> BitPlan:
        """The plan of that place."""
        return self.plan(self.place_of(plan))

    def observe(self, plan: BitPlan, kl: float) -> None:
        """Take note of what a plan was found to cost; draw the frontier anew if that contradicts.

        Uniform plans, which begin the search, are taken note of first; :meth:`correct` follows.
        """
        kl = max(kl - self.pinned_kl, 0.0)
        expected = self.prediction.of(plan)
        self._measured.append(Measured(plan, kl / self.factor))
        if self._corrected and kl and expected and _parted(kl, expected):
            self._redraw(f"{expected:.2g} nats were predicted of a plan, {kl:.2g} were measured")

    def calibrate(self, plan: BitPlan, kl: float) -> None:
        """From here on plans are measured that were only looked at so far, the first of them this.

        It is rounded on more images than for a look: that is a factor on every prediction, and says
        nothing of the layers.
        """
        kl, expected = max(kl - self.pinned_kl, 0.0), self.prediction.of(plan)
        if kl and expected:
            self.factor = kl / expected
            self.prediction = replace(self.prediction, scale=self.prediction.scale * self.factor)

    def last_within(self, kl: float) -> int:
        """The last place that is predicted to cost no more, nats per sample; -1 if none is."""
        places = range(len(self))
        return bisect_right(places, kl, key=lambda place: self.prediction.of(self.plan(place))) - 1

    def correct(self) -> None:
        """Correct the KL increases by what was measured so far."""
        found = correction(self.estimated, self._measured)
        self._corrected = True
        if any(_parted(factor, 1.0) for factor in found.layers.values()):
            self._redraw("predictions of the uniform plans and what was measured part")
        else:
            self._draw(found.applied(self.estimated))

    def _redraw(self, why: str) -> None:
        found = correction(self.estimated, self._measured)
        self._draw(found.applied(self.estimated))
        self.redrawn.append(f"{why}: {_named(found)}; the frontier was drawn anew")

    def _draw(self, prediction: Prediction) -> None:
        self.prediction = replace(prediction, scale=prediction.scale * self.factor)
        self._path: Frontier = frontier(self.start, prediction.kl_increase, self.free)
        self._stops = self._path.points_between(PLACES)
        self._plans: dict[int, BitPlan] = {}


def even(kl_increase: DeltaLossTable) -> DeltaLossTable:
    """Every channel of a layer with the mean of them all: layer-wise bitwidths."""
    nats = {
        layer: np.repeat(values.mean(axis=0, keepdims=True), len(values), axis=0)
        for layer, values in kl_increase.nats.items()
    }
    return replace(kl_increase, nats=nats)


def _parted(one: float, other: float) -> bool:
    return abs(math.log(one / other)) > math.log(PARTED)


def _named(found: Correction) -> str:
    """The layers whose KL increase was corrected most."""
    layers = sorted(found.layers.items(), key=lambda item: -abs(math.log(item[1])))
    named = [
        f"{name} counts {factor:.2g} times as much"
        for name, factor in layers[:_NAMED_LAYERS]
        if _parted(factor, 1.0)
    ]
    return ", ".join(named) or f"all plans cost {found.scale:.2g} times as much"
