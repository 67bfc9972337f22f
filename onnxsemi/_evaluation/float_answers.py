"""What the float model answers: an image goes through it once, whatever asks for its answer.

Whether labels can be those of the images, what a pass takes, what plans are compared with, and what
gradients begin with all follow from the same logits, of all images or of some.
"""

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

    def of(
        self, images: ImageSet, forward: Callable[[ImageSet], Float32Array], provider: Hashable
    ) -> Float32Array:
        """float32[N, K], as a provider gives them; ``forward`` gives those that are not known."""
        rows = self._rows.setdefault((images.origin, provider), {})
        missing = self.missing(images, provider)
        if missing:
            asked = images if len(missing) == len(images) else images.select(np.array(missing))
            rows.update(zip(asked.places.tolist(), forward(asked), strict=True))
        return np.stack([rows[place] for place in images.places.tolist()])

    def missing(self, images: ImageSet, provider: Hashable) -> list[int]:
        """Which of the images were not answered yet, by their number among them."""
        rows = self._rows.get((images.origin, provider), {})
        return [n for n, place in enumerate(images.places.tolist()) if place not in rows]


@fact
def float_answers(_: Classifier) -> FloatAnswers:
    """The answers of a classifier, kept with it."""
    return FloatAnswers()
