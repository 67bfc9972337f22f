"""Ranges of the activations that profile int8 quantizes."""

from collections.abc import Collection, Iterable, Iterator

import numpy as np

from onnxsemi._data.images import ImageSet
from onnxsemi._emit.activations import ActivationRanges, used_ranges
from onnxsemi._errors import ModelError
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.outputs import with_outputs
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._progress import Progress, Silent
from onnxsemi._run.journal import Journal, Question
from onnxsemi._runtime.batch_sizes import CALIBRATED_IMAGES
from onnxsemi._runtime.calibration import Calibration, Feeds, activation_ranges
from onnxsemi._runtime.runner import Batch, padded
from onnxsemi._runtime.sessions import Session


class Calibrated(Question, frozen=True):
    """Ranges of the activations, by a calibrator."""

    method: Calibration


def calibrate(
    classifier: Classifier, images: ImageSet, method: Calibration, progress: Progress | None = None
) -> ActivationRanges:
    """Ranges of the activations that profile int8 quantizes.

    Args:
        classifier: The float model.
        images: What to calibrate on; labels are not used.
        method: Which calibrator.
        progress: Told of every batch.

    Raises:
        ModelError: If ONNX Runtime cannot calibrate the model, or an activation that would be
            quantized is not finite.
    """
    image, progress = classifier.ends.image, progress or Silent()

    def batches() -> Iterator[Feeds]:
        progress.start("calibration", len(images))
        for part in Batch(0, len(images)).cut(image.batch or CALIBRATED_IMAGES):
            yield {image.name: padded(images.batch(part.start, part.stop), image.batch)}
            progress.step("", len(part))

    found = used_ranges(classifier, activation_ranges(classifier.proto, batches(), method))
    _check_finite(classifier, found, batches())
    return found


def _check_finite(classifier: Classifier, names: Collection[str], batches: Iterable[Feeds]) -> None:
    """Refuse activations that are NaN or infinite: calibrators pass over some of these values."""
    made = [name for name in names if name != classifier.ends.image.name]
    session = Session(with_outputs(classifier.proto, made).SerializeToString(), optimize=False)
    for feeds in batches if made else ():
        for name, values in session.run(feeds).items():
            if not np.isfinite(values).all():
                raise ModelError(
                    f"activation {name!r} is NaN or infinite on calibration images, and profile "
                    "int8 would quantize it: give other images, or choose another `profile`"
                )


def recorded_ranges(
    prepared: Prepared, journal: Journal, progress: Progress
) -> ActivationRanges | None:
    """The ranges that the settings ask for, once in a run; None if none are needed."""
    settings, images = prepared.settings, prepared.calibration
    if not settings.profile.quantizes_activations:
        return None

    def measure() -> dict[str, tuple[float, float]]:
        return dict(calibrate(prepared.classifier, images, settings.calibration, progress))

    asked = Calibrated(settings.calibration)
    return journal.ask(asked, dict[str, tuple[float, float]], measure)
