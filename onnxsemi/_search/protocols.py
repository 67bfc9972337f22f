"""Between searching and measuring: plans in, accuracy and divergence out. Pure numpy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from onnxsemi._arrays import BoolArray, Float64Array, Int64Array, read_only
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.groups import taken
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._stats.metric import Values
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import PerImage


@dataclass(frozen=True)
class Score:
    """How a model does on a set of images.

    Attributes:
        correct: Images whose top-1 answer is the label; those not looked at count as before. With a
            metric the sum of its values.
        total: Images of the set.
        measured: Images that were looked at.
        loss: Mean cross-entropy, nats per sample; None if not all images were looked at.
    """

    correct: float | int
    total: int
    measured: int
    loss: float | None

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1; or the mean of a metric."""
        return self.correct / self.total

    @property
    def in_full(self) -> bool:
        """Whether every image was looked at."""
        return self.measured == self.total


@dataclass(frozen=True)
class Closeness:
    """How close a plan's outputs are to the float model's: what few images show of it, too.

    Attributes:
        kl: How large the mean KL(float model || plan) of the softmax may be, nats per sample: the
            upper end of its one-sided 95 % interval.
        changed: Images whose first answer is another one, whether it was right or not.
    """

    kl: float
    changed: int

    def scaled(self, factor: float) -> "Closeness":
        """The same if so many times as many answers had changed: the KL grows with the square."""
        return Closeness(self.kl * factor**2, round(self.changed * factor))


@dataclass(frozen=True, eq=False)
class Tested:
    """A plan's score, and what was seen of the images that were looked at.

    Attributes:
        score: The score. If the test was broken off, ``correct`` is the most that it could be.
        images: int64[M], indices of the images that were looked at.
        margins: float64[M], logit of the label minus the largest other.
        right: bool[M], whether the answer is the label.
        change: Root mean square change of margins against the plan that was current.
        kl: Mean KL(float model || plan) of the softmax outputs, nats per sample, over the images
            that nothing was fitted to; None if not all images were looked at.
        close: What plans on few images are judged by; None likewise.
        values: What a metric gives on the images; None without one.
    """

    score: Score
    images: Int64Array
    margins: Float64Array
    right: BoolArray
    change: float
    kl: float | None = None
    close: Closeness | None = None
    values: Values | None = None

    @property
    def judged(self) -> PerImage:
        """What the plan is judged by, image by image."""
        return self.right if self.values is None else self.values


@dataclass(frozen=True)
class Scouted:
    """What a quick look at a plan says of all images.

    Attributes:
        score: Right answers, as far as they can be told.
        paired: Float against the plan.
        close: How close its outputs are to the float model's.
        kl: Mean KL(float model || plan), nats per sample; at least that where it was broken off.
        whole: Whether it was not broken off.
    """

    score: Score
    paired: Paired
    close: Closeness
    kl: float
    whole: bool = True


class Scout(Protocol):
    """Looks at plans for a part of what measuring them takes."""

    def look(self, plan: BitPlan) -> Scouted:
        """What a plan is likely to do to all images."""


@runtime_checkable
class Foreseeing(Protocol):
    """A checker, a scout or a rounder that may begin with plans before they are asked for."""

    def foresee(self, plans: Sequence[BitPlan]) -> None:
        """One of these is likely to follow the plan that is asked for next."""


def foresee(measuring: Any, plans: Sequence[BitPlan]) -> None:
    """Tell which plans are likely to come to who can begin with them. Changes no result."""
    if isinstance(measuring, Foreseeing):
        measuring.foresee(plans)


class Checker(Protocol):
    """Measures plans on all calibration images."""

    def check(self, plan: BitPlan) -> Tested:
        """Measure a plan on all images."""


class Evaluator(Checker, Protocol):
    """Measures plans on the calibration images, and compares trials with one, the *current*."""

    def trial(self, plan: BitPlan, bar: float | None) -> Tested:
        """Measure a plan near the current one on the images whose answer may change.

        Args:
            plan: The plan.
            bar: Break off once it is sure that fewer images are right; None never breaks off.
        """

    def keep(self, plan: BitPlan, tested: Tested) -> None:
        """Make a plan that was checked, or tried against the current one, the current one."""

    def kl(self, semilayers: Sequence[Semilayer]) -> Float64Array:
        """KL of each semilayer quantized alone, everything else float32: float64[S], nats."""


class Recalling(Checker, Protocol):
    """A checker that remembers."""

    def known(self, plan: BitPlan) -> Tested | None:
        """What was measured of a plan; None if it never was on all images."""


class RecallingEvaluator(Recalling, Evaluator, Protocol):
    """An evaluator that remembers what it checked."""


@dataclass(frozen=True, eq=False)
class DeltaLossTable:
    """Δloss of every target channel at every bitwidth (paper, section 3.2).

    Attributes:
        bits: The bitwidths, widest first: the columns.
        nats: Layer name -> float64[O, len(bits)], nats per sample.
        samples: Images that Δloss is the mean over.
        rates: Layer name -> float64[O, len(bits)], bits that a weight of each channel takes, less
            from column to column; a layer that is missing takes those of the widths.
    """

    bits: tuple[int, ...]
    nats: Mapping[str, Float64Array]
    samples: int
    rates: Mapping[str, Float64Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for layer, values in self.nats.items():
            if values.ndim != 2 or values.shape[1] != len(self.bits):
                raise ValueError(f"layer {layer!r}: Δloss of shape {values.shape}")
        frozen = {layer: read_only(values) for layer, values in self.nats.items()}
        object.__setattr__(self, "nats", MappingProxyType(frozen))

    def column(self, layer: str, bits: int) -> Float64Array:
        """Δloss of each channel of ``layer`` at ``bits``: float64[O]."""
        return self.nats[layer][:, self.bits.index(bits)]

    def taken(self, layer: str, weights: int) -> Float64Array:
        """Bits that a weight takes, less its share of the scale that 0 bits do not need.

        Args:
            layer: Name.
            weights: Of each of its channels.

        Returns:
            float64[O, len(bits)].
        """
        each = [taken(bits, weights) for bits in self.bits]
        return np.where(self.bits, self.rates.get(layer, each), each) * np.ones_like(
            self.nats[layer]
        )

    def by_sign(self, layer: str, channels: Iterable[int], bits: int) -> list[Semilayer]:
        """The semilayers of some channels of a layer at one bitwidth, negative before positive."""
        indices = np.array(sorted(channels), np.int64)
        positive = self.column(layer, bits)[indices] > 0
        return [
            Semilayer(layer, sign, tuple(indices[chosen].tolist()), bits)
            for sign, chosen in ((Sign.NEGATIVE, ~positive), (Sign.POSITIVE, positive))
            if chosen.any()
        ]
