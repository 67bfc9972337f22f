"""The kept frontier as a file, ``frontier.json`` in the run's folder (:mod:`onnxsemi._run.store`).

It holds the chosen plan as its own file has it, or if none held what was asked the best of those
that were measured, and the number of weights in one channel of each layer. Every point says which
channels have other bits than in the point before it; the first is compared with float32. So many
plans that are near one another take little room.

Where the model and the images were is said from the run's folder on: it may be moved with them. On
another drive there is no such way, and their name alone is kept.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from onnxsemi._data.load import DataOptions, Preset
from onnxsemi._errors import PlanError, RunError
from onnxsemi._head import Head
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.channel_numbers import channel_ranges, parse_ranges
from onnxsemi._reading import reading
from onnxsemi._run.folder import FRONTIER, made_of
from onnxsemi._run.frontier import KeptFrontier, KeptPoint, Source
from onnxsemi._run.plan_file import PlanFile
from onnxsemi._run.store import read, write
from onnxsemi._search.guard import Guard, IntervalGuard, PointGuard
from onnxsemi._search.tolerance import ToleranceGuard
from onnxsemi._stats.means import Means
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing

_REMEDY = "the command that made the run, with `resume`, writes it again"


class _Comparison(Struct, frozen=True, omit_defaults=True):
    """A pairing: one of the two kinds."""

    paired: Paired | None = None
    means: Means | None = None

    @classmethod
    def of(cls, pairing: Pairing | None) -> "_Comparison":
        return cls(means=pairing) if isinstance(pairing, Means) else cls(paired=pairing)

    @property
    def pairing(self) -> Pairing | None:
        return self.paired or self.means


class _Guard(Struct, frozen=True, omit_defaults=True):
    """A guard: one of the three kinds."""

    point: PointGuard | None = None
    interval: IntervalGuard | None = None
    tolerance: ToleranceGuard | None = None

    @classmethod
    def of(cls, guard: Guard) -> "_Guard":
        return cls(
            point=guard if isinstance(guard, PointGuard) else None,
            interval=guard if isinstance(guard, IntervalGuard) else None,
            tolerance=guard if isinstance(guard, ToleranceGuard) else None,
        )

    @property
    def guard(self) -> Guard:
        found = self.point or self.interval or self.tolerance
        if found is None:
            raise ValueError("no guard")
        return found


class _Point(Struct, frozen=True, kw_only=True):
    """A point; ``bits`` are layer -> bitwidth -> the channels that go there."""

    phase: str
    trial: int | None
    rejected: str | None
    correct: float | int | None
    kl: float | None
    predicted: float | None
    file_bytes: int
    chosen: bool
    compared: _Comparison
    bits: dict[str, dict[int, str]]


class _Options(Struct, frozen=True, kw_only=True):
    """Preprocessing; the table of labels from the run's folder on."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    resize: int | None
    crop: int | None
    preset: Preset | None
    classes: tuple[str, ...] | None
    labels: str | None


class _Source(Struct, frozen=True, kw_only=True):
    """Where model and images are, from the run's folder on."""

    model: str | None
    data: str | None
    options: _Options
    report: str | None
    test_labels: str | None
    test_fraction: float | None
    seed: int

    @classmethod
    def of(cls, source: Source, folder: Path) -> "_Source":
        options = asdict(source.options) | {"labels": _way(source.options.labels, folder)}
        return cls(
            model=_way(source.model, folder),
            data=_way(source.data, folder),
            options=_Options(**options),
            report=_way(source.report, folder),
            test_labels=_way(source.test_labels, folder),
            test_fraction=source.test_fraction,
            seed=source.seed,
        )

    def at(self, folder: Path) -> Source:
        labels, table = _there(self.options.labels, folder), _there(self.test_labels, folder)
        options = msgspec.structs.asdict(self.options) | {"labels": labels}
        return Source(
            model=_there(self.model, folder),
            data=_there(self.data, folder),
            options=DataOptions(**options),
            report=_there(self.report, folder),
            test_labels=None if table is None else str(table),
            test_fraction=self.test_fraction,
            seed=self.seed,
        )


