"""What everything is measured on: a model, images, a quantizer, threads, memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array, Int64Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.sent import SentImages
from onnxsemi._evaluation.float_answers import FloatAnswers, float_answers
from onnxsemi._evaluation.forward import answers, forward
from onnxsemi._evaluation.outcomes import Outcomes
from onnxsemi._evaluation.plan_model import PlanModel
from onnxsemi._head import Head
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.shapes import Extent, Shape, extents
from onnxsemi._progress import Progress, Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Rounding
from onnxsemi._run.spent import Spent
from onnxsemi._runtime.batch_sizes import LIVE_TENSORS, RUN_BYTES
from onnxsemi._runtime.engine import (
    MOST_TASK_IMAGES,
    TASK_IMAGES,
    TASK_SECONDS,
    THREADS,
    Engine,
    parts_for,
)
from onnxsemi._runtime.memory import UNBOUNDED, held, resident
from onnxsemi._runtime.providers import CPU, Provider
from onnxsemi._runtime.runner import Runner
from onnxsemi._runtime.sessions import Session
from onnxsemi._stats.likelihood import LIKELIHOODS, Likelihood
from onnxsemi._stats.metric import Judge, Metric


@dataclass(frozen=True, eq=False)
class Workload:
    """What the variants of every layer are measured on.

    Attributes:
        classifier: The float model.
        images: Labelled images laid out for it.
        rounding: Gives the codes of quantized channels.
        threads: Batches run at once.
        memory: Bytes that the process may take.
        progress: Told of every image in a pass.
        metric: What models are judged by instead of right answers; None for these.
        provider: What runs the model and its parts.
        engine: Where that is done.
    """

    classifier: Classifier
    images: ImageSet
    rounding: Rounding
    threads: int
    memory: int = UNBOUNDED
    progress: Progress = field(default_factory=Silent)
    metric: Metric | None = None
    provider: Provider = CPU
    engine: Engine = THREADS

    @property
    def scheme(self) -> Scheme:
        """The scheme of the grids."""
        return self.rounding.scheme

    @property
    def head(self) -> Head:
        """What the model's scores are."""
        return self.classifier.ends.head

    @property
    def likelihood(self) -> Likelihood:
        """What is measured of its logits."""
        return LIKELIHOODS[self.head]

    @property
    def labels(self) -> Int64Array:
        """Labels of the images: int64[N]; int64[N, L] of 0 and 1 if judged per label."""
        if self.images.labels is None:
            raise ValueError("variants are measured on labelled images")
        return self.images.labels

    @property
    def judge(self) -> Judge | None:
        """The metric on the labels of the images; None without one."""
        targets = self.images.targets
        return None if self.metric is None or targets is None else Judge(self.metric, targets)

    def first(self, count: int) -> "Workload":
        """The same with no more than the first ``count`` images."""
        indices = np.arange(min(count, len(self.images)))
        return replace(self, images=self.images.select(indices))

    @property
    def free(self) -> int:
        """Bytes that may still be taken."""
        return UNBOUNDED if self.memory == UNBOUNDED else max(0, self.memory - resident())

    def room(self, most: int) -> int:
        """Bytes that may still be taken, of no more than ``most`` that there is a use for.

        Where memory is plenty, what was freed is not given back to be counted: that takes time, and
        page faults afterwards.
        """
        plenty = self.memory == UNBOUNDED or self.memory - held() >= most
        return most if plenty else min(most, self.free)

    def together(self, each: int = 0) -> int:
        """Results of ``each`` bytes to have there or under way: enough for every thread."""
        most = 2 * self.threads
        return max(1, self.room(most * each) // each) if each else most

    def rows(self, most: int, free: int | None = None) -> int:
        """Images in one run: at most ``most``, fewer of large ones. Changes no result.

        Args:
            most: As many as there is a use for.
            free: Bytes of which half may be taken; what is free unless given.
        """
        most = max(1, min(most, RUN_BYTES // self._row_bytes))
        if self.memory == UNBOUNDED:
            return most
        each = 2 * self.threads * self._row_bytes
        if free is None:
            free = self.room(most * each)
        return max(1, min(most, free // each))

    def forward(self, model: onnx.ModelProto, *, integers: bool = False) -> Float32Array:
        """Logits of a model of the same form over all images: float32[N, K]; by this process.

        Integer kernels are the processor's, whatever the provider.
        """
        ends, progress = self.classifier.ends, self.progress
        with self.running() as runner:
            if integers:
                return forward(model, ends, self.images, runner, progress, integers=True)
            return forward(model, ends, self.images, runner, progress, provider=self.provider)

    def open(self, model: bytes, *, shared: bool = False) -> Session:
        """A session of a part of the model, on the provider.

        Args:
            model: Serialized ONNX ModelProto.
            shared: Whether it takes its memory from one allocator with others.
        """
        return Session(model, self.provider, shared=shared)

    def float_logits(self) -> Float32Array:
        """Logits of the float model over all images: float32[N, K]. None goes through it twice."""
        known = self._float_answers

        def run(images: ImageSet) -> Float32Array:
            spent = known.spent if self.provider == CPU else None  # what costs are counted in
            return replace(self, images=images).answers(PlanModel(), spent)

        # other parts of the images than plans answer would be sent once more
        return known.of(self.images, run, self.provider, whole=self.engine.workers > 0)

    def float_outcomes(self) -> Outcomes:
        """What the float model's answers come to."""
        logits = self.float_logits()
        return Outcomes.of(logits, logits, self.labels, self.likelihood, self.judge)

    def outcomes(self, model: PlanModel) -> Outcomes:
        """What a plan's answers to all images come to.

        They are looked at where they are given; a metric, which is the user's, is asked here.

        Args:
            model: The plan.
        """
        reference, engine = self.float_logits(), self.engine
        if not engine.workers or self.judge is not None:
            logits = self.answers(model)
            return Outcomes.of(logits, reference, self.labels, self.likelihood, self.judge)
        parts = parts_for(engine, len(self.images), self.task_images, MOST_TASK_IMAGES)
        with engine.shared(model) as shared:
            tasks = (
                (own := self.part(part)).begin(_outcomes, shared, own.placed_logits())
                for part in parts
            )
            counts = [part.stop - part.start for part in parts]
            return Outcomes.joined(list(self.results("forward pass", tasks, counts)))

    def placed_logits(self) -> Any:
        """What stands for the float model's logits in tasks on these images."""
        key = "float", self.images.origin, self.images.places.tobytes(), self.provider
        return self.engine.place(key, self.float_logits)

    def answers(self, model: PlanModel, spent: list[Spent] | None = None) -> Float32Array:
        """Logits of a plan over all images: float32[N, K].

        Args:
            model: The plan.
            spent: Is given what an image took on its thread, in some batches.
        """
        parts = parts_for(self.engine, len(self.images), self.task_images, MOST_TASK_IMAGES)
        counts, found = [part.stop - part.start for part in parts], []
        with self.engine.shared(model) as shared:
            tasks = (self.part(part).begin(_answers, shared) for part in parts)
            for logits, each in self.results("forward pass", tasks, counts):
                found.append(logits)
                if spent is not None:
                    spent += each
        return found[0] if len(found) == 1 else np.concatenate(found)

    def part(self, chosen: slice) -> "Workload":
        """The same with some of the images."""
        every = np.arange(len(self.images))
        if len(every[chosen]) == len(every):
            return self
        return replace(self, images=self.images.select(every[chosen]))

    def begin(self, work: Callable[..., Any], *given: Any) -> Any:
        """Begin a task on the engine.

        Args:
            work: A function of a module, whose first argument is this workload: on the engine's
                workers on one thread, without progress.
            given: Its other arguments; see :class:`~onnxsemi._runtime.engine.Engine`.
        """
        (task,) = begin_all(work, [(self, given)])
        return task

    def placed(self) -> tuple[Any, ...]:
        """What stands for model, quantizer and images in the arguments of tasks."""
        engine, images = self.engine, self.images
        labels = None if images.labels is None else images.labels.tobytes()
        key = images.origin, images.places.tobytes(), labels
        there = engine.place(key, partial(SentImages.of, images, by_files=engine.sees_files))
        return engine.share(self.classifier), engine.share(self.rounding), there

    def results(self, phase: str, tasks: Iterable[Any], steps: Sequence[int]) -> Iterator[Any]:
        """Results of tasks, in order. What runs here tells the progress itself.

        Args:
            phase: What this is.
            tasks: Begun as they are taken.
            steps: What each is of the phase.
        """
        if self.where:
            self.progress.start(phase, sum(steps))
        for amount, result in zip(steps, self.taken(tasks, self.progress), strict=True):
            if self.where:
                self.progress.step(self.where, amount)
            yield result

    def taken(self, tasks: Iterable[Any], progress: Progress) -> Iterator[Any]:
        """Results of tasks, in order.

        Args:
            tasks: Begun as they are taken.
            progress: Told who works, for as long as none ends.
        """
        return self.engine.results(tasks, lambda: progress.step(self.where, 0))

    @property
    def where(self) -> str:
        """Who works, for the progress; empty if it is this process."""
        return self.engine.where

    @property
    def float_runs(self) -> list[Spent]:
        """What an image took in each batch of the float model, but the first of a session."""
        return self._float_answers.spent

    @property
    def image_seconds(self) -> float:
        """CPU seconds of an image in the float model, always the same; 0 where it is not known."""
        return self._float_answers.image_seconds

    @property
    def task_images(self) -> int:
        """Images of a task at least, so that it is worth to hand it over. Changes no result."""
        each = self.image_seconds
        enough = math.ceil(TASK_SECONDS / each) if each else TASK_IMAGES
        return max(TASK_IMAGES, min(MOST_TASK_IMAGES, enough))

    @property
    def unanswered(self) -> int:
        """How many of the images the float model was not run on yet."""
        return len(self._float_answers.missing(self.images, self.provider))

    @property
    def _float_answers(self) -> FloatAnswers:
        return float_answers(self.classifier)

    def running(self) -> Runner:
        """Runs the model and its parts, on its threads and within its memory."""
        return Runner(self.classifier.ends.image.batch, self.threads, self.rows)

    @cached_property
    def image(self) -> Shape:
        """Shape of one image in the model's layout."""
        return self.images.row

    @property
    def extents(self) -> Mapping[str, Extent]:
        """Sizes of the float tensors of the model."""
        return extents(self.classifier, self.image)

    @cached_property
    def _row_bytes(self) -> int:
        """Bytes that one image takes while the model runs, from above."""
        return 4 * LIVE_TENSORS * max(math.prod(e.sizes) for e in self.extents.values())


def begin_all(
    work: Callable[..., Any], every: Sequence[tuple[Workload, tuple[Any, ...]]]
) -> list[Any]:
    """Begin tasks of one kind at once; see :meth:`Workload.begin`.

    Args:
        work: See there.
        every: Workloads of one engine and provider, and the other arguments of each task.
    """
    engine, provider = every[0][0].engine, every[0][0].provider
    if not engine.workers:
        return [work(one, *given) for one, given in every]
    return engine.begin_all(
        _Task(work, provider), [(*one.placed(), *given) for one, given in every]
    )


@dataclass(frozen=True)
class _Task:
    """Work on a workload that is put together where its parts are.

    Attributes:
        work: A function of a module.
        provider: What runs the model.
    """

    work: Callable[..., Any]
    provider: Provider

    @property
    def __name__(self) -> str:
        """As it is shown."""
        return self.work.__name__

    def __call__(
        self, classifier: Classifier, rounding: Rounding, images: ImageSet, *given: Any
    ) -> Any:
        """Work on one thread."""
        provider = replace(self.provider, threads=1)
        return self.work(Workload(classifier, images, rounding, 1, provider=provider), *given)


def _answers(workload: Workload, model: PlanModel) -> tuple[Float32Array, list[Spent]]:
    """Logits of a plan over the images, and what an image took in batches but the first."""
    spent = list[Spent]()
    workload.progress.start("forward pass", len(workload.images))
    session, ends = model.session(workload.classifier, workload.provider), workload.classifier.ends
    with workload.running() as runner:
        logits = answers(session, ends, workload.images, runner, workload.progress, spent)
    return logits, spent


def _outcomes(workload: Workload, model: PlanModel, reference: Float32Array) -> Outcomes:
    """What a plan's answers to the images come to."""
    logits, _ = _answers(workload, model)
    return Outcomes.of(logits, reference, workload.labels, workload.likelihood)
