"""What a finished run keeps for its report: tables, semilayers, answers, and some of the images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxsemi._arrays import Float32Array, Float64Array, Int64Array, UInt8Array
from onnxsemi._data.images import ImageSet
from onnxsemi._data.labels import answer_numbers
from onnxsemi._data.source import take
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._pipeline.sensitivity import Sensitivity
from onnxsemi._plan.layers import Semilayer, Sign, TargetLayer
from onnxsemi._report.record import ResultArrays
from onnxsemi._search.semilayers import by_sign, whole_layers
from onnxsemi._search.trajectory import Decision, Trajectory
from onnxsemi._stats.likelihood import Likelihood

THUMBNAILS = 48
SIDE = 48
"""Pixels of the longer side of a thumbnail, at the most."""

_SIGNS = {Sign.NEGATIVE: -1, Sign.BOTH: 0, Sign.POSITIVE: 1}


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers on the test images by their numbers, int64[N] each.

    Attributes:
        before: Of the float model.
        after: Of the written file.
        classes: How many classes or labels the model has.
    """

    before: Int64Array
    after: Int64Array
    classes: int

    @classmethod
    def of(cls, before: Float32Array, after: Float32Array, rule: Likelihood) -> "Answers":
        """From logits, float32[N, K] each."""
        first, second = (answer_numbers(rule.answers(logits)) for logits in (before, after))
        return cls(first, second, before.shape[1])


def evidence_of(
    prepared: Prepared,
    sensitivity: Sensitivity,
    trajectory: Trajectory,
    answers: Answers,
) -> ResultArrays:
    """Gather it; nothing is measured for it.

    Args:
        prepared: Model and images.
        sensitivity: Δloss and KL.
        trajectory: What the search did.
        answers: Answers on the test images.
    """
    bits = prepared.settings.search.bits
    layers = prepared.classifier.layers
    found = list(_semilayers(prepared, sensitivity, trajectory))
    place = {layer.name: index for index, layer in enumerate(layers)}
    labels = answer_numbers(prepared.workload(prepared.report).labels)
    shown = changed_answers(labels, answers)[:THUMBNAILS]
    pictures = thumbnails(prepared.report, shown)
    return ResultArrays(
        bits=np.array(bits, np.int64),
        delta_loss=np.concatenate([_delta_loss(layer, sensitivity, len(bits)) for layer in layers]),
        group_layer=np.array([place[group.layer] for group, _ in found], np.int64),
        group_sign=np.array([_SIGNS[group.sign] for group, _ in found], np.int64),
        group_bits=np.array([group.bits for group, _ in found], np.int64),
        group_channels=np.array([len(group.channels) for group, _ in found], np.int64),
        group_delta_loss=np.array([_sum(group, sensitivity) for group, _ in found], np.float64),
        group_kl=np.array([kl for _, kl in found], np.float64),
        tried=np.array(list(tried(trajectory)), np.float64),
        labels=labels,
        before=answers.before,
        after=answers.after,
        shown=shown[: len(pictures)],
        thumbnails=pictures,
    )


def class_names(prepared: Prepared, count: int) -> tuple[str, ...] | None:
    """Names of the model's classes in its order; None if they are not known."""
    given = (prepared.settings.data.classes, prepared.report.classes, prepared.search.classes)
    return next((tuple(names) for names in given if names and len(names) == count), None)


def changed_answers(labels: Int64Array, answers: Answers) -> Int64Array:
    """Images whose answer changed, int64[M]: those broken, those fixed, those wrong both times."""
    other = np.flatnonzero(answers.before != answers.after)
    broken, fixed = answers.before[other] == labels[other], answers.after[other] == labels[other]
    return np.concatenate([other[broken], other[fixed], other[~broken & ~fixed]])


def tried(trajectory: Trajectory) -> Iterator[float]:
    """The paper's compression ratio of the plan of each trial, whatever became of it."""
    reached = {point.trial: point.plan for point in trajectory.points}
    plan, bits = trajectory.points[0].plan, 0
    for trial in trajectory.trials:
        if trial.ranked is None or trial.compression is not None:
            yield trial.compression or 0.0
            continue
        semilayer = trial.ranked.semilayer
        if semilayer.bits != bits:  # what was undone at the last bitwidth is not built upon
            plan = reached[max(number for number in reached if number < trial.number)]
        candidate = reached.get(trial.number) or plan.with_semilayer(semilayer)
        if trial.decision is not Decision.POSTPONED:
            plan = candidate
        bits = semilayer.bits
        yield candidate.compression


def thumbnails(images: ImageSet, indices: Int64Array) -> UInt8Array:
    """Small pictures of some images: uint8[M, H, W, 1 or 3]; none if they are no pictures."""
    pixels = take(images.pixels, indices)
    if pixels.ndim != 4 or not len(pixels):
        return np.zeros((0, 1, 1, 1), np.uint8)
    if pixels.dtype != np.uint8:
        pixels = _as_pixels(pixels)
    if pixels.shape[3] not in (1, 3):
        return np.zeros((0, 1, 1, 1), np.uint8)
    step = -(-max(pixels.shape[1:3]) // SIDE)
    high, wide = (min(step, side) for side in pixels.shape[1:3])
    rows, columns = pixels.shape[1] // high, pixels.shape[2] // wide
    whole = pixels[:, : rows * high, : columns * wide].astype(np.float64)
    # [M, H, W, C] -> [M, rows, high, columns, wide, C]
    blocks = whole.reshape(len(whole), rows, high, columns, wide, -1)
    result: UInt8Array = np.rint(blocks.mean(axis=(2, 4))).astype(np.uint8)
    return result


def _as_pixels(images: NDArray[np.float32]) -> UInt8Array:
    """float32 images of whatever layout, each from its darkest to its brightest value."""
    if images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)  # [M, C, H, W] -> [M, H, W, C]
    low = images.min(axis=(1, 2, 3), keepdims=True)
    span = images.max(axis=(1, 2, 3), keepdims=True) - low
    scaled = 255 * (images - low) / np.where(span > 0, span, 1)
    result: UInt8Array = np.rint(scaled).astype(np.uint8)
    return result


def _delta_loss(layer: TargetLayer, sensitivity: Sensitivity, width: int) -> Float64Array:
    table = sensitivity.table
    if table is None or layer.name not in table.nats:
        return np.full((layer.channels, width), np.nan)
    return table.nats[layer.name]


def _sum(group: Semilayer, sensitivity: Sensitivity) -> float:
    if sensitivity.table is None:
        return float("nan")
    values = sensitivity.table.column(group.layer, group.bits)
    return float(values[np.array(group.channels)].sum())


def _semilayers(
    prepared: Prepared, sensitivity: Sensitivity, trajectory: Trajectory
) -> Iterator[tuple[Semilayer, float]]:
    """Semilayers of all channels at every bitwidth, with their KL as far as it is known."""
    counts = {layer.name: layer.channels for layer in prepared.classifier.layers}
    channels = {name: range(counts[name]) for name in prepared.free()}
    known = _exact(trajectory)
    for bits in prepared.settings.search.bits:
        table = sensitivity.table
        split = table and by_sign(channels, table, bits)
        for group in split or whole_layers(channels, bits):
            kl = sensitivity.fast_kl(group)
            yield group, known.get(group, float("nan")) if kl is None else kl


def _exact(trajectory: Trajectory) -> Mapping[Semilayer, float]:
    """KL that the paper's search ranked by; the frontier's ranks hold something else."""
    return {
        trial.ranked.semilayer: trial.ranked.kl
        for trial in trajectory.trials
        if trial.ranked is not None and trial.compression is None
    }
