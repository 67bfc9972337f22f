"""A compressed model against the float one on the same images: all that is said about it.

With labels: right answers broken and fixed, among the first and among the first five; or the mean
of a metric before and after. With labels or without: how many answers are the same, and the mean
KL of the softmax from the float model's.
"""

from dataclasses import dataclass, replace

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._head import Head
from onnxsemi._stats.likelihood import LIKELIHOODS
from onnxsemi._stats.means import Means
from onnxsemi._stats.metric import Judge
from onnxsemi._stats.metrics import hits
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing

_CLASSES_FOR_TOP5 = 10


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        images: How many.
        same: Images that both give the same answer.
        kl: Mean KL(first || second) of the softmax, nats per image.
        top1: Images whose first answer is the label, or all of whose labels are right; None
            without labels.
        top5: Images whose label is among the first five answers; None without labels, or where
            there are fewer than ten classes, or labels are judged each by itself.
        metric: By a metric, instead of right answers; None without one.
        head: What the models' scores are: it says what an answer is.
    """

    images: int
    same: int
    kl: float
    top1: Paired | None = None
    top5: Paired | None = None
    metric: Means | None = None
    head: Head = Head.SOFTMAX

    @property
    def agreement(self) -> float:
        """Share of the images that both give the same answer, 0 to 1."""
        return self.same / self.images

    @property
    def agreement_interval(self) -> tuple[float, float]:
        """95 % interval of the agreement, 0 to 1."""
        return exact_interval(self.same, self.images)

    @property
    def answers(self) -> Pairing:
        """By the metric, or top-1; without labels, the first model's answers count as right."""
        changed = self.images - self.same
        return self.metric or self.top1 or Paired(self.images, self.images, broken=changed, fixed=0)

    @property
    def metric_name(self) -> str | None:
        """What the metric is called; None without one."""
        return None if self.metric is None else self.metric.name

    @property
    def labelled(self) -> bool:
        """Whether answers were compared with labels."""
        return self.metric is not None or self.top1 is not None

    @property
    def changes(self) -> tuple[tuple[str, Pairing], ...]:
        """What was compared with labels, by its name; the first is what is judged."""
        every = (
            (f"mean of {self.metric_name}", self.metric),
            (self.head.measured, self.top1),
            ("top-5", self.top5),
        )
        return tuple((what, paired) for what, paired in every if paired is not None)


def comparison_of(
    before: Float32Array,
    after: Float32Array,
    labels: Int64Array | None,
    judge: Judge | None = None,
    head: Head = Head.SOFTMAX,
) -> Comparison:
    """Compare two models.

    Args:
        before: float32[N, K], logits of the first, the float model say.
        after: float32[N, K], logits of the second, same images, same order.
        labels: int64[N], or None; int64[N, L] where each label is judged by itself.
        judge: A metric, to compare by it instead; None without one.
        head: What the models' scores are.
    """
    (images, classes), rule = before.shape, LIKELIHOODS[head]
    same = int(rule.same(before, after).sum())
    found = Comparison(images, same, float(np.mean(rule.divergence(before, after))), head=head)
    if judge is not None:
        return replace(found, metric=Means.of(judge(before), judge(after)))
    if labels is None:
        return found
    top1, top5 = Paired.of(rule.right(before, labels), rule.right(after, labels)), None
    if not head.per_label and classes >= _CLASSES_FOR_TOP5:
        top5 = Paired.of(hits(before, labels, 5), hits(after, labels, 5))
    return replace(found, top1=top1, top5=top5)


def exact_interval(count: int, total: int) -> tuple[float, float]:
    """Exact (Clopper and Pearson's) 95 % interval of a share, 0 to 1.

    >>> [round(end, 4) for end in exact_interval(60, 60)]
    [0.9404, 1.0]
    """
    from scipy.special import betaincinv  # noqa: PLC0415  slow to import; scipy.stats takes 40 MB

    low = float(betaincinv(count, total - count + 1, 0.025)) if count else 0.0
    high = float(betaincinv(count + 1, total - count, 0.975)) if count < total else 1.0
    return low, high
