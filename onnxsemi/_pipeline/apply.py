"""``apply``: emit a plan, or a point that a run has kept, without searching."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import structs

from onnxsemi._atomic_file import check_writable, whole_files
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import Data, DataOptions, load_pixels
from onnxsemi._emit.activations import ActivationRanges
from onnxsemi._emit.integer_kernels import kernels_of
from onnxsemi._emit.narrow_types import narrow_types
from onnxsemi._emit.profile import Profile
from onnxsemi._errors import DataError, PlanError, SettingsError
from onnxsemi._evaluation.folds import Remembering
from onnxsemi._evaluation.provider_check import check_provider, reference_run_of
from onnxsemi._evaluation.workload import Workload
from onnxsemi._field_types import check_argument
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.head import ImageInput
from onnxsemi._model.loader import Model
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._output_size import write_text
from onnxsemi._pipeline.activations import calibrate
from onnxsemi._pipeline.apply_request import ApplyRequest, apply_request
from onnxsemi._pipeline.claim import claimed, report_images
from onnxsemi._pipeline.companions import check_companion, companion_path, write_companion
from onnxsemi._pipeline.output import Writer, check_output, plan_path, refuse_loss
from onnxsemi._pipeline.preparation import drawn, labelled
from onnxsemi._pipeline.rounding import calibrated_rounder, plan_rounder, restored
from onnxsemi._pipeline.run_identity import check_outside
from onnxsemi._pipeline.sizes import sizes_of
from onnxsemi._pipeline.user_images import given_images
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import warn
from onnxsemi._progress_callback import Listener, listening
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, rounded
from onnxsemi._results.results import ApplyResult
from onnxsemi._run.folder import made_of
from onnxsemi._run.plan_file import DIGEST, PlanFile, RoundingRecord
from onnxsemi._runtime.processor import Origin, Processor
from onnxsemi._search.align import aligned
from onnxsemi._settings import ApplySettings
from onnxsemi._stats.comparison import Comparison, comparison_of
from onnxsemi._stats.metric import Metric

_FREE_AXIS = 32  # size of an axis that the model leaves open, for the random images


def apply(
    plan: str | os.PathLike[str],
    model: Model | None = None,
    *,
    output: str | os.PathLike[str],
    data: Data | None = None,
    calibration_data: Data | None = None,
    settings: ApplySettings | None = None,
    metric: Metric | None = None,
    progress: Listener | None = None,
) -> ApplyResult:
    """Write a model with the bitwidths of a plan file, or of a point that a run has kept.

    Args:
        plan: A plan written by :func:`compress`, edited or not; or the folder of a run.
        model: The float model that the plan was made for; a run knows it.
        output: Where to write the compressed model; a run's point gets its plan beside it.
        data: Images to measure accuracy on. Without them a run's own test images are taken, and
            a plan's file is verified on random images.
        calibration_data: Images that weights are rounded on, which a run knows; and to calibrate
            the activations of profile int8 on: a plan made for it holds their ranges already.
        settings: Everything else. Any plan can be written in any profile, but int8 needs one made
            with the symmetric scheme. For native weights are rounded anew on whole steps, if the
            plan has them on half steps, for which ONNX's own types have no codes.
        metric: What is measured instead of accuracy, as for :func:`compress`. A run that was judged
            by one can be judged by agreement with the float model, too: leave it away.
        progress: Told where the work is.

    Raises:
        LossError: If the images show a loss beyond what was asked of the run.
        PlanError: If the plan does not fit the model.
        OnnxSemiError: If the model, the data or the run cannot be used, or the written file is not
            what the plan says. No file is written then, and an existing one is left as it is.
        TypeError: If the metric does not give one number an image.
        ValueError: If it raises, gives NaN or infinity, or changes what it is given.
    """
    settings, progress = settings or ApplySettings(), listening(progress)
    check_argument("plan", plan, str, os.PathLike)
    check_argument("output", output, str, os.PathLike)
    check_argument("settings", settings, ApplySettings)
    profile, options = settings.profile, settings.data
    target = Path(output)
    asked = apply_request(plan, model, calibration_data, settings)
    _check_places(asked, settings, target, (plan, data))
    _check_metric(metric, asked, data)
    _check_images(asked, profile, given=calibration_data is not None)
    progress.start("reading the model and the images", 1)
    fitted = _fit(asked, settings)
    classifier, rounding = fitted.classifier, Nearest(fitted.scheme)
    shown = _calibration_images(asked, classifier, options)
    ranges = None
    if profile.quantizes_activations:
        ranges = _ranges(asked, fitted, None if calibration_data is None else shown, settings)
    bits = aligned(fitted.plan, classifier.layers, rounding, settings.align)
    noise = random_images(classifier.ends.image)
    workload = Workload(
        classifier, noise, rounding, settings.worker_threads, progress=progress, metric=metric
    )
    loaded = _images(asked, data, options, workload)
    workload = labelled(workload if loaded is None else replace(workload, images=loaded))
    before = workload.float_logits()
    codes = _codes(asked, shown, bits, workload, settings)
    progress.start("writing and verifying", 1)
    here = Processor.here(settings.runs_on)
    plan_file = None if asked.kept is None else plan_path(target)
    beside = companion_path(settings, target)
    with whole_files(target, *filter(None, (plan_file, beside))) as scratches:
        file = Writer(workload, profile, ranges).written(codes, scratches[target], target)
        if plan_file is not None:
            text = _point_document(asked, codes, here).to_json()
            write_text(scratches[plan_file], text, plan_file)
        write_companion(settings, classifier, codes, scratches, target)
        result = ApplyResult(
            output=target,
            profile=profile,
            plan=bits,
            sizes=sizes_of(file.path),
            report=None,
            has_labels=loaded is not None and (loaded.labels is not None or metric is not None),
            kernels=None if ranges is None else kernels_of(file.path, classifier, bits),
            types=narrow_types(codes, profile),
            edited=fitted.edited,
            anew=asked.anew,
            kept=asked.kept,
            point=asked.point,
            plan_file=plan_file,
            origin=_origin(asked.document, codes, here),
        )
        if loaded is not None:
            labels = None if loaded.labels is None else workload.labels
            report = comparison_of(before, file.logits, labels, workload.judge, workload.head)
            result = _judged(result, report, workload.images, Path(plan))
        refuse_loss(result, allowed=settings.allow_loss)
    return result


def _check_places(
    asked: ApplyRequest, settings: ApplySettings, target: Path, read: tuple[object, ...]
) -> None:
    """Refuse a place that the output, or what is written beside it, cannot have."""
    check_output(target, asked.model, *read, asked.images)
    check_companion(settings, target)
    if asked.kept is not None:
        check_outside(Path(asked.name), target, plan_path(target))
        check_writable(plan_path(target))


def _calibration_images(
    asked: ApplyRequest, classifier: Classifier, options: DataOptions
) -> ImageSet | None:
    """Images to round and to calibrate on: those that are given, or a run's own."""
    if asked.images is None:
        return None
    image, own = classifier.ends.image, asked.options
    if own is options:
        own = _no_table(options)
    return load_pixels(asked.images, image.name, image.shape, own, raw=image.pixels)


