"""What a model's answers come to, image by image: 26 bytes an image in place of its logits.

Everything is of one image alone, so that it has the same bits whichever images it is computed with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import BoolArray, Float32Array, Float64Array, Int64Array
from onnxsemi._search.protocols import Closeness, Score, Tested
from onnxsemi._stats.likelihood import Likelihood
from onnxsemi._stats.metric import Judge, Values
from onnxsemi._stats.metrics import upper_mean

OUTCOME_BYTES = 26


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Answers to N images, compared with the labels and with the float model's.

    Attributes:
        right: bool[N], whether the answer is the label.
        margins: float64[N], logit of the label minus the largest other.
        loss: float64[N], nats.
        kl: float64[N], KL(float model || model), nats.
        same: bool[N], whether the answer is the float model's.
        values: What a metric gives; None without one.
    """

    right: BoolArray
    margins: Float64Array
    loss: Float64Array
    kl: Float64Array
    same: BoolArray
    values: Values | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.right)

    @classmethod
    def of(
        cls,
        logits: Float32Array,
        reference: Float32Array,
        labels: Int64Array,
        rule: Likelihood,
        judge: Judge | None = None,
    ) -> "Outcomes":
        """Of logits.

        Args:
            logits: float32[N, K].
            reference: float32[N, K], the float model's.
            labels: int64[N]; int64[N, L] where each label is judged by itself.
            rule: What is measured of logits.
            judge: The metric that the model is judged by; None for right answers.
        """
        return cls(
            right=rule.right(logits, labels),
            margins=rule.margins(logits, labels),
            loss=rule.loss(logits, labels),
            kl=rule.divergence(reference, logits),
            same=rule.same(reference, logits),
            values=None if judge is None else judge(logits),
        )

    @classmethod
    def joined(cls, parts: Sequence["Outcomes"]) -> "Outcomes":
        """One behind the other; all or none have values of the metric."""
        if len(parts) == 1:
            return parts[0]
        values = [part.values for part in parts if part.values is not None]
        each = np.concatenate([own.each for own in values]) if values else None
        return cls(
            np.concatenate([part.right for part in parts]),
            np.concatenate([part.margins for part in parts]),
            np.concatenate([part.loss for part in parts]),
            np.concatenate([part.kl for part in parts]),
            np.concatenate([part.same for part in parts]),
            None if each is None else Values(values[0].name, each),
        )

    def at(self, images: Int64Array) -> "Outcomes":
        """Those of some images, in the order of ``images``: int64[M]."""
        values = self.values
        return Outcomes(
            self.right[images],
            self.margins[images],
            self.loss[images],
            self.kl[images],
            self.same[images],
            None if values is None else Values(values.name, values.each[images]),
        )

    def tested(self, unseen: Int64Array | slice = slice(None)) -> Tested:
        """What is seen of a model whose answers to all images are known.

        Args:
            unseen: Images that nothing was fitted to: the KL is their mean.
        """
        count, values, kl = len(self), self.values, self.kl[unseen]
        correct = int(self.right.sum()) if values is None else values.sum
        score = Score(correct, count, count, float(np.mean(self.loss)))
        close = Closeness(upper_mean(kl), int((~self.same).sum()))
        every = np.arange(count)
        return Tested(score, every, self.margins, self.right, 0.0, float(kl.mean()), close, values)
