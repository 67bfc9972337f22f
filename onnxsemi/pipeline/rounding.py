"""How plans get their codes: nearest levels, or rounded on calibration images."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.errors import RunError
from onnxsemi.measure.bench import Bench
from onnxsemi.measure.folds import Fold, Folds, Remembering
from onnxsemi.measure.rounding_table import rounding_table
from onnxsemi.measure.sequential import SequentialRounder, from_table
from onnxsemi.pipeline.prepare import Prepared, drawn
from onnxsemi.plan import BitPlan
from onnxsemi.progress import Progress, Silent, Within
from onnxsemi.quantizer.affine import QuantizedChannels
from onnxsemi.quantizer.rounded import Nearest, RoundedPlan, Rounding, rounded
from onnxsemi.rounding.settings import Inputs, RoundingSettings
from onnxsemi.rounding.table import RoundingTable
from onnxsemi.run.folder import RunFolder
from onnxsemi.run.journal import Question
from onnxsemi.run.store import Array, read_arrays, write_arrays


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
    """

    rounding: Rounding
    rounder: Remembering
    folds: Folds


def codes_of(prepared: Prepared, run: RunFolder, progress: Progress) -> Codes:
    """What the settings ask for.

    Args:
        prepared: Model and images.
        run: Recalls and keeps what is computed.
        progress: Told of every image and layer.
    """
    settings, seed = prepared.settings.rounds, prepared.settings.seed
    every = replace(prepared.bench(prepared.search), progress=Within(progress))
    images = np.arange(len(prepared.search))
    if settings is None:
        rounding = Nearest(prepared.settings.grids)
        layers = prepared.classifier.layers

        nearest = Remembering(lambda plan: rounded(layers, plan, rounding))
        return Codes(rounding, nearest, Folds(every, (Fold(nearest, images),)))
    pinned = {pin.bits for pin in prepared.settings.pins} - {FLOAT_BITS}
    bits = sorted({*prepared.settings.search.bits, *pinned}, reverse=True)

    def rounder(bench: Bench, name: str) -> tuple[RoundingTable, Remembering]:
        table = _table(bench, bits, settings, seed, (name, run, progress))
        return table, plan_rounder(bench, table, settings, seed, Within(progress))

    table, own = rounder(prepared.bench(prepared.rounding), "rounding")
    if not len(prepared.crossed):
        return Codes(table, own, Folds(every, (Fold(own, images),)))
    others = np.setdiff1d(images, prepared.crossed)
    second = drawn(prepared.search.select(others), len(prepared.crossed), seed)
    _, crossed = rounder(prepared.bench(second), "crossed")
    folds = Fold(own, others), Fold(crossed, prepared.crossed)
    return Codes(table, own, Folds(every, folds))


def calibrated_rounder(
    bench: Bench, bits: Collection[int], settings: RoundingSettings, seed: int, progress: Progress
) -> Remembering:
    """Gives plans of some bitwidths their codes.

    Args:
        bench: The float model and calibration images.
        bits: Bitwidths that the plans have.
        settings: How to round.
        seed: Of the positions that are drawn.
        progress: Told of every image and layer.
    """
    table = rounding_table(bench, sorted(bits), settings, seed, progress)
    return plan_rounder(bench, table, settings, seed, progress)


def plan_rounder(
    bench: Bench, table: RoundingTable, settings: RoundingSettings, seed: int, progress: Progress
) -> Remembering:
    """Rounds plans on the grids of a table. Tells of every layer."""
    one_by_one = SequentialRounder(bench, table, settings, seed)

    def give(plan: BitPlan) -> RoundedPlan:
        if plan == plan.all_float() or settings.inputs is Inputs.FLOAT:
            return from_table(bench.classifier, table, plan)
        return one_by_one(plan, progress)

    return Remembering(give)


def _table(
    bench: Bench,
    bits: list[int],
    settings: RoundingSettings,
    seed: int,
    where: tuple[str, RunFolder, Progress],
) -> RoundingTable:
    """The rounding table, from the run's folder if it is there."""
    name, run, progress = where
    path, built = run.file(f"{name}.npz"), list[RoundingTable]()

    def build(told: Progress) -> RoundingTable:
        table = rounding_table(bench, bits, settings, seed, told)
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
        return restored(path, run.made_of.measured_digest, bench, bits)
    return build(Silent())  # the run was kept, but not the file


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


def restored(path: Path, run: str, bench: Bench, bits: Collection[int]) -> RoundingTable:
    """A table that a run has kept, for some of its bitwidths.

    Args:
        path: The file.
        run: Digest of the run.
        bench: The float model.
        bits: The bitwidths.

    Raises:
        RunError: If the file cannot be read, or does not hold them.
    """
    remedy = "delete it, and the weights are rounded again"
    arrays = read_arrays(path, run, remedy)
    names = [site.layer.name for site in bench.classifier.sites]
    if missing := {f"codes_{n}_{b}" for n in range(len(names)) for b in bits} - arrays.keys():
        raise RunError(f"{path}: holds no {min(missing)}; {remedy}")
    entries = {
        name: {
            b: QuantizedChannels(
                codes=arrays[f"codes_{place}_{b}"],
                scale=arrays[f"scale_{place}_{b}"],
                zero_point=arrays[f"zero_{place}_{b}"],
                bits=b,
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
    return RoundingTable(bench.scheme, entries, shifts, damping)
