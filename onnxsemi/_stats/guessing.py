"""Whether answers are better than guessing: a model that does not see what is in the images.

Its guesses are the answers that were given, dealt out to the images at random. Of n images they hit

    chance = sum_k (share of the answers that are k) * (share of the labels that are k)

which is 1 / K if all classes are as frequent, and the share of a class if it is the only answer:
what a model gives whose images are preprocessed for another. A constant answer of the most frequent
class is no better than that, so that classes of uneven sizes need no other bound.

The test is the exact one-sided binomial test at 5 %. That it finds nothing says little on few
images. So it is asked what it would find of a model half way between guessing and being always
right: if it would miss that one with more than 1 ‰, nothing can be *told*.
"""

from dataclasses import dataclass

import numpy as np

from onnxsemi._arrays import Int64Array

_SIGNIFICANT = 0.05
_MISSED = 0.001
_Z95 = 1.6448536269514722
LEAST_GAIN = 0.02
"""Share of the images: less is a detail of preprocessing, such as how images are resized."""


@dataclass(frozen=True)
class Guessing:
    """Answers against guessing.

    Attributes:
        total: Images.
        right: Answers that are the label.
        chance: Share that would be right by guessing, 0 to 1.
    """

    total: int
    right: int
    chance: float

    @classmethod
    def of(cls, answers: Int64Array, labels: Int64Array) -> "Guessing":
        """From the answers and the labels: int64[N] each."""
        count = int(max(answers.max(), labels.max())) + 1
        shares = [
            np.bincount(values, minlength=count) / len(values) for values in (answers, labels)
        ]
        return cls(len(labels), int((answers == labels).sum()), float(shares[0] @ shares[1]))

    @property
    def better(self) -> bool:
        """Whether more are right than guessing gives."""
        return self.right >= self._needed

    @property
    def told(self) -> bool:
        """Whether the test would have noticed a model half way to being always right.

        >>> Guessing(10, 2, 0.1).told, Guessing(40, 4, 0.1).told, Guessing(40, 20, 0.5).told
        (False, True, False)
        """
        from scipy.special import bdtr  # noqa: PLC0415  slow to import

        missed = float(bdtr(self._needed - 1, self.total, (1 + self.chance) / 2))
        return self._needed <= self.total and missed <= _MISSED

    @property
    def _needed(self) -> int:
        """The least number of right answers that guessing gives with less than 5 %."""
        from scipy.special import bdtrc  # noqa: PLC0415  slow to import

        counts = np.arange(1, self.total + 1)
        rare = bdtrc(counts - 1, self.total, self.chance) < _SIGNIFICANT
        return int(counts[rare][0]) if rare.any() else self.total + 1


def labels_better(answers: Int64Array, labels: Int64Array) -> bool:
    """Whether labels that are judged each by itself are told better than by guessing.

    An image's answer dealt out to all images is right on the share of their labels that it is
    expected to be right on by guessing. What it gains over that is tested: a one-sided test of its
    mean at 5 %.

    Args:
        answers: int64[N, L], 0 or 1.
        labels: int64[N, L], likewise.

    >>> labels_better(np.eye(20, dtype=int), np.eye(20, dtype=int))
    True
    >>> labels_better(np.zeros((20, 3), int), np.eye(20, 3, dtype=int))
    False
    """
    often = labels.mean(axis=0)
    chance = answers * often + (1 - answers) * (1 - often)
    gained = ((answers == labels) - chance).mean(axis=1)
    return bool(gained.mean() > _Z95 * gained.std() / np.sqrt(len(gained)))


def far_better(before: Int64Array, after: Int64Array, labels: Int64Array) -> bool:
    """Whether other answers are right so much more often that it is neither chance nor detail.

    By the sign test of the images on which just one of them is right, one-sided, at 1 ‰; by two of
    a hundred images at the least; and better than guessing, by a quarter of the way to being always
    right: where nearly all answers are wrong, any others are right more often.

    Args:
        before: int64[N], answers.
        after: int64[N], other answers.
        labels: int64[N].
    """
    from scipy.special import bdtrc  # noqa: PLC0415  slow to import

    was, now = before == labels, after == labels
    fixed, broken = int((now & ~was).sum()), int((was & ~now).sum())
    if fixed <= broken or fixed - broken < LEAST_GAIN * len(labels):
        return False
    if float(bdtrc(fixed - 1, fixed + broken, 0.5)) >= _MISSED:
        return False
    guessing = Guessing.of(after, labels)
    least = guessing.chance + (1 - guessing.chance) / 4
    return guessing.better and guessing.right >= least * guessing.total
