"""How plans get their codes: nearest levels, or rounded on calibration images."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxsemi._data.images import ImageSet
from onnxsemi._errors import RunError
from onnxsemi._evaluation.folds import Fold, Folds, Remembering
from onnxsemi._evaluation.workload import Workload
from onnxsemi._pipeline.preparation import Prepared, drawn
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS, is_coded
from onnxsemi._progress import Progress, Within
from onnxsemi._quantizer.affine import QuantizedChannels
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, Rounding, rounded
from onnxsemi._quantizer.settings import Inputs, RoundingSettings
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.sequential import SequentialRounder, from_table
from onnxsemi._rounding.spread_walk import SpreadRounder
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._run.folder import RunFolder
from onnxsemi._run.journal import Question
from onnxsemi._run.store import Array, read_arrays, write_arrays

SCOUTED = 256
"""Images to round on for a quick look, at most half of the others (``benchmarks/scouting.py``)."""
FEWEST_SCOUTED = 64


class Table(Question, frozen=True):
    """A rounding table by the name of its file; how many layers it has."""

    name: str
    settings: RoundingSettings
    bits: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Codes:
    """Where codes come from.

    Attributes:
        rounding: What a channel becomes by itself: Δloss and KL are measured with it.
        rounder: Gives a whole plan its codes and biases.
        folds: Plans are measured with these: few images are answered by a second rounding, too.
        scout: Gives plans other codes, from few images, to see where measuring is worth it; None
            where that would take hardly less.
    """

    rounding: Rounding
    rounder: Remembering
    folds: Folds
    scout: Remembering | None = None

    @property
    def nearest(self) -> bool:
        """Whether weights have their nearest levels, which takes no images."""
        return isinstance(self.rounding, Nearest)


def codes_of(prepared: Prepared, run: RunFolder, progress: Progress) -> Codes:
    """What the settings ask for.

    Args:
        prepared: Model and images.
        run: Recalls and keeps what is computed.
        progress: Told of every image and layer.
    """
    settings, seed = prepared.settings.rounds, prepared.settings.seed
    every = replace(prepared.workload(prepared.search), progress=Within(progress))
    images = np.arange(len(prepared.search))
    if settings is None:
        return nearest_codes(prepared, every)
    pinned = {pin.bits for pin in prepared.settings.pins} - {FLOAT_BITS}
    bits = sorted({*prepared.settings.search.bits, *pinned}, reverse=True)

    def rounder(workload: Workload, name: str) -> tuple[RoundingTable, Remembering]:
        table = _table(workload, bits, settings, seed, (name, run, progress))
        return table, plan_rounder(workload, table, settings, seed, Within(progress))

    table, own = rounder(prepared.workload(prepared.rounding), "rounding")
    few = scouted_images(prepared.rounding, seed)
    scout = None
    if few is not None:
        scout = plan_rounder(prepared.workload(few), table, settings, seed, Within(progress))
    if not len(prepared.crossed):
        return Codes(table, own, Folds(every, (Fold(own, images),)), scout)
    others = np.setdiff1d(images, prepared.crossed)
    second = drawn(prepared.search.select(others), len(prepared.crossed), seed)
    _, crossed = rounder(prepared.workload(second), "crossed")
    folds = Fold(own, others), Fold(crossed, prepared.crossed)
    return Codes(table, own, Folds(every, folds), scout)


def scouted_images(images: ImageSet, seed: int) -> ImageSet | None:
    """Those of the images that weights are rounded on for a quick look; None of too few."""
    count = min(SCOUTED, len(images) // 2)
    return drawn(images, count, seed) if count >= FEWEST_SCOUTED else None


def nearest_codes(prepared: Prepared, every: Workload) -> Codes:
    """Every weight at its nearest level, which takes no images.

    Args:
        prepared: Model, images, settings.
        every: The model on all calibration images.
    """
    rounding, layers = Nearest(prepared.settings.grids), prepared.classifier.layers
    nearest = Remembering(lambda plan, _: rounded(layers, plan, rounding))
    return Codes(rounding, nearest, Folds(every, (Fold(nearest, np.arange(len(every.images))),)))


def calibrated_rounder(
    workload: Workload,
    bits: Collection[int],
    settings: RoundingSettings,
    seed: int,
    progress: Progress,
) -> Remembering:
    """Gives plans of some bitwidths their codes.

    Args:
        workload: The float model and calibration images.
        bits: Bitwidths that the plans have.
        settings: How to round.
        seed: Of the positions that are drawn.
        progress: Told of every image and layer.
    """
    table = rounding_table(workload, sorted(bits), settings, seed, progress)
    return plan_rounder(workload, table, settings, seed, progress)


def plan_rounder(
    workload: Workload,
    table: RoundingTable,
    settings: RoundingSettings,
    seed: int,
    progress: Progress,
) -> Remembering:
    """Rounds plans on the grids of a table. Tells of every layer."""
    rounder = SpreadRounder if workload.engine.workers else SequentialRounder
    one_by_one = rounder(workload, table, settings, seed)

    def give(plan: BitPlan, known: RoundedPlan | None) -> RoundedPlan:
        if plan == plan.all_float() or settings.inputs is Inputs.FLOAT:
            return from_table(workload.classifier, table, plan)
        return one_by_one(plan, progress, known)

    if isinstance(one_by_one, SpreadRounder):
        return Remembering(give, one_by_one.foresee)
    return Remembering(give)


def _table(
    workload: Workload,
    bits: list[int],
    settings: RoundingSettings,
    seed: int,
    where: tuple[str, RunFolder, Progress],
) -> RoundingTable:
    """The rounding table, from the run's folder if it is there."""
    name, run, progress = where
    path, built = run.file(f"{name}.npz"), list[RoundingTable]()

    def build(progress: Progress) -> RoundingTable:
        table = rounding_table(workload, bits, settings, seed, progress)
        if path is not None:
            _save(path, table, run.made_of.measured_digest)
        return table

    def measure() -> int:
        built.append(build(progress))
        return len(built[0].entries)

    run.journal.ask(Table(name, settings, tuple(bits)), int, measure)
    if built:
        return built[0]
    if path is not None and path.exists():
        return restored(path, run.made_of.measured_digest, workload, bits)
    return build(progress)  # the run was kept, but not the file


