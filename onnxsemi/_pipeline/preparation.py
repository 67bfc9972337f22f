"""Model and data read, checked against each other, and kept apart by what they are for."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._data.checks import check_classes, sample, too_few
from onnxsemi._data.images import ImageSet
from onnxsemi._data.load import Data
from onnxsemi._data.sample import refuse_overlap, split, stratified
from onnxsemi._errors import DataError, SettingsError
from onnxsemi._evaluation.batch_independence import check_own_answers
from onnxsemi._evaluation.provider_check import check_provider, reference_run_of
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.loader import Model, path_of
from onnxsemi._model.reader import read_model
from onnxsemi._pipeline.memory_need import check_memory
from onnxsemi._pipeline.sanity_checks import LEAST_IMAGES, JudgedImages, check_answers, checked
from onnxsemi._pipeline.user_images import given_images
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Progress, Silent
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._runtime.engine import THREADS, Engine
from onnxsemi._runtime.memory import default_memory, share_heap
from onnxsemi._search.guard import Guard
from onnxsemi._search.strategy import Strategy
from onnxsemi._settings import FEWEST_DEALT, Settings
from onnxsemi._stats.metric import Metric


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that measuring needs.

    Attributes:
        classifier: The float model.
        search: Images for KL and accuracy during the search, labelled.
        delta_loss: Those of them that Δloss is measured on: none that weights are rounded on, as
            rounding makes small what it does to its own images.
        calibration: Those of them that activations are calibrated on.
        rounding: Those of them that weights are rounded on; their labels are not used.
        fresh: int64[F], indices in ``search`` of those that are in neither: predictions and the KL
            of plans are checked on them.
        crossed: int64[C], indices in ``search`` of those that weights are rounded on, where images
            are few: plans are rounded a second time, on others, to answer these. Else none.
        report: Images that the search never sees, labelled.
        has_labels: Whether the labels came with the data, or are the float model's answers. Labels
            for a metric are no classes: the float model's answers are what losses are measured by.
        settings: What the user set.
        memory: Bytes that the process may take.
        files: Where the model was, the calibration images and the test images; None for what came
            from no file of its own.
        splits: Whether the test images are a part of those that were given to search on.
        warnings: What is likely to be wrong with the images or their labels.
        metric: What plans are judged by instead of right answers; None for these.
        metric_id: Which function that is, by its name and what it gives; None likewise.
        engine: Where what is measured is worked on.
    """

    classifier: Classifier
    search: ImageSet
    delta_loss: ImageSet
    calibration: ImageSet
    rounding: ImageSet
    fresh: Int64Array
    crossed: Int64Array
    report: ImageSet
    has_labels: bool
    settings: Settings
    memory: int
    files: tuple[Path | None, Path | None, Path | None]
    splits: bool
    warnings: tuple[str, ...] = ()
    metric: Metric | None = None
    metric_id: str | None = None
    engine: Engine = THREADS

    def workload(self, images: ImageSet) -> Workload:
        """The model on some of the images, to measure."""
        provider, engine = self.settings.runs_on, self.engine
        return replace(self.judging(images), provider=provider, engine=engine)

    def judging(self, images: ImageSet) -> Workload:
        """The same on this processor, whatever measures: to verify and to judge what is written."""
        rounding, threads = Nearest(self.settings.grids), self.settings.worker_threads
        return Workload(self.classifier, images, rounding, threads, self.memory, metric=self.metric)

    @property
    def strategy(self) -> Strategy:
        """How bitwidths are found."""
        return self.settings.search.strategy

    @property
    def guard(self) -> Guard:
        """What is asked of the plan that is chosen."""
        return self.strategy.guard(has_labels=self.has_labels)

    @property
    def unseen(self) -> Int64Array:
        """int64[U], calibration images that nothing was fitted to: the KL is their mean."""
        return np.union1d(self.fresh, self.crossed)

    def pinned(self) -> dict[str, int]:
        """Layer -> bitwidth that a pin gives it; the last matching pin wins."""
        names = [layer.name for layer in self.classifier.layers]
        return {name: pin.bits for name in names for pin in self.settings.pins if pin.matches(name)}

    def start(self) -> BitPlan:
        """The plan to start from: float32 but for pinned layers."""
        plan = BitPlan.uniform(self.classifier.layers)
        for name, bits in self.pinned().items():
            plan = plan.with_layers([name], bits)
        return plan

    def free(self) -> list[str]:
        """Names of the layers that no pin speaks of, in graph order."""
        pinned = self.pinned()
        names = [layer.name for layer in self.classifier.layers]
        return [name for name in names if name not in pinned]


