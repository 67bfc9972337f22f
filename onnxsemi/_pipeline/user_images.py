"""The user's images, laid out for a model."""

from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import Data, DataOptions, load_images
from onnxsemi._model.head import Ends


def given_images(
    data: Data, ends: Ends, options: DataOptions | None, *, for_metric: bool
) -> ImageSet:
    """Read images for a model's input, with labels for its head or for a metric.

    Raises:
        TypeError: If ``data`` is nothing that holds images.
        DataError: If there are none, or they or their labels do not fit.
    """
    image = ends.image
    return load_images(
        data,
        image.name,
        image.shape,
        options,
        for_metric=for_metric,
        head=ends.head,
        raw=image.pixels,
    )