def _images(
    asked: ApplyRequest, data: Data | None, options: DataOptions, workload: Workload
) -> ImageSet | None:
    """Images to measure accuracy on: those that are given, or a run's own; None for neither."""
    if data is None:
        return None if asked.kept is None else report_images(asked.kept, Path(asked.name), workload)
    own = options if asked.options is options else _no_table(asked.options)
    judged, ends = workload.metric is not None, workload.classifier.ends
    return given_images(data, ends, own, for_metric=judged)


def _judged(result: ApplyResult, report: Comparison, images: ImageSet, run: Path) -> ApplyResult:
    """With what was measured, and of a run's point with what may be claimed."""
    if result.kept is None:
        return replace(result, report=report)
    claim = claimed(result.kept, run, result.plan, (images, report), result.output)
    return replace(result, report=report, verdict=claim.verdict, next_command=claim.next_command)


def _no_table(options: DataOptions) -> DataOptions:
    """Preprocessing alone: a table of labels is of one folder, the user's or the run's."""
    return replace(options, labels=None)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A plan on its model.

    Attributes:
        classifier: The model; it says that the plan was edited.
        plan: Bits of every target channel.
        scheme: Of the grids.
        edited: Whether the bits are others than the tool wrote.
    """

    classifier: Classifier
    plan: BitPlan
    scheme: Scheme
    edited: bool


def _fit(asked: ApplyRequest, settings: ApplySettings) -> _Fitted:
    document = asked.document
    policy = TargetPolicy(document.targets)
    options = ReadOptions(targets=policy, exclude=document.exclude, output=document.output)
    classifier = read_model(asked.model, options)
    plan = _fitted(document, classifier, asked.name)
    edited = document.edited(plan)
    if edited:
        properties = {**classifier.properties, "onnxsemi.plan_edited": "true"}
        classifier = replace(classifier, properties=properties)
    scheme = Scheme(document.scheme)
    if settings.deployment is not None and settings.target is not None:
        settings.deployment.check(plan, scheme, settings.target)
    return _Fitted(classifier, plan, scheme, edited)


def _point_document(asked: ApplyRequest, codes: RoundedPlan, here: Processor) -> PlanFile:
    """The plan of a run's point, to be written beside the output.

    It was made here: on one kind of processor, if the run was measured on this one, too.
    """
    document = asked.document.with_plan(codes.plan, codes.sha256)
    return structs.replace(document, processor=here if here == asked.document.processor else None)


def _origin(document: PlanFile, codes: RoundedPlan, here: Processor) -> Origin | None:
    """The weights beside those where the plan was made, if it says what those were."""
    there = document.weights_of(codes.plan)
    if there is None:
        return None
    return Origin(there == codes.sha256, document.processor, here)


def random_images(image: ImageInput) -> ImageSet:
    """Seeded noise in the model's layout, to compare two models on without data.

    Standard normal; any pixels for an input of uint8.
    """
    if len(image.shape) == 4 and image.shape[1] is None:
        raise DataError("the model's input leaves the number of colour channels open: give `data`")
    shape = (image.batch or _FREE_AXIS, *(size or _FREE_AXIS for size in image.shape[1:]))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, shape) if image.pixels else rng.standard_normal(shape, np.float32)
    return ImageSet("random images", noise.astype(np.float32))


def _check_metric(metric: Metric | None, asked: ApplyRequest, data: Data | None) -> None:
    """Refuse a metric where there are no labels for it."""
    if metric is None or data is not None:
        return
    if asked.kept is None:
        raise SettingsError("metric: needs data, labelled images to measure it on")
    if asked.kept.metric is None:
        raise SettingsError(
            f"{asked.name}: the run was not judged by a metric, and neither are its test images: "
            "give data to measure one on"
        )


def _check_images(asked: ApplyRequest, profile: Profile, *, given: bool) -> None:
    """Refuse images that would be looked at for nothing."""
    needed = profile.quantizes_activations or asked.document.rounding is not None
    if given and not needed:
        raise SettingsError(
            f"`calibration_data`: profile {profile} leaves activations float32, and the plan's "
            "weights are rounded without images"
        )


def _codes(
    asked: ApplyRequest,
    shown: ImageSet | None,
    plan: BitPlan,
    workload: Workload,
    settings: ApplySettings,
) -> RoundedPlan:
    """The plan's codes, rounded on the images that it names, where the settings say."""
    record, path = asked.document.rounding, asked.name
    if record is None:
        return rounded(workload.classifier.layers, plan, workload.rounding)
    if shown is None:
        raise PlanError(
            f"{path}: its weights were rounded on {len(record.digests) or 'calibration'} images: "
            "give the images that were searched on with `calibration_data`"
        )
    if record.digests:
        places = {digest.hex()[:DIGEST]: place for place, digest in enumerate(shown.digests())}
        missing = sum(digest not in places for digest in record.digests)
        if missing:
            raise PlanError(
                f"{path}: {missing} of the {len(record.digests)} images that its weights were "
                f"rounded on are not in {shown.name}: give the images that were searched on, with "
                "the same preprocessing; or empty 'images' in the plan, to round on these"
            )
        shown = shown.select(np.array([places[digest] for digest in record.digests]))
    calibration = replace(workload, images=shown, provider=settings.runs_on)
    with settings.engine() as engine:
        said = engine.admit(reference_run_of(calibration))
        warn(workload.progress, (*check_provider(calibration), *said))
        return _rounder(asked, plan, replace(calibration, engine=engine), record)(plan)


