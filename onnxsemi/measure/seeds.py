"""The gradients of the loss at the logits that a backward pass begins with.

For logits z, p = softmax(z) and label y the gradient of the cross-entropy is p - e_y. Its
covariance over labels drawn from p, the Fisher matrix at the logits (and the Hessian of both
cross-entropy and KL there), is

    F = diag(p) - p p^T = sum_s f_s f_s^T

so that for a small change u of the logits KL ~ 1/2 u^T F u = 1/2 sum_s (f_s . u)^2. For up to 16
classes the f_s are exact, K - 1 of them, in closed form (Tanabe & Sagae, "An exact Cholesky
decomposition ... of the covariance matrix of the multinomial distribution", J. R. Stat. Soc. B 54,
1992); beyond that they are the gradients for labels drawn from p, scaled so that their mean square
is F in expectation.
"""

import numpy as np

from onnxsemi.arrays import Float32Array, Float64Array, Int64Array
from onnxsemi.measure.metrics import log_softmax

EXACT_CLASSES = 16
DRAWS = 1


def seed_count(classes: int) -> int:
    """Gradients for each image: that of the label, and the factors of F."""
    return 1 + (classes - 1 if classes <= EXACT_CLASSES else DRAWS)


def seed_gradients(
    logits: Float32Array, labels: Int64Array, generator: np.random.Generator
) -> Float32Array:
    """Gradients at the logits: float32[N, S, K]; the first is the label's, the others give F.

    Args:
        logits: float32[N, K].
        labels: int64[N].
        generator: Draws labels where there are more than 16 classes.
    """
    p = np.exp(log_softmax(logits))
    first = p.copy()
    first[np.arange(len(labels)), labels] -= 1
    factors = _exact(p) if p.shape[1] <= EXACT_CLASSES else _drawn(p, generator)
    return np.concatenate([first[:, None], factors], axis=1).astype(np.float32)


def _exact(p: Float64Array) -> Float64Array:
    """Columns of the Cholesky factor of diag(p) - p p^T: float64[N, K - 1, K].

    With q_s = sum_{k > s} p_k and r_s = p_s + q_s:  f_s[s] = sqrt(p_s q_s / r_s),
    f_s[k] = -p_k sqrt(p_s / (q_s r_s)) for k > s, and 0 before.
    """
    classes = p.shape[1]
    after = np.cumsum(p[:, ::-1], axis=1)[:, ::-1]  # r
    rest = np.maximum(after[:, 1:], np.finfo(np.float64).tiny)  # q
    own, whole = p[:, :-1], np.maximum(after[:, :-1], np.finfo(np.float64).tiny)
    factors = np.zeros((len(p), classes - 1, classes))
    slope = np.sqrt(own / whole / rest)
    for s in range(classes - 1):
        factors[:, s, s] = np.sqrt(own[:, s] * (rest[:, s] / whole[:, s]))
        factors[:, s, s + 1 :] = -p[:, s + 1 :] * slope[:, s, None]
    return factors


def _drawn(p: Float64Array, generator: np.random.Generator) -> Float64Array:
    """Gradients for labels drawn from p: float64[N, DRAWS, K]."""
    levels = np.cumsum(p, axis=1)
    points = generator.random((len(p), DRAWS)) * levels[:, -1:]
    drawn = (points[:, :, None] > levels[:, None, :]).sum(axis=2)
    factors = np.repeat(p[:, None], DRAWS, axis=1)
    np.put_along_axis(
        factors, drawn[:, :, None], np.take_along_axis(factors, drawn[:, :, None], 2) - 1, 2
    )
    scaled: Float64Array = factors / np.sqrt(DRAWS)
    return scaled
