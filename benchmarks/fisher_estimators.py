"""Estimates of the KL of channels from several sets of gradients, in one pass.

    KL[c, b] ~ 1/2 mean_n sum_s (f_s[n] . u[n, c, b])^2        E[sum_s f_s f_s^T] = F

The effects u of every gradient come from the package's own graph
(:mod:`onnxsemi._sensitivity.probe`); the sets differ in what they take for the factors f_s of the
Fisher matrix F.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array
from onnxsemi._evaluation.workload import Workload
from onnxsemi._runtime.sessions import Session
from onnxsemi._sensitivity.fast import FOLDS
from onnxsemi._sensitivity.probe import (
    COTANGENTS,
    ForwardGraph,
    Probe,
    ProbeRequest,
    build_probe,
)
from onnxsemi._stats.cotangents import FACTORS, draw_cotangents
from onnxsemi._stats.metrics import log_softmax

LABEL, SIGNS, SIGNED = "one drawn label", "random signs", "7 exact, 1 signed"
ESTIMATORS = (LABEL, SIGNS, SIGNED)
DRAWS = 4
RUN_IMAGES = 4


@dataclass(frozen=True, eq=False)
class Estimates:
    """Of the channels of a layer.

    Attributes:
        sums: float64[E, DRAWS, F, O, B], sum of the KL over the images of a fold, nats.
        squares: float64[O, B], sum of the squares of an image's KL by the last estimator.
        images: int64[F], images of each fold.
    """

    sums: Float64Array
    squares: Float64Array
    images: Float64Array

    def folds(self, kind: str) -> Float64Array:
        """The first draw on each fold: float64[F, O, B], nats per sample."""
        found: Float64Array = self.sums[ESTIMATORS.index(kind), 0] / self.images[:, None, None]
        return found

    def relative_errors(self, kind: str) -> Float64Array:
        """Standard deviation over draws, over the mean of all: float64[O, B]."""
        draws = self._means[ESTIMATORS.index(kind)]
        errors: Float64Array = draws.std(axis=0, ddof=1) / self._mean
        return errors

    def sampling_errors(self) -> Float64Array:
        """Standard error of the mean over images, likewise: float64[O, B]."""
        count = self.images.sum()
        mean = self._means[-1, 0]
        variance = np.maximum(self.squares / count - mean**2, 0)
        errors: Float64Array = np.sqrt(variance / (count - 1)) / self._mean
        return errors

    @property
    def _means(self) -> Float64Array:
        """Of every draw: float64[E, DRAWS, O, B], nats per sample."""
        means: Float64Array = self.sums.sum(axis=2) / self.images.sum()
        return means

    @property
    def _mean(self) -> Float64Array:
        """Of the two with little variance, which are right on average: float64[O, B]."""
        mean: Float64Array = self._means[1:].mean(axis=(0, 1))
        return np.maximum(mean, np.finfo(np.float64).tiny)


def estimates(workload: Workload, bits: tuple[int, ...]) -> Mapping[str, Estimates]:
    """Estimates for every layer, on all images of ``workload``."""
    classifier, logits = workload.classifier, workload.forward(workload.classifier.proto)
    cotangents = _cotangents(logits, workload)
    names = tuple(layer.name for layer in classifier.layers)
    request = ProbeRequest(
        layers=names,
        bits=bits,
        rounding=workload.rounding,
        cotangents=cotangents.shape[1],
    )
    forward = ForwardGraph.of(classifier, workload.images.batch(0, 1).shape[1:])
    probe = build_probe(classifier, forward, request)
    session, count = Session(probe.model), len(workload.images)
    folds = np.bincount(np.arange(count) % FOLDS, minlength=FOLDS).astype(np.float64)
    sums = {
        layer.name: Estimates(
            np.zeros((len(ESTIMATORS), DRAWS, FOLDS, layer.channels, len(bits))),
            np.zeros((layer.channels, len(bits))),
            folds,
        )
        for layer in classifier.layers
    }

    def run(start: int) -> dict[str, Float32Array]:
        rows = slice(start, min(start + RUN_IMAGES, count))
        given = cotangents[rows].reshape(-1, *probe.cotangent_row)
        return session.run(
            {
                classifier.ends.image.name: workload.images.batch(rows.start, rows.stop),
                COTANGENTS: given,
            }
        )

    with ThreadPoolExecutor(workload.threads) as pool:
        starts = range(0, count, RUN_IMAGES)
        for wave in np.array_split(starts, -(-len(starts) // (2 * workload.threads))):
            for start, effects in zip(wave, pool.map(run, wave.tolist()), strict=True):
                _add(sums, probe, effects, int(start))
    return sums


def _add(
    sums: Mapping[str, Estimates], probe: Probe, effects: Mapping[str, Float32Array], start: int
) -> None:
    """Add the effects of some images, each float32[N, O, B, S]."""
    for layer, name in probe.effects.items():
        for image, own in enumerate(effects[name].astype(np.float64) ** 2 / 2, start):
            drawn, exact, signed = np.split(own, [2 * DRAWS, 2 * DRAWS + FACTORS - 1], axis=2)
            found = np.concatenate([drawn, exact.sum(axis=2, keepdims=True) + signed], axis=2)
            turned = found.transpose(2, 0, 1).reshape(len(ESTIMATORS), DRAWS, *own.shape[:2])
            sums[layer].sums[:, :, image % FOLDS] += turned
            sums[layer].squares[:] += turned[-1, 0] ** 2


def _cotangents(logits: Float32Array, workload: Workload) -> Float32Array:
    """All sets of gradients: float32[N, 2 DRAWS + FACTORS - 1 + DRAWS, K]."""
    p, generator = np.exp(log_softmax(logits)), np.random.default_rng(0)
    labels = [_label_gradient(p, generator) for _ in range(DRAWS)]
    signs = [_signed_gradient(p, generator) for _ in range(DRAWS)]
    mixed = [draw_cotangents(logits, workload.labels, generator)[:, 1:] for _ in range(DRAWS)]
    exact, signed = mixed[0][:, :-1], [factors[:, -1] for factors in mixed]
    one = np.stack([*labels, *signs], axis=1)
    return np.concatenate([one, exact, np.stack(signed, axis=1)], axis=1).astype(np.float32)


def _label_gradient(p: Float64Array, generator: np.random.Generator) -> Float64Array:
    """Of one drawn label y, p - e_y: float64[N, K]."""
    ends = np.cumsum(p, axis=1)
    labels = (generator.random((len(p), 1)) * ends[:, -1:] > ends).sum(axis=1)
    gradient = p.copy()
    gradient[np.arange(len(p)), labels] -= 1
    return gradient


def _signed_gradient(p: Float64Array, generator: np.random.Generator) -> Float64Array:
    """Of random signs e, sqrt(p) e - p sum(sqrt(p) e): float64[N, K]."""
    signed = np.sqrt(p) * generator.choice((-1.0, 1.0), size=p.shape)
    spread: Float64Array = signed - p * signed.sum(axis=1, keepdims=True)
    return spread