def _save(path: Path, table: RoundingTable, run: str) -> None:
    arrays: dict[str, Array] = {}
    for place, (name, entries) in enumerate(table.entries.items()):
        for bits, channels in entries.items():
            key = f"{place}_{bits}"
            arrays |= {f"codes_{key}": channels.codes, f"scale_{key}": channels.scale}
            arrays |= {
                f"zero_{key}": channels.zero_point,
                f"kind_{key}": np.array(channels.doubled),
            }
            if name in table.shifts:
                arrays[f"shift_{key}"] = table.shifts[name][bits]
        if name in table.damping:
            arrays[f"damping_{place}"] = table.damping[name]
    write_arrays(path, arrays, run)


def restored(path: Path, run: str, workload: Workload, bits: Collection[int]) -> RoundingTable:
    """A table that a run has kept, for some of its bitwidths.

    Args:
        path: The file.
        run: Digest of the run.
        workload: The float model.
        bits: The bitwidths.

    Raises:
        RunError: If the file cannot be read, or does not hold them.
    """
    remedy = "delete it, and the weights are rounded again"
    arrays = read_arrays(path, run, remedy)
    names = [site.layer.name for site in workload.classifier.sites]
    if missing := {f"codes_{n}_{b}" for n in range(len(names)) for b in bits} - arrays.keys():
        raise RunError(f"{path}: holds no {min(missing)}; {remedy}")
    entries = {
        name: {
            b: QuantizedChannels(
                codes=arrays[f"codes_{place}_{b}"],
                scale=arrays[f"scale_{place}_{b}"],
                zero_point=arrays[f"zero_{place}_{b}"],
                bits=MAX_BITS if is_coded(b) else b,
                doubled=bool(arrays[f"kind_{place}_{b}"]),
            )
            for b in bits
        }
        for place, name in enumerate(names)
    }
    shifts = {
        name: {b: arrays[f"shift_{place}_{b}"] for b in bits}
        for place, name in enumerate(names)
        if all(f"shift_{place}_{b}" in arrays for b in bits)
    }
    damping = {
        name: arrays[f"damping_{place}"]
        for place, name in enumerate(names)
        if f"damping_{place}" in arrays
    }
    return RoundingTable(workload.scheme, entries, shifts, damping)
