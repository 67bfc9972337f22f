"""What the float model answers: an image goes through it once, whatever asks for its answer.

Whether labels can be those of the images, what a pass takes, what plans are compared with, and what
gradients begin with all follow from the same logits, of all images or of some.
"""

import statistics
from collections.abc import Callable, Hashable

import numpy as np

from onnxsemi._arrays import Float32Array
from onnxsemi._data.images import ImageSet
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.fact import fact
from onnxsemi._run.spent import Spent


class FloatAnswers:
    """Logits of the float model on the images that were asked about.

    Attributes:
        spent: What an image took, in each batch that a session ran but its first.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._rows: dict[Hashable, dict[int, Float32Array]] = {}
        self.spent: list[Spent] = []
        self._image_seconds: float | None = None

    def of(
        self,
        images: ImageSet,
        forward: Callable[[ImageSet], Float32Array],
        provider: Hashable,
        *,
        whole: bool = False,
    ) -> Float32Array:
        """float32[N, K], as a provider gives them.

        Args:
            images: The images.
            forward: Gives those that are not known.
            provider: What runs the model.
            whole: Ask for all where most are not known: to ask for some would cost more.
        """
        rows = self._rows.setdefault((images.origin, provider), {})
        missing = self.missing(images, provider)
        if missing:
            every = len(missing) > len(images) // 2 if whole else len(missing) == len(images)
            asked = images if every else images.select(np.array(missing))
            rows.update(zip(asked.places.tolist(), forward(asked), strict=True))
        return np.stack([rows[place] for place in images.places.tolist()])

    @property
    def image_seconds(self) -> float:
        """CPU seconds of an image: from when it is known on always the same; 0 until then."""
        if self._image_seconds is None and self.spent:
            self._image_seconds = statistics.median(each.cpu_seconds for each in self.spent)
        return self._image_seconds or 0.0

    def missing(self, images: ImageSet, provider: Hashable) -> list[int]:
        """Which of the images were not answered yet, by their number among them."""
        rows = self._rows.get((images.origin, provider), {})
        return [n for n, place in enumerate(images.places.tolist()) if place not in rows]


@fact
def float_answers(_: Classifier) -> FloatAnswers:
    """The answers of a classifier, kept with it."""
    return FloatAnswers()
