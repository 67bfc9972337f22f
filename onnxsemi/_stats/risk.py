"""Which images can change their answer, and how much is known of each.

    margin[n] = logit of the label - largest other logit          >= 0 where the answer is right

A plan near the current one changes margins by about ``change``, the root mean square on a small
sample. An image whose margin is many times that keeps its answer. What was not looked at when a
plan was kept drifts: its margin is known less well with every plan kept since it was last measured.

    risk[n] = sqrt(drift[n] + change^2) / |margin[n]|             drift: sum of squared changes
"""

from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import BoolArray, Float32Array, Float64Array, Int64Array

SAFE = 4.0
"""An image is at risk if its margin is at most this many times the change that is expected.

Measured (ResNet-18 and ResNet-20, CIFAR-10, half a layer at 8 to 2 bits): of about 1,000 answers
that changed, 3 lay beyond; those are found when all images are checked after each bitwidth.
"""


@dataclass(frozen=True, eq=False)
class Margins:
    """What is known of every image under the current plan.

    Attributes:
        values: float64[N], margins when last measured.
        right: bool[N], whether the answer was right then.
        drift: float64[N], sum of the squared changes since.
    """

    values: Float64Array
    right: BoolArray
    drift: Float64Array

    def at_risk(self, change: float, known: Int64Array) -> Int64Array:
        """Images whose answer may change, most endangered first; ties by index.

        Args:
            change: Root mean square of the change of margins.
            known: Images that were measured already: left out.
        """
        spread = np.sqrt(self.drift + change**2)
        distance = np.abs(self.values)
        chosen = distance <= SAFE * spread
        chosen[known] = False
        found = np.flatnonzero(chosen)
        ratio = distance[found] / np.maximum(spread[found], np.finfo(np.float64).tiny)
        return found[np.argsort(ratio, kind="stable")]

    def updated(
        self, images: Int64Array, values: Float64Array, right: BoolArray, change: float
    ) -> "Margins":
        """After a plan was kept that was measured on some images and changes margins by so much."""
        drift = self.drift + change**2
        drift[images] = 0
        margins, answers = self.values.copy(), self.right.copy()
        margins[images], answers[images] = values, right
        return Margins(margins, answers, drift)


def label_margins(logits: Float32Array, labels: Int64Array) -> Float64Array:
    """Logit of the label minus the largest other logit: float64[N].

    Args:
        logits: float32[N, K].
        labels: int64[N].
    """
    others = logits.astype(np.float64)
    own = np.take_along_axis(others, labels[:, None], 1)[:, 0]
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    result: Float64Array = own - others.max(axis=1)
    return result