def _rounder(
    asked: ApplyRequest, plan: BitPlan, workload: Workload, record: RoundingRecord
) -> Remembering:
    """Gives the plan its codes, on the run's table if it is there."""
    used, progress = plan.widths - {FLOAT_BITS}, workload.progress
    if asked.table is None:
        return calibrated_rounder(workload, used, record.settings, record.seed, progress)
    run = made_of(asked.table.parent).measured_digest
    table = restored(asked.table, run, workload, used)
    return plan_rounder(workload, table, record.settings, record.seed, progress)


def _ranges(
    asked: ApplyRequest, fitted: _Fitted, given: ImageSet | None, settings: ApplySettings
) -> ActivationRanges:
    """Ranges of the activations: the plan's, or calibrated on images that are given."""
    _check_grids(fitted.scheme, asked.name)
    document = asked.document
    kept = document.rounding is not None and document.activations is not None
    if given is None or kept:
        return _known_ranges(document, fitted.classifier, asked.name)
    sample = drawn(given, settings.calibration_samples)
    return calibrate(fitted.classifier, sample, settings.calibration)


def _check_grids(scheme: Scheme, path: str) -> None:
    if scheme is not Scheme.SYMMETRIC:
        raise PlanError(
            f"{path}: was made on {scheme} grids, and the profile needs symmetric ones, as integer "
            "kernels take no zero points of weights: compress with that `profile`, or `scheme` "
            "symmetric"
        )


def _known_ranges(document: PlanFile, classifier: Classifier, path: str) -> ActivationRanges:
    if document.activations is None:
        raise PlanError(
            f"{path}: holds no ranges of activations, which the profile quantizes: give images "
            "with `calibration_data`, those that were searched on for example"
        )
    there = {classifier.ends.image.name}
    there |= {name for node in classifier.proto.graph.node for name in node.output}
    unknown = next((name for name in document.activations if name not in there), None)
    if unknown is not None:
        raise PlanError(f"{path}: activation {unknown!r} is no tensor of the model")
    return document.activations


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
