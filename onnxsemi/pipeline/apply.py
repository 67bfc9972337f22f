"""``apply``: emit a plan without searching."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.calibration import Calibration
from onnxsemi.choices import choice
from onnxsemi.data.images import ImageSet
from onnxsemi.data.load import Data, DataOptions, load_images
from onnxsemi.emit.activations import Ranges
from onnxsemi.emit.profile import Profile
from onnxsemi.errors import DataError, PlanError, SettingsError
from onnxsemi.kernels import kernels_of
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.comparison import compare
from onnxsemi.measure.shards import worker_threads
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.head import ImageInput
from onnxsemi.model.read import ReadOptions, read_model
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.pipeline.activations import calibrate
from onnxsemi.pipeline.prepare import drawn, labelled
from onnxsemi.pipeline.rounding import calibrated_rounder
from onnxsemi.pipeline.sizes import sizes_of
from onnxsemi.pipeline.write import check_output, write_verified
from onnxsemi.plan import BitPlan
from onnxsemi.plan_file import DIGEST, PlanFile, RoundingRecord, read_plan
from onnxsemi.progress import Progress, Silent
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.quantizer.rounded import Nearest, RoundedPlan, rounded
from onnxsemi.results import ApplyResult
from onnxsemi.search.align import aligned
from onnxsemi.settings import Settings

_FREE_AXIS = 32  # size of an axis that the model leaves open, for the random images


def apply(  # noqa: PLR0913  a flag each
    plan: str | os.PathLike[str],
    model: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str],
    profile: Profile = Profile.QDQ,
    align: int = Settings.align,
    data: Data | None = None,
    calibration_data: Data | None = None,
    calibration: Calibration = Calibration.MINMAX,
    calibration_samples: int = Settings.calibration_samples,
    data_options: DataOptions | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ApplyResult:
    """Write a model with the bitwidths of a plan file.

    Args:
        plan: A plan written by :func:`compress`, edited or not.
        model: The float model that the plan was made for.
        output: Where to write the compressed model.
        profile: Form of the written file; any plan can be written in any of them, but int8 needs
            one made with the symmetric scheme.
        align: Channels of each bitwidth in a layer are rounded up to a multiple of this.
        data: Images to measure accuracy on; without them the file is verified on random images.
        calibration_data: Images to calibrate the activations of profile int8 on; a plan that was
            made for it holds their ranges already.
        calibration: How ranges follow from the values on these images.
        calibration_samples: How many of them to take at the most.
        data_options: Preprocessing of the images.
        threads: Shards of images worked on at once; None for every core.
        progress: Told where the work is.

    Raises:
        PlanError: If the plan does not fit the model.
        OnnxSemiError: If the model or the data cannot be used, or the written file is not what the
            plan says. No file is written then, and an existing one is left as it is.
    """
    workers, profile = worker_threads(threads), choice(Profile, profile)
    told = progress or Silent()
    for flag, value in (("--calibration-samples", calibration_samples), ("--align", align)):
        if value < 1:
            raise SettingsError(f"{flag}: {value} must be 1 or more")
    check_output(Path(output), model, plan, data, calibration_data)
    document = read_plan(plan)
    told.start("reading the model and the images", 1)
    needs_images = profile.quantizes_activations or document.rounding is not None
    if calibration_data is not None and not needs_images:
        raise SettingsError(
            f"--calibration-data: profile {profile} leaves activations float32, and the plan's "
            "weights are rounded without images"
        )
    policy, scheme = _named(document, str(plan))
    classifier = read_model(
        model, ReadOptions(targets=policy, exclude=document.exclude, output=document.output)
    )
    rounding, layers = Nearest(scheme), classifier.layers
    bits = aligned(_fitted(document, classifier, str(plan)), layers, rounding, align)
    image, ranges = classifier.ends.image, None
    shown = None
    if calibration_data is not None:
        shown = load_images(calibration_data, image.name, image.shape, data_options)
    if profile.quantizes_activations:
        _check_grids(scheme, str(plan))
        kept = document.rounding is not None and document.activations is not None
        if shown is None or kept:
            ranges = _known_ranges(document, classifier, str(plan))
        else:
            sample = drawn(shown, calibration_samples)
            ranges = calibrate(classifier, sample, choice(Calibration, calibration))
    if data is None:
        has_labels, images = False, random_images(image)
    else:
        loaded = load_images(data, image.name, image.shape, data_options)
        has_labels, images = loaded.labels is not None, loaded
    bench = labelled(Bench(classifier, images, rounding, workers, progress=told))
    before = bench.forward(classifier.proto)
    target = Path(output)
    if document.rounding is None:
        codes = rounded(layers, bits, rounding)
    else:
        codes = _rounded_on(shown, document.rounding, bits, bench, str(plan))
    told.start("writing and verifying", 1)
    after = write_verified(bench, codes, target, profile, ranges)
    report = None
    if data is not None:
        report = compare(before, after, bench.labels if has_labels else None)
    return ApplyResult(
        target,
        profile,
        bits,
        sizes_of(target),
        report,
        has_labels,
        None if ranges is None else kernels_of(target, classifier, bits),
    )


def random_images(image: ImageInput) -> ImageSet:
    """Seeded standard normal noise in the model's layout, to compare two models on without data."""
    if len(image.shape) == 4 and image.shape[1] is None:
        raise DataError("the model's input leaves the number of colour channels open: give --data")
    shape = (image.batch or _FREE_AXIS, *(size or _FREE_AXIS for size in image.shape[1:]))
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    return ImageSet("random images", noise)