class _Frontier(Struct, frozen=True, kw_only=True):
    """What stands in the file."""

    method: str
    profile: str
    guard: _Guard
    has_labels: bool
    head: Head
    images: int
    correct: float | int
    as_written: _Comparison
    source: _Source
    document: PlanFile
    weights: dict[str, int]
    points: tuple[_Point, ...]


def write_frontier(kept: KeptFrontier, folder: Path) -> None:
    """Write the kept frontier into a run's folder, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    points, before = [], None
    for point in kept.points:
        points.append(_written(point, _moves(before or point.plan.all_float(), point.plan)))
        before = point.plan
    content = _Frontier(
        method=kept.method,
        profile=kept.profile,
        guard=_Guard.of(kept.guard),
        has_labels=kept.has_labels,
        head=kept.head,
        images=kept.images,
        correct=kept.correct,
        as_written=_Comparison.of(kept.as_written),
        source=_Source.of(kept.source, folder),
        document=kept.document,
        weights=dict(kept.points[0].plan.channel_params) if kept.points else {},
        points=tuple(points),
    )
    write(folder / FRONTIER, content, made_of(folder).judged_digest)


def read_frontier(folder: Path) -> KeptFrontier:
    """Read the frontier that a run has kept.

    Raises:
        RunError: If the folder holds none, or it cannot be read.
    """
    run, path = made_of(folder).judged_digest, folder / FRONTIER
    if not path.exists():
        raise RunError(
            f"{folder}: holds no {FRONTIER}, which 'compress' writes when it is done: go on with "
            "`resume` if the run was interrupted"
        )
    found = read(path, _Frontier, run, _REMEDY)
    failure = f"{path}: is of another version"
    try:
        with reading(RunError, failure, _REMEDY):
            return _kept(found, folder)
    except PlanError as error:
        raise RunError(f"{failure}: {error}; {_REMEDY}") from None


def _kept(found: _Frontier, folder: Path) -> KeptFrontier:
    start = BitPlan(found.document.bits, found.weights)
    return KeptFrontier(
        document=found.document,
        source=found.source.at(folder),
        method=found.method,
        profile=found.profile,
        guard=found.guard.guard,
        has_labels=found.has_labels,
        head=found.head,
        images=found.images,
        correct=found.correct,
        as_written=found.as_written.pairing,
        points=tuple(_points(found.points, start.all_float())),
    )


def _way(path: str | os.PathLike[str] | None, folder: Path) -> str | None:
    """How to come to a file from the run's folder."""
    if path is None:
        return None
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return Path(path).name


def _there(way: str | None, folder: Path) -> Path | None:
    """Where it leads to."""
    return None if way is None else Path(os.path.normpath(folder.absolute() / way))


def _written(point: KeptPoint, moves: dict[str, dict[int, str]]) -> _Point:
    return _Point(
        phase=point.phase,
        trial=point.trial,
        rejected=point.rejected,
        correct=point.correct,
        kl=point.kl,
        predicted=point.predicted,
        file_bytes=point.file_bytes,
        chosen=point.chosen,
        compared=_Comparison.of(point.paired),
        bits=moves,
    )


def _moves(before: BitPlan, after: BitPlan) -> dict[str, dict[int, str]]:
    """Layer -> bitwidth -> the channels that go there."""
    moves = {}
    for layer, bits in after.bits.items():
        moved = before.bits[layer] != bits
        reached = np.unique(bits[moved])[::-1].tolist()
        if reached:
            moves[layer] = {
                b: channel_ranges(np.flatnonzero(moved & (bits == b)).tolist()) for b in reached
            }
    return moves


def _points(entries: Iterable[_Point], plan: BitPlan) -> Iterator[KeptPoint]:
    """Each from the one before it, the first from a plan of float32."""
    for entry in entries:
        for layer, reached in entry.bits.items():
            for bits, channels in reached.items():
                moved = parse_ranges(channels, len(plan.bits[layer]))
                plan = plan.with_bits(layer, moved, bits)
        yield KeptPoint(
            plan=plan,
            phase=entry.phase,
            trial=entry.trial,
            rejected=entry.rejected,
            correct=entry.correct,
            paired=entry.compared.pairing,
            kl=entry.kl,
            predicted=entry.predicted,
            file_bytes=entry.file_bytes,
            chosen=entry.chosen,
        )