def prepare(
    model: Model,
    data: Data,
    test_data: Data | None,
    settings: Settings,
    metric: Metric | None = None,
    progress: Progress | None = None,
    engine: Engine = THREADS,
) -> Prepared:
    """Read a model and its images.

    Args:
        model: The ONNX model.
        data: Images to search on; without ``test_data`` a part of them is kept for the report.
        test_data: Images that the search must not see.
        settings: What the user set.
        metric: What plans are judged by instead of right answers; None for these.
        progress: Told of every image that the float model runs on.
        engine: Where what is measured is to be worked on.

    Raises:
        OnnxSemiError: If anything cannot be used; nothing has been measured yet.
    """
    for_metric = metric is not None
    if for_metric:
        settings.search.strategy.check_metric()
    classifier = read_model(model, settings.model)
    _check_patterns(classifier, settings)
    if test_data is None and settings.test_labels is not None:
        raise SettingsError("`test_labels`: needs `test_data`, the folder that they are of")
    searched = given_images(data, classifier.ends, settings.data, for_metric=for_metric)
    memory = settings.max_memory or default_memory()
    rounding = Nearest(settings.grids)
    workload = Workload(
        classifier,
        searched,
        rounding,
        settings.worker_threads,
        memory,
        progress or Silent(),
        metric,
    )
    if settings.max_memory is not None:
        share_heap()
        check_memory(memory, workload, settings)
    searched, warnings = _sane(workload, settings)
    check_own_answers(classifier.proto, classifier.ends, searched)
    measured = replace(workload, images=searched, provider=settings.runs_on)
    warnings += check_provider(measured) + engine.admit(reference_run_of(measured))
    if test_data is None:
        searched, report = split(searched, settings.test_fraction, settings.seed)
    else:
        report = _report_images(workload, test_data, settings)
        report, said = _sane(replace(workload, images=report), settings)
        refuse_overlap(searched, report)
        warnings += said
    warnings += _enough(searched, report, settings)
    if settings.search_images is not None:
        searched = drawn(searched, settings.search_images, settings.seed)
    subsets = subsets_of(searched, settings)
    return Prepared(
        classifier=classifier,
        search=searched,
        delta_loss=searched.select(subsets.delta_loss),
        calibration=drawn(searched, settings.calibration_samples, settings.seed),
        rounding=searched.select(subsets.rounding),
        fresh=subsets.fresh,
        crossed=subsets.rounding if settings.crosses(len(searched)) else subsets.rounding[:0],
        report=report,
        has_labels=workload.images.labelled,
        settings=settings,
        memory=memory,
        files=(path_of(model), _path(data), _path(test_data)),
        splits=test_data is None,
        warnings=warnings,
        metric=metric,
        metric_id=_identity(replace(workload, images=sample(searched))),
        engine=engine,
    )


def _report_images(workload: Workload, data: Data, settings: Settings) -> ImageSet:
    """Test images of their own, as they come.

    Args:
        workload: The model on the calibration images as they came.
        data: Where they are.
        settings: What the user set.

    Raises:
        DataError: If they cannot be used, or only one of the two has labels.
    """
    searched, judged = workload.images, workload.metric is not None
    options = replace(settings.data, labels=settings.test_labels)
    report = given_images(data, workload.classifier.ends, options, for_metric=judged)
    if report.labelled != searched.labelled:
        raise DataError(
            f"{searched.name} and {report.name}: one has labels, the other has none; "
            "give both or neither"
        )
    return report


def _identity(workload: Workload) -> str | None:
    """Which metric models are judged by; None without one."""
    judge = workload.judge
    return None if judge is None else judge.identity(workload.float_logits())


def _path(data: Data | None) -> Path | None:
    return Path(data) if isinstance(data, str | os.PathLike) else None