def _rounded_on(
    shown: ImageSet | None, record: RoundingRecord, plan: BitPlan, bench: Bench, path: str
) -> RoundedPlan:
    """The plan's codes, rounded on the images that it names."""
    if shown is None:
        raise PlanError(
            f"{path}: its weights were rounded on {len(record.images) or 'calibration'} images: "
            "give the images that were searched on with --calibration-data"
        )
    if record.images:
        places = {digest.hex()[:DIGEST]: place for place, digest in enumerate(shown.digests())}
        missing = sum(digest not in places for digest in record.images)
        if missing:
            raise PlanError(
                f"{path}: {missing} of the {len(record.images)} images that its weights were "
                f"rounded on are not in {shown.name}: give the images that were searched on, with "
                "the same preprocessing; or empty 'images' in the plan, to round on these"
            )
        shown = shown.select(np.array([places[digest] for digest in record.images]))
    used = {b for bits in plan.bits.values() for b in bits} - {FLOAT_BITS}
    calibration = replace(bench, images=shown)
    return calibrated_rounder(calibration, used, record.settings, record.seed, bench.progress)(plan)


def _check_grids(scheme: Scheme, path: str) -> None:
    if scheme is not Scheme.SYMMETRIC:
        raise PlanError(
            f"{path}: was made on {scheme} grids, and profile int8 needs symmetric ones, as "
            "integer kernels take no zero points of weights: compress with --profile int8 or "
            "--scheme symmetric"
        )


def _known_ranges(document: PlanFile, classifier: Classifier, path: str) -> Ranges:
    if document.activations is None:
        raise PlanError(
            f"{path}: holds no ranges of activations, which profile int8 quantizes: give images "
            "with --calibration-data, those that were searched on for example"
        )
    there = {classifier.ends.image.name}
    there |= {name for node in classifier.proto.graph.node for name in node.output}
    unknown = next((name for name in document.activations if name not in there), None)
    if unknown is not None:
        raise PlanError(f"{path}: activation {unknown!r} is no tensor of the model")
    return document.activations


def _named(document: PlanFile, path: str) -> tuple[TargetPolicy, Scheme]:
    try:
        return TargetPolicy(document.targets), Scheme(document.scheme)
    except ValueError as error:
        raise PlanError(f"{path}: {error}") from None


def _fitted(document: PlanFile, classifier: Classifier, path: str) -> BitPlan:
    try:
        plan = document.fit(classifier.layers)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
    if document.model != classifier.fingerprint:
        raise PlanError(
            f"{path}: made for another model ({document.model[:12]}, this one is "
            f"{classifier.fingerprint[:12]}): same layers, other weights; compress this model anew"
        )
    return plan
