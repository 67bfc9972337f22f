"""A function that the user gives, instead of top-1: what each image is worth.

    f(logits float32[N, K], labels [N, ...])  ->  [N], higher is better

Its mean over the images is what is reported and guarded. So the value of an image may depend on
that image alone; what is no mean over images (AUC, F1 over a data set) cannot be judged so.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnxsemi._arrays import Float32Array, Float64Array, read_only

Metric = Callable[[Float32Array, NDArray[Any]], ArrayLike]


@dataclass(frozen=True, eq=False)
class Values:
    """What a metric gives on some images.

    Attributes:
        name: The metric's.
        each: float64[N], finite, one value an image.
    """

    name: str
    each: Float64Array

    @property
    def sum(self) -> float:
        """Over the images."""
        return float(self.each.sum())


@dataclass(frozen=True, eq=False)
class Judge:
    """A metric on the labels of some images.

    Attributes:
        metric: The function.
        targets: [N, ...], the labels.
    """

    metric: Metric
    targets: NDArray[Any]

    def __post_init__(self) -> None:
        given: Any = self.metric
        if not callable(given):
            what = type(given).__name__
            raise TypeError(f"metric must be a function of logits and labels, not {what}")

    def __call__(self, logits: Float32Array) -> Values:
        """Values of a model's logits, float32[N, K].

        Raises:
            TypeError: If the function does not return one number an image.
            ValueError: If it raises, changes what it is given, or returns NaN or infinity.
        """
        name = metric_name(self.metric)
        try:
            # views that cannot be written to: what is judged next would be something else
            returned = self.metric(read_only(logits), read_only(self.targets))
            found = np.asarray(returned)
        except Exception as error:
            said = f"metric {name} raised {type(error).__name__}: {error}"
            raise ValueError(said) from error
        if found.shape != (len(logits),) or found.dtype.kind not in "biuf":
            what = f"shape {list(found.shape)}" if found.ndim else f"one {found.dtype} for them all"
            raise TypeError(
                f"metric {name} returned {what} ({found.dtype}) for {len(logits)} images: it must "
                f"return one number an image, shape [{len(logits)}], whose mean is judged; a "
                "figure that is no mean over images, such as AUC or F1 of a data set, cannot be"
            )
        bad = np.flatnonzero(~np.isfinite(found))
        if bad.size:
            raise ValueError(
                f"metric {name} returned {found[bad[0]]} for image {bad[0]}: every value must be "
                "finite"
            )
        return Values(name, read_only(found.astype(np.float64)))

    def identity(self, logits: Float32Array) -> str:
        """Which function it is: its qualified name, and a digest of its values on logits."""
        function = _plain(self.metric)
        digest = hashlib.sha256(self(logits).each.astype("<f8").tobytes()).hexdigest()[:16]
        return f"{function.__module__}.{_qualified(function)} {digest}"


def metric_name(metric: Metric) -> str:
    """What a metric is called.

    >>> metric_name(functools.partial(max, key=None))
    'max'
    """
    return _qualified(_plain(metric)).rpartition(".")[2]


def _plain(metric: Any) -> Any:
    """The function itself, without arguments that are given with it."""
    return _plain(metric.func) if isinstance(metric, functools.partial) else metric


def _qualified(function: Any) -> str:
    """Its name, or for an object that can be called that of its type."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