def once(workload: Workload) -> Workload:
    """Each image once, with labels as :func:`labelled` gives them."""
    return labelled(
        replace(workload, images=checked(workload.images, partial(_logits, workload)).images)
    )


def _logits(workload: Workload, images: ImageSet) -> Float32Array:
    """float32[N, K] of the float model on other images."""
    return replace(workload, images=images).float_logits()


def _sane(workload: Workload, settings: Settings) -> tuple[ImageSet, tuple[str, ...]]:
    """Each image once, with labels, and what is likely to be wrong with them.

    Raises:
        DataError: If the labels cannot be those of the images, unless it is forced.
    """
    forward = partial(_logits, workload)
    fitting = checked(workload.images, forward)
    seen = sample(fitting.images)
    judged = JudgedImages(seen, forward(seen), forward, workload.head)
    said = check_answers(judged, fitting.doubts, force=settings.force)
    images = labelled(replace(workload, images=fitting.images)).images
    return images, (*fitting.warnings, *said)


def _enough(search: ImageSet, report: ImageSet, settings: Settings) -> tuple[str, ...]:
    """What to say of too few images.

    Raises:
        DataError: If there are too few to search on, unless it is forced.
    """
    few = too_few(search, LEAST_IMAGES)
    if few is not None and not settings.force:
        kept = f" ({len(report)} more are kept for the test)" if search.name == report.name else ""
        raise DataError(f"{few}{kept}; `force` searches on them all the same")
    return tuple(said for said in (few, too_few(report, LEAST_IMAGES)) if said is not None)


def labelled(workload: Workload) -> Workload:
    """The same with checked labels; without labels, with the float model's own answers.

    Raises:
        DataError: If a label is no class of the model, or class folders are not as many.
        ModelError: If the model cannot run the images.
    """
    images = workload.images
    if images.labels is None:
        logits = workload.float_logits()
        check_classes(images, logits.shape[1])
        answers = workload.likelihood.answers(logits)
        return replace(workload, images=images.with_labels(answers, workload.head))
    classes = workload.first(1).float_logits().shape[1]
    check_classes(images, classes)
    images.check_labels(classes)
    return workload


def drawn(images: ImageSet, count: int, seed: int = 0) -> ImageSet:
    """A seeded sample with the shares of the classes, in order; all if there are no more."""
    return images.select(stratified(images.strata, count, seed))


@dataclass(frozen=True, eq=False)
class Subsets:
    """Calibration images by what they are for: indices int64[], ascending.

    Attributes:
        rounding: Weights are rounded on them.
        delta_loss: Δloss and the KL of channels are measured on them.
        fresh: In neither; if nothing is rounded on images, or there are too few, all of them.
    """

    rounding: Int64Array
    delta_loss: Int64Array
    fresh: Int64Array


def subsets_of(images: ImageSet, settings: Settings) -> Subsets:
    """At most half of the images to round on, and at most half of the others for Δloss."""
    every, classes = np.arange(len(images)), images.strata
    if settings.rounds is None or len(images) < FEWEST_DEALT:
        loss = stratified(classes, settings.delta_loss_images, settings.seed)
        return Subsets(every, loss, every)
    count = min(settings.rounding_images, len(images) // 2)
    rounding = stratified(classes, count, settings.seed)
    others = np.setdiff1d(every, rounding)
    count = min(settings.delta_loss_images, len(others) // 2)
    loss = others[stratified(classes[others], count, settings.seed)]
    return Subsets(rounding, loss, np.setdiff1d(others, loss))


def _check_patterns(classifier: Classifier, settings: Settings) -> None:
    """A pattern that matches nothing is a typing mistake, and would silently change the result."""
    names = [layer.name for layer in classifier.layers]
    for pin in settings.pins:
        if not any(pin.matches(name) for name in names):
            raise SettingsError(f"`pins`: {pin.pattern!r} matches no target layer")
    excluded = {skipped.reason for skipped in classifier.skipped}
    for pattern in settings.model.exclude:
        if f"excluded by {pattern!r}" not in excluded:
            raise SettingsError(f"`exclude` {pattern!r} matches no layer that would be a target")
