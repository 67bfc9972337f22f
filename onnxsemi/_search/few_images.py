"""What few images can show of a change in accuracy, and what is asked where they cannot show it.

A tolerance is *shown* by images on which a plan may change enough answers for these to speak. How
many that are: ``TELLING`` is the least number of changed answers at which the sign test (one-sided,
5 %) tells four times of five that a plan breaks three for each that it fixes. A plan that changes
so many, half of them for the better, has an interval of

    +- z * sqrt(TELLING + 2) / (n + 2)          (onnxsemi._stats.paired, broken = fixed)

and that is the least tolerance that n images can show: 1.8 points on 539, 0.5 on 1,958.

Below it counts are held against the least tolerance instead, and three more questions are asked, so
that it is no licence to lose as much: the answers broken are not more than chance would have, by
the same sign test; of all answers, right and wrong ones, no more than ``TELLING`` are other ones
than the float model's (*agreement*); and the mean KL against the float model is at most ``KL_FEW``,
by the upper end of its one-sided 95 % interval. The KL is a mean over images of a smooth figure,
whatever the labels are: few images know it well.
"""

from bisect import bisect_left

from onnxsemi._search.protocols import Closeness
from onnxsemi._stats.paired import even_width
from onnxsemi._stats.pairing import Pairing

TELLING = 23
"""Changed answers; P(X >= 16) is 0.047 for X ~ B(23, 1/2) and 0.804 for X ~ B(23, 3/4), and no
smaller number reaches 0.05 and 0.8."""

KL_FEW = 0.02
"""Nats per sample. By Pinsker's inequality the softmax outputs then differ by at most
sqrt(0.02 / 2) = 10 % in total variation; of the answers fewer change: 1 to 3 % were seen."""

SIGNIFICANT = 0.05
_MOST_IMAGES = 10**15


def least_tolerance(total: int) -> float:
    """Points of accuracy that so many images can show.

    >>> [round(least_tolerance(count), 2) for count in (100, 539, 1957, 4000)]
    [9.61, 1.81, 0.5, 0.24]
    """
    return 100 * min(1.0, even_width(total, TELLING))


def least_agreement(total: int) -> float:
    """Share of the answers that must be the float model's on so many images, 0 to 1.

    >>> least_agreement(500)
    0.954
    """
    return max(0.0, 1 - TELLING / total)


def images_to_show(points: float) -> int:
    """Images that can show so many points of accuracy, above 0.

    >>> images_to_show(0.5)
    1958
    """
    return bisect_left(
        range(_MOST_IMAGES), -points, lo=1, key=lambda count: -least_tolerance(count)
    )


def objections(counted: Pairing, close: Closeness) -> list[str]:
    """What else speaks against a plan on few images; empty if nothing does.

    >>> from onnxsemi._stats.paired import Paired
    >>> objections(Paired(539, 480, broken=11, fixed=2), Closeness(kl=0.03, changed=17))
    ['11 broken and 2 fixed are more than chance', 'the KL may be 0.03 nats, allowed are 0.02']
    >>> objections(Paired(539, 480, broken=9, fixed=8), Closeness(kl=0.01, changed=26))
    ['26 answers are other ones than the float model gives, allowed are 23']

    Args:
        counted: The answers, as far as they count.
        close: How close the plan is to the float model.
    """
    found = []
    if counted.loss(2 * SIGNIFICANT) is not None:  # its level is of both sides
        found.append(f"{counted.sides} are more than chance")
    if close.changed > TELLING:
        other = f"{close.changed:,} answers are other ones than the float model gives"
        found.append(f"{other}, allowed are {TELLING}")
    if close.kl > KL_FEW:
        found.append(f"the KL may be {close.kl:.3g} nats, allowed are {KL_FEW:g}")
    return found
