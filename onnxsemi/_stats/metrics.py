"""Cross-entropy, Kullback-Leibler divergence and hits, per sample, in float64.

    log p[n, k] = z[n, k] - max_k z - log sum_k exp(z[n, k] - max_k z)        (z: logits)
    loss[n]     = -log p[n, y[n]]
    KL[n]       = sum_k p[n, k] * (log p[n, k] - log q[n, k])

The divergence is computed from log-softmax: a probability that underflows adds 0, never NaN.
"""

import math

import numpy as np

from onnxsemi._arrays import BoolArray, Float32Array, Float64Array, Int64Array

_Z95_ONE_SIDED = 1.6448536269514722


def log_softmax(logits: Float32Array) -> Float64Array:
    """float64[..., K] natural logarithms of the softmax over the last axis."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    result: Float64Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def cross_entropy(logits: Float32Array, labels: Int64Array) -> Float64Array:
    """Loss of each sample in nats: float64[N].

    Args:
        logits: float32[N, K].
        labels: int64[N], 0 to K - 1.
    """
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def kl_divergence(reference: Float32Array, quantized: Float32Array) -> Float64Array:
    """KL(reference || quantized) of the softmax outputs in nats: float64[N], finite and >= 0.

    Args:
        reference: float32[N, K], logits of the float model.
        quantized: float32[N, K], logits of the quantized model, same samples, same order.

    Raises:
        ValueError: If the shapes differ or N == 0.

    Source: Matsumoto et al., ACML 2023, section 3.3.
    """
    if reference.shape != quantized.shape or len(reference) == 0:
        raise ValueError(f"logits of shape {reference.shape} and {quantized.shape}")
    log_p, log_q = log_softmax(reference), log_softmax(quantized)
    divergence: Float64Array = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return np.maximum(divergence, 0.0)  # rounding can leave -1e-17


def upper_mean(values: Float64Array) -> float:
    """The upper end of the one-sided 95 % interval of a mean; of one value the value.

    Args:
        values: float64[N], of a sample; the mean is taken to be normal around the true one.
    """
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()) + _Z95_ONE_SIDED * error


def hits(logits: Float32Array, labels: Int64Array, among: int = 1) -> BoolArray:
    """Whether the label's logit is among the largest: bool[N]; the first of equal logits counts.

    Args:
        logits: float32[N, K].
        labels: int64[N], 0 to K - 1.
        among: How many of the largest logits.
    """
    if among == 1:
        first: BoolArray = logits.argmax(axis=-1) == labels
        return first
    own = np.take_along_axis(logits, labels[:, None], axis=-1)  # [N, 1]
    earlier = np.arange(logits.shape[-1]) < labels[:, None]  # [N, K]
    ahead = (logits > own) | (earlier & (logits == own))
    result: BoolArray = ahead.sum(axis=-1) < among
    return result
