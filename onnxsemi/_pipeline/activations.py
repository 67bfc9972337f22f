"""Ranges of the activations that profile int8 quantizes."""

from onnxsemi._data.images import ImageSet
from onnxsemi._emit.activations import ActivationRanges, used_ranges
from onnxsemi._model.classifier import Classifier
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._run.journal import Journal, Question
from onnxsemi._runtime.batch_sizes import CALIBRATED_IMAGES
from onnxsemi._runtime.calibration import Calibration, activation_ranges
from onnxsemi._runtime.runner import Batch, padded


class Calibrated(Question, frozen=True):
    """Ranges of the activations, by a calibrator."""

    method: Calibration


def calibrate(classifier: Classifier, images: ImageSet, method: Calibration) -> ActivationRanges:
    """Ranges of the activations that profile int8 quantizes.

    Args:
        classifier: The float model.
        images: What to calibrate on; labels are not used.
        method: Which calibrator.

    Raises:
        ModelError: If ONNX Runtime cannot calibrate the model.
    """
    image = classifier.ends.image
    batches = (
        {image.name: padded(images.batch(part.start, part.stop), image.batch)}
        for part in Batch(0, len(images)).cut(image.batch or CALIBRATED_IMAGES)
    )
    return used_ranges(classifier, activation_ranges(classifier.proto, batches, method))


def recorded_ranges(prepared: Prepared, journal: Journal) -> ActivationRanges | None:
    """The ranges that the settings ask for, once in a run; None if none are needed."""
    settings, images = prepared.settings, prepared.calibration
    if not settings.profile.quantizes_activations:
        return None

    def measure() -> dict[str, tuple[float, float]]:
        return dict(calibrate(prepared.classifier, images, settings.calibration))

    asked = Calibrated(settings.calibration)
    return journal.ask(asked, dict[str, tuple[float, float]], measure)
