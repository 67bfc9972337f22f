"""Activations in uint8: their ranges, and the accuracy that plans have with them."""

import numpy as np

from onnxsemi.arrays import BoolArray
from onnxsemi.calibration import Calibration, activation_ranges
from onnxsemi.data.images import ImageSet
from onnxsemi.emit.activations import Ranges, used_ranges
from onnxsemi.emit.model import emit
from onnxsemi.emit.profile import Profile
from onnxsemi.errors import AccuracyError
from onnxsemi.measure.metrics import hits
from onnxsemi.measure.shards import padded, shards
from onnxsemi.model.classifier import Classifier
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress
from onnxsemi.run.journal import Journal, Reply, packed, unpacked
from onnxsemi.search.trajectory import Point, Trajectory

BATCH = 8  # images that a calibrator is given at once: it keeps all their activations


def calibrate(classifier: Classifier, images: ImageSet, method: Calibration) -> Ranges:
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
        for part in shards(len(images), image.batch, BATCH)
    )
    return used_ranges(classifier, activation_ranges(classifier.proto, batches, method))


def recorded_ranges(prepared: Prepared, journal: Journal) -> Ranges | None:
    """The ranges that the settings ask for, once in a run; None if none are needed."""
    settings, images = prepared.settings, prepared.calibration
    if not settings.profile.quantizes_activations:
        return None

    def measure() -> Reply:
        ranges = calibrate(prepared.classifier, images, settings.calibration)
        return {"tensors": list(ranges), "ranges": packed(np.array([*ranges.values()]))}

    reply = journal.ask("calibration", settings.calibration.value, measure)
    ends = unpacked(reply["ranges"]).tolist()
    return {name: (low, high) for name, (low, high) in zip(reply["tensors"], ends, strict=True)}


def choose_on_integers(
    prepared: Prepared, trajectory: Trajectory, ranges: Ranges, journal: Journal, told: Progress
) -> Point:
    """The most compressed point of a search that holds the accuracy with quantized activations.

    Points are measured as they are to run, on integer kernels, from the most compressed one on;
    only those that hold the accuracy with float32 activations.

    Raises:
        AccuracyError: If none does.
    """
    baseline, allowed = trajectory.baseline, prepared.settings.search.max_drop
    points = trajectory.holding(allowed)
    bar = baseline.correct - allowed / 100 * baseline.total - 1e-9
    told.start("activations in uint8", len(points))
    most = 0
    for point in points:
        plan = point.plan

        def measure(plan: BitPlan = plan) -> Reply:
            return {"correct": int(right_on_integers(prepared, plan, ranges).sum())}

        correct = journal.ask("integers", tuple(plan.bits.items()), measure)["correct"]
        told.step(f"{plan.compression:.2%} smaller: {correct / baseline.total:.2%}")
        if correct >= bar:
            return point
        most = max(most, correct)
    lost = 100 * (baseline.correct - most) / baseline.total
    raise AccuracyError(
        f"with activations in uint8 each of {len(points)} plans loses more than {allowed:g} points "
        f"on {baseline.total} search images ({lost:.2f} at best): allow more with --max-drop, try "
        "another --calibration, or leave activations float32 with --profile fast"
    )


def right_on_integers(prepared: Prepared, plan: BitPlan, ranges: Ranges) -> BoolArray:
    """Which search images a plan answers rightly on integer kernels."""
    bench = prepared.bench(prepared.search)
    model = emit(bench.classifier, plan, bench.scheme, Profile.INT8, ranges)
    return hits(bench.forward(model, integers=True), bench.labels)
