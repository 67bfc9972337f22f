"""The gradients of the loss at the logits that a backward pass begins with.

For logits z, p = softmax(z) and label y the gradient of the cross-entropy is p - e_y. Its
covariance over labels drawn from p, the Fisher matrix at the logits (and the Hessian of both
cross-entropy and KL there), is

    F = diag(p) - p p^T = sum_s f_s f_s^T

so that for a small change u of the logits KL ~ 1/2 u^T F u = 1/2 sum_s (f_s . u)^2. In closed form
there are K - 1 such factors, one for each class but the last (Tanabe & Sagae, "An exact Cholesky
decomposition ... of the covariance matrix of the multinomial distribution", J. R. Stat. Soc. B 54,
1992). Each costs a backward pass, so that of many classes only the most probable of each image get
theirs. What is left, of the other classes with sum T of their p and w = p / T,

    T (diag(w) - w w^T) = E[f f^T],    f = sqrt(T) (sqrt(w) e - w sum(sqrt(w) e)),

is one factor more, with random signs e: right on average, whatever the number of classes. (Measured
by ``benchmarks/few_images.py``, CIFAR-10 ResNet-20, 10 classes, 4 bits: of a channel's KL the
random signs leave a relative error of 0.00015, random signs alone 0.15, one label drawn from p, a
common way, 0.20; the sample of 512 images itself leaves 0.16.)

For L labels that are judged each by itself, p = sigmoid(z), the gradient is p - y and

    F = diag(v),    v = p (1 - p),    factors sqrt(v_l) e_l

of the labels with the largest v; what is left of many is one factor more, sqrt(v) times random
signs.
"""

import numpy as np

from onnxsemi._arrays import Float32Array, Float64Array, Int64Array
from onnxsemi._stats.metrics import log_softmax

FACTORS = 8
"""Factors of F for each image, at the most."""

_TINY = np.finfo(np.float64).tiny


def cotangent_count(classes: int) -> int:
    """Gradients for each image: that of the label, and the factors of F."""
    return 1 + min(classes - 1, FACTORS)


def label_cotangent_count(labels: int) -> int:
    """The same for labels that are judged each by itself."""
    return 1 + min(labels, FACTORS)


def draw_cotangents(
    logits: Float32Array, labels: Int64Array, generator: np.random.Generator
) -> Float32Array:
    """Gradients at the logits: float32[N, S, K]; the first is the label's, the others give F.

    Args:
        logits: float32[N, K].
        labels: int64[N].
        generator: Draws signs where there are more classes than factors.
    """
    p = np.exp(log_softmax(logits))
    first = p.copy()
    first[np.arange(len(labels)), labels] -= 1
    order = np.argsort(-p, axis=1, kind="stable")
    factors = np.zeros((len(p), cotangent_count(p.shape[1]) - 1, p.shape[1]))
    places = np.broadcast_to(order[:, None], factors.shape)
    falling = np.take_along_axis(p, order, axis=1)
    np.put_along_axis(factors, places, _factors(falling, factors.shape[1], generator), axis=2)
    return np.concatenate([first[:, None], factors], axis=1).astype(np.float32)


def label_cotangents(
    logits: Float32Array, labels: Int64Array, generator: np.random.Generator
) -> Float32Array:
    """The same for labels that are judged each by itself: float32[N, S, L].

    Args:
        logits: float32[N, L].
        labels: int64[N, L], 0 or 1.
        generator: Draws signs where there are more labels than factors.
    """
    z = logits.astype(np.float64)
    log_p, log_rest = -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z)
    deviation = np.exp((log_p + log_rest) / 2)  # sqrt(v)
    count, (images, width) = label_cotangent_count(z.shape[1]) - 1, z.shape
    order = np.argsort(-deviation, axis=1, kind="stable")
    exact = count if count == width else count - 1
    factors = np.zeros((images, count, width))
    rows, first = np.arange(images)[:, None], order[:, :exact]
    factors[rows, np.arange(exact), first] = deviation[rows, first]
    if exact < count:
        signed = deviation * generator.choice((-1.0, 1.0), size=deviation.shape)
        signed[rows, first] = 0
        factors[:, exact] = signed
    first_seed = np.exp(log_p) - labels
    return np.concatenate([first_seed[:, None], factors], axis=1).astype(np.float32)


def _factors(p: Float64Array, count: int, generator: np.random.Generator) -> Float64Array:
    """Factors of diag(p) - p p^T, p falling: float64[N, count, K].

    With q_s = sum_{k > s} p_k and r_s = p_s + q_s:  f_s[s] = sqrt(p_s q_s / r_s),
    f_s[k] = -p_k sqrt(p_s / (q_s r_s)) for k > s, and 0 before.
    """
    classes = p.shape[1]
    after = np.cumsum(p[:, ::-1], axis=1)[:, ::-1]  # r
    rest = np.maximum(after[:, 1:], _TINY)  # q
    own, whole = p[:, :-1], np.maximum(after[:, :-1], _TINY)
    slope = np.sqrt(own / whole / rest)
    factors = np.zeros((len(p), count, classes))
    exact = count if count == classes - 1 else count - 1
    for s in range(exact):
        factors[:, s, s] = np.sqrt(own[:, s] * (rest[:, s] / whole[:, s]))
        factors[:, s, s + 1 :] = -p[:, s + 1 :] * slope[:, s, None]
    if exact < count:
        total = np.maximum(after[:, exact, None], _TINY)  # T
        share = p[:, exact:] / total  # w
        signed = np.sqrt(share) * generator.choice((-1.0, 1.0), size=share.shape)
        spread = signed - share * signed.sum(axis=1, keepdims=True)
        factors[:, exact, exact:] = np.sqrt(total) * spread
    return factors
