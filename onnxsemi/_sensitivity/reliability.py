"""How far the KL of single channels is to be trusted, and what to take in its place.

A channel's KL is a mean over images, of which a few decide. Whoever takes the channels with the
least of many such estimates takes those that these images happen not to need: the rows of classes
that they do not show, channels that were low by luck. What does not depend on single images is the
rounding error of a channel's weights, e[c, b] = |W@b - W|^2, and the sensitivity of its layer:

    base[c, b] = e[c, b] * sum_c h[c, b] / sum_c e[c, b]

h is drawn to it as far as folds of the images contradict each other about the channels of a layer:

    h'[c, b] = base + w (h - base),    w = 1 - noise / spread, at least 0
    spread   = sum_{c, b} (h - base)^2 / base^2
    noise    = the same of h's standard error, from the folds

w is the share of what channels differ by that other images will show, too (James & Stein's
shrinkage, with a variance found from folds). A channel that none of N images activates is not free
either: as many as 3 in N others may (at 95 %, the rule of three), so that h' is at least 3 / N of
base.
"""

from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float64Array

_RULE_OF_THREE = 3.0


@dataclass(frozen=True, eq=False)
class Dependable:
    """The KL of a layer's channels, as far as it holds for other images.

    Attributes:
        nats: float64[O, B], h'.
        weight: w, 0 to 1.
    """

    nats: Float64Array
    weight: float


def dependable(folds: Float64Array, errors: Float64Array, images: int) -> Dependable:
    """Draw the KL of the channels of a layer towards what their rounding errors say.

    Args:
        folds: float64[F, O, B], KL of every channel quantized alone on each fold of the images,
            nats per sample.
        errors: float64[O, B], squared change of its weights.
        images: How many there are in all, N.
    """
    mean = folds.mean(axis=0)
    bases = errors * _share(folds, errors)  # [F, O, B]
    base = bases.mean(axis=0)
    weight = _weight(folds - bases, mean - base, base)
    least = min(1.0, _RULE_OF_THREE / images) * base
    return Dependable(np.maximum(base + weight * (mean - base), least), weight)


def _share(folds: Float64Array, errors: Float64Array) -> Float64Array:
    """KL of the layer for each unit of rounding error: float64[F, 1, B]."""
    total = errors.sum(axis=0)
    shares: Float64Array = folds.sum(axis=1) / np.where(total > 0, total, 1.0)
    return shares[:, None]


def _weight(folds: Float64Array, off: Float64Array, base: Float64Array) -> float:
    """Share of the differences between channels that holds for other images.

    Args:
        folds: float64[F, O, B], how far h is from base on each fold.
        off: float64[O, B], how far it is on all images.
        base: float64[O, B].
    """
    count, there = len(folds), base > 0
    if count < 2 or not there.any():
        return 0.0
    squares = ((folds - folds.mean(axis=0)) ** 2).sum(axis=0)
    errors = squares / (count - 1) / count
    scale = np.where(there, base, np.inf) ** 2
    spread = float((off**2 / scale).sum())
    noise = float((errors / scale).sum())
    return max(0.0, 1 - noise / spread) if spread > 0 else 0.0
