"""What plans are judged by, image by image: right answers, or the values of a metric.

Both kinds of comparison, :class:`Paired` and :class:`Means`, say the same of a change: its size and
interval, whether it is a loss, how many images would tell, and all of it in words.
"""

from onnxsemi._arrays import BoolArray
from onnxsemi._stats.means import Means
from onnxsemi._stats.metric import Values
from onnxsemi._stats.paired import Paired

PerImage = BoolArray | Values
"""bool[N], which answers are right; or values of a metric."""

Pairing = Paired | Means


def pair(before: PerImage, after: PerImage) -> Pairing:
    """Compare two models on the same images in the same order.

    Raises:
        TypeError: If one of them is judged by a metric and the other is not.
    """
    if isinstance(before, Values) and isinstance(after, Values):
        return Means.of(before, after)
    if isinstance(before, Values) or isinstance(after, Values):
        raise TypeError("right answers cannot be compared with the values of a metric")
    return Paired.of(before, after)
