"""What a classifier's logits say is probable, and what follows: loss, divergence, answers, Fisher.

*Categorical*, of logits z float32[N, K]: one of K classes, p = softmax(z).
*Bernoulli*, of logits z float32[N, L]: each of L labels by itself, p = sigmoid(z),

    log p[n, l] = -log(1 + exp(-z[n, l]))            log(1 - p[n, l]) = -log(1 + exp(z[n, l]))
    loss[n]     = -sum_l (y log p + (1 - y) log(1 - p))[n, l]
    KL[n]       = sum_l (p (log p - log q) + (1 - p) (log(1 - p) - log(1 - q)))[n, l]

An answer is 1 where p is above one half; it is right if all of its labels are.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from onnxsemi._arrays import BoolArray, Float32Array, Float64Array, Int64Array
from onnxsemi._head import Head
from onnxsemi._stats.cotangents import draw_cotangents, label_cotangents
from onnxsemi._stats.metrics import cross_entropy, hits, kl_divergence
from onnxsemi._stats.risk import label_margins


class Likelihood(Protocol):
    """What is measured of logits; everything in nats, by image."""

    def loss(self, logits: Float32Array, labels: Int64Array) -> Float64Array:
        """Negative log-likelihood of labels: float64[N]."""

    def divergence(self, reference: Float32Array, logits: Float32Array) -> Float64Array:
        """KL(reference || logits): float64[N], finite and >= 0."""

    def answers(self, logits: Float32Array) -> Int64Array:
        """The answers, in the form of labels: int64[N], or int64[N, L] of 0 and 1."""

    def right(self, logits: Float32Array, labels: Int64Array) -> BoolArray:
        """Whether the answer is the label: bool[N]."""

    def same(self, reference: Float32Array, logits: Float32Array) -> BoolArray:
        """Whether both give the same answer: bool[N]."""

    def margins(self, logits: Float32Array, labels: Int64Array) -> Float64Array:
        """By how much a logit may change before a right answer is wrong: float64[N].

        Below 0 where it is wrong.
        """

    def cotangents(
        self, logits: Float32Array, labels: Int64Array, generator: np.random.Generator
    ) -> Float32Array:
        """Gradients at the logits (:mod:`onnxsemi._stats.cotangents`): float32[N, S, K]."""


class Categorical:
    """One of K classes."""

    def loss(self, logits: Float32Array, labels: Int64Array) -> Float64Array:
        """Cross-entropy: float64[N]."""
        return cross_entropy(logits, labels)

    def divergence(self, reference: Float32Array, logits: Float32Array) -> Float64Array:
        """KL of the softmax: float64[N]."""
        return kl_divergence(reference, logits)

    def answers(self, logits: Float32Array) -> Int64Array:
        """The first of the largest logits: int64[N]."""
        return np.asarray(logits.argmax(axis=1), np.int64)

    def right(self, logits: Float32Array, labels: Int64Array) -> BoolArray:
        """Whether the first answer is the label: bool[N]."""
        return hits(logits, labels)

    def same(self, reference: Float32Array, logits: Float32Array) -> BoolArray:
        """Whether the first answer is the same: bool[N]."""
        return hits(logits, self.answers(reference))

    def margins(self, logits: Float32Array, labels: Int64Array) -> Float64Array:
        """Logit of the label minus the largest other: float64[N]."""
        return label_margins(logits, labels)

    def cotangents(
        self, logits: Float32Array, labels: Int64Array, generator: np.random.Generator
    ) -> Float32Array:
        """Gradient of the cross-entropy, and factors of diag(p) - p p^T."""
        return draw_cotangents(logits, labels, generator)


class Bernoulli:
    """Each of L labels by itself."""

    def loss(self, logits: Float32Array, labels: Int64Array) -> Float64Array:
        """Binary cross-entropy, summed over the labels: float64[N]."""
        wrong = np.where(labels > 0, -1.0, 1.0) * logits.astype(np.float64)
        return np.asarray(np.logaddexp(0.0, wrong).sum(axis=-1))

    def divergence(self, reference: Float32Array, logits: Float32Array) -> Float64Array:
        """KL of each label, summed: float64[N].

        Raises:
            ValueError: If the shapes differ or N == 0.
        """
        if reference.shape != logits.shape or len(reference) == 0:
            raise ValueError(f"logits of shape {reference.shape} and {logits.shape}")
        found = np.zeros(reference.shape[:-1])
        for sign in (1.0, -1.0):  # a label that is there, and one that is not
            log_p, log_q = (
                -np.logaddexp(0.0, -sign * z.astype(float)) for z in (reference, logits)
            )
            found += (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
        return np.maximum(found, 0.0)  # rounding can leave -1e-17

    def answers(self, logits: Float32Array) -> Int64Array:
        """1 where a label's p is above one half, else 0: int64[N, L]."""
        return np.asarray(logits > 0, np.int64)

    def right(self, logits: Float32Array, labels: Int64Array) -> BoolArray:
        """Whether all labels are right: bool[N]."""
        return np.asarray((self.answers(logits) == labels).all(axis=-1))

    def same(self, reference: Float32Array, logits: Float32Array) -> BoolArray:
        """Whether all labels are the same: bool[N]."""
        return self.right(logits, self.answers(reference))

    def margins(self, logits: Float32Array, labels: Int64Array) -> Float64Array:
        """The least distance of a label's logit from 0, on its own side: float64[N]."""
        signed = np.where(labels > 0, 1.0, -1.0) * logits.astype(np.float64)
        return np.asarray(signed.min(axis=-1))

    def cotangents(
        self, logits: Float32Array, labels: Int64Array, generator: np.random.Generator
    ) -> Float32Array:
        """Gradient of the loss, and factors of diag(p (1 - p))."""
        return label_cotangents(logits, labels, generator)


CATEGORICAL = Categorical()
LIKELIHOODS: Mapping[Head, Likelihood] = {
    Head.SOFTMAX: CATEGORICAL,
    Head.ONE_SIGMOID: CATEGORICAL,
    Head.SIGMOIDS: Bernoulli(),
}
