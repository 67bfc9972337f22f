"""Predictions corrected by what was measured: how far each layer's KL increase was off.

The KL of a plan is predicted as the sum over layers of the KL increases of their channels,
h[l, p]. The KL m[p] of a plan that was measured says how far that is right as a whole, the KL of
several plans in which layers it is not:

    log m[p] = a + exp(s) log sum_l exp(t[l]) h[l, p] + noise

a and s are what all plans share: they are rounded layer after layer, which makes up for a part, and
for more of it where there is more. t[l] is what layer l was misjudged by. All are taken to be near
0 as long as nothing speaks against it: of those that explain the plans the ones with the least

    sum_p (residual[p] / NOISE)^2 + (a / OVERALL)^2 + (s / POWER)^2 + sum_l (t[l] / LAYER)^2

A single factor of 30 in one layer costs less there than a factor of 3 in each of ten, so that a
layer that was misjudged is found from few plans. The least is looked for by Gauss-Newton steps:
from 0, and from where one layer alone explains the plan that was misjudged most, as at 0 the KL
increase of such a layer is next to nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float64Array
from onnxsemi._plan.bits import BitPlan
from onnxsemi._search.frontier import layer_kl_increase, predicted
from onnxsemi._search.protocols import DeltaLossTable

NOISE = 0.15
OVERALL = 1.0
POWER = 0.2
LAYER = math.log(2)
MOST_NATS = 1.0
"""Plans of a larger KL say nothing: the softmax is far off, and KL increases do not add up."""

_STEPS = 50
_STARTS = 8
_ENOUGH = 1e-9


@dataclass(frozen=True)
class Measured:
    """A plan and what it was found to cost.

    Attributes:
        plan: Bits of every target channel.
        kl: Mean KL against the float model, nats per sample.
    """

    plan: BitPlan
    kl: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """What plans are predicted to cost.

    Attributes:
        kl_increase: KL of every channel quantized alone, each layer corrected, nats per sample.
        scale: Factor that all plans share.
        power: Power of the sum of a plan's KL increases that its KL follows.
    """

    kl_increase: DeltaLossTable
    scale: float = 1.0
    power: float = 1.0

    def of(self, plan: BitPlan) -> float:
        """KL of a plan, nats per sample."""
        return float(self.scale * predicted(plan, self.kl_increase) ** self.power)


@dataclass(frozen=True)
class Correction:
    """How predictions are to be corrected.

    Attributes:
        scale: Factor that all plans share.
        power: Power that they share.
        layers: Layer -> factor on its KL increase.
    """

    scale: float
    power: float
    layers: Mapping[str, float]

    def applied(self, kl_increase: DeltaLossTable) -> Prediction:
        """Corrected predictions."""
        nats = {
            layer: values * self.layers.get(layer, 1.0)
            for layer, values in kl_increase.nats.items()
        }
        return Prediction(replace(kl_increase, nats=nats), self.scale, self.power)


def correction(kl_increase: DeltaLossTable, measured: Sequence[Measured]) -> Correction:
    """What brings predictions and measurements together.

    Args:
        kl_increase: KL of every channel quantized alone, nats per sample.
        measured: Plans that were measured; those of more than ``MOST_NATS`` are left out.
    """
    names = list(kl_increase.nats)
    used = [
        item for item in measured if 0 < item.kl <= MOST_NATS and predicted(item.plan, kl_increase)
    ]
    if not used:
        return Correction(1.0, 1.0, dict.fromkeys(names, 1.0))
    sums = np.array([list(layer_kl_increase(item.plan, kl_increase).values()) for item in used])
    logs = _fitted(sums, np.log([item.kl for item in used]))
    scale, power, *factors = np.exp(logs).tolist()
    return Correction(scale, power, dict(zip(names, factors, strict=True)))


def _fitted(sums: Float64Array, wanted: Float64Array) -> Float64Array:
    """The numbers a, s and t: float64[2 + L].

    Args:
        sums: float64[P, L], predicted KL increase of each layer in each plan.
        wanted: float64[P], logarithms of the measured KL.
    """
    variance = np.array([OVERALL**2, POWER**2, *[LAYER**2] * sums.shape[1]])
    starts = [np.zeros(len(variance)), *_single_layers(sums, wanted)]
    starts.sort(key=lambda logs: _cost(sums, wanted, logs, variance))
    ends = [_descended(sums, wanted, logs, variance) for logs in starts[:_STARTS]]
    return min(ends, key=lambda logs: _cost(sums, wanted, logs, variance))


def _single_layers(sums: Float64Array, wanted: Float64Array) -> Iterator[Float64Array]:
    """For each layer what it would have to be, were it alone to explain the worst plan."""
    worst = int(np.argmax(wanted - np.log(sums.sum(axis=1))))
    whole, parts = float(np.exp(wanted[worst])), sums[worst]
    for layer, part in enumerate(parts):
        short = whole - float(parts.sum() - part)
        if part > 0 and short > 0:
            logs = np.zeros(2 + len(parts))
            logs[2 + layer] = math.log(short / part)
            yield logs


def _descended(
    sums: Float64Array, wanted: Float64Array, logs: Float64Array, variance: Float64Array
) -> Float64Array:
    """Gauss-Newton steps, halved until they lead down."""
    for _ in range(_STEPS):
        residual, shares = _residual(sums, wanted, logs)
        inner = (shares * variance) @ shares.T + NOISE**2 * np.eye(len(wanted))
        target = variance * (shares.T @ np.linalg.solve(inner, residual + shares @ logs))
        step, now = target - logs, _cost(sums, wanted, logs, variance)
        while _cost(sums, wanted, logs + step, variance) > now and np.abs(step).max() > _ENOUGH:
            step /= 2
        logs = logs + step
        if np.abs(step).max() <= _ENOUGH:
            break
    return logs


def _residual(
    sums: Float64Array, wanted: Float64Array, logs: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """What is not explained, float64[P], and the slopes of what is, float64[P, 2 + L]."""
    parts = sums * np.exp(logs[2:])
    total = parts.sum(axis=1)
    power, level = np.exp(logs[1]), np.log(total)
    slopes = [np.ones((len(sums), 1)), power * level[:, None], power * parts / total[:, None]]
    return wanted - logs[0] - power * level, np.concatenate(slopes, axis=1)


def _cost(
    sums: Float64Array, wanted: Float64Array, logs: Float64Array, variance: Float64Array
) -> float:
    residual, _ = _residual(sums, wanted, logs)
    return float((residual**2).sum() / NOISE**2 + (logs**2 / variance).sum())
