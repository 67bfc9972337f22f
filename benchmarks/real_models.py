"""Real models at every size: what rounding, allocation and semilayers are worth, beside others.

    python benchmarks/real_models.py --shared ../shared
    python benchmarks/real_models.py --shared ../shared --models efficientnet --parts uniform layers

Every row is made in a process of its own, whose peak of memory is its own, and kept as a line of
``benchmarks/real_models.jsonl``; a row that is there is not made again: delete its line to make it
anew. Rows are

*nearest b*: one bitwidth for all, minimum to maximum, to the nearest level (plain rounding).
*uniform b*: one bitwidth for all, rounded as ``compress`` does by default.
*layers b*: bitwidths by layer, as large as *uniform b*, same rounding: no semilayers.
*frontier b*: bitwidths by channel, as large as *uniform b*, same rounding.
*compress*: the command with its defaults. With ``--run`` the row is read from a finished run.
*semilayer*: the paper's method, ``--method semilayer``.
*static int8*: ONNX Runtime's own ``quantize_static``, QDQ, a scale a channel, activations too,
calibrated on as many calibration images as the package would take.

The rounding table, Δloss and its reliability are made once a model (*tables*), and kept as the
package keeps a run. As in ``compress`` the KL increase is corrected by plans of one bitwidth: here
by the KL of all rows *uniform* on the calibration images that weights are not rounded on. No row
looks at a test image before its plan is fixed.

At the end the tables in ``benchmarks/README.md`` and ``real_models.png`` are written anew.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import Case, data_of, real
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from real_models_table import NARROW, Row, keep_row, read_rows, write_all

import onnxsemi
from onnxsemi import OnnxSemiError, RunOptions, SearchSettings, Settings
from onnxsemi._arrays import Float32Array
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.loader import model_files
from onnxsemi._pipeline.output import Writer
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.rounding import Codes, codes_of
from onnxsemi._pipeline.run_identity import made_of, open_run_of
from onnxsemi._pipeline.sensitivity import measure_sensitivity
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, rounded
from onnxsemi._report.record import read_result
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._runtime.memory import peak
from onnxsemi._search.frontier_course import Course, even
from onnxsemi._search.protocols import DeltaLossTable
from onnxsemi._stats.comparison import Comparison, comparison_of
from onnxsemi._stats.metrics import kl_divergence

Made = dict[str, Any]

BITS = (8, *NARROW)
PARTS = {
    "nearest": tuple(f"nearest {bits}" for bits in BITS),
    "static": ("static int8",),
    "tables": ("tables",),
    "uniform": tuple(f"uniform {bits}" for bits in BITS),
    "frontier": tuple(f"frontier {bits}" for bits in NARROW),
    "layers": tuple(f"layers {bits}" for bits in NARROW),
    "compress": ("compress",),
    "semilayer": ("semilayer",),
}


def main() -> None:
    """Make what is missing, then write tables and figure."""
    arguments = _arguments()
    known = real(arguments.shared)
    if arguments.row:
        name, row = arguments.row
        Model(name, known[name], arguments.work / name, arguments.budget).make(row)
        return
    for name in arguments.models:
        model = Model(name, known[name], arguments.work / name, arguments.budget)
        if arguments.run is not None and "compress" not in model.rows():
            keep_row(name, "compress", model.of_run(arguments.run))
        parts = [part for part in PARTS if part in arguments.parts]
        for row in (row for part in parts for row in PARTS[part]):
            if row not in model.rows():
                _make(arguments, name, row)
    write_all({name: case.title for name, case in known.items()})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument(
        "--work", type=Path, default=Path("real_models"), help="tables and runs so far"
    )
    names = ["efficientnet", "resnet20", "fashion", "resnet18"]
    parser.add_argument("--models", nargs="*", choices=names, default=names)
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--run", type=Path, help="a finished run for the row compress of a model")
    parser.add_argument("--budget", type=float, help="seconds for compress and for semilayer")
    parser.add_argument("--row", nargs=2, help="make one row of one model in this process")
    arguments = parser.parse_args()
    if arguments.run is not None and len(arguments.models) != 1:
        parser.error("--run is a run of one model: name it with --models")
    return arguments


def _make(arguments: argparse.Namespace, name: str, row: str) -> None:
    """Make a row in a process of its own."""
    print(f"{name}: {row}", flush=True)
    command = [sys.executable, __file__, "--shared", arguments.shared, "--work", arguments.work]
    if arguments.budget is not None:
        command += ["--budget", arguments.budget]
    subprocess.run([*map(str, command), "--row", name, row], check=True)


@dataclass(frozen=True)
class Model:
    """A model with its rows.

    Attributes:
        name: Its short name.
        case: What is measured.
        folder: Where tables and files are.
        budget: Seconds for a whole command; None for no limit.
    """

    name: str
    case: Case
    folder: Path
    budget: float | None = None

    def rows(self) -> Mapping[str, Row]:
        """The rows that are there."""
        return read_rows(self.name)

    def make(self, name: str) -> None:
        """Make and keep a row."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kind, _, bits = name.partition(" ")
        if kind in ("compress", "semilayer"):
            row = self._command(kind)
        elif kind == "static":
            row = self._static()
        elif kind == "tables":
            row = self._tables()
        elif kind == "nearest":
            row = self._nearest(int(bits))
        else:
            row = self._plan(kind, int(bits))
        keep_row(self.name, name, row | {"peak_bytes": peak()})

    def of_run(self, run: Path) -> Made:
        """The row of a finished run."""
        found, chosen = read_result(run).document, read_frontier(run).chosen
        assert chosen is not None
        report, sizes, cost = found.report, found.sizes, found.cost
        return {
            "bytes": sizes.bytes_after,
            "bytes_before": sizes.bytes_before,
            "mean_bits": found.plan.mean_bits,
            "images": report.total,
            "broken": report.broken,
            "fixed": report.fixed,
            "change": 100 * report.change,
            "interval": [100 * end for end in report.interval],
            "same": report.same,
            "kl": report.kl,
            "kl_search": chosen.kl,
            "predicted": chosen.predicted,
            "image_forwards": cost.passes * found.search.total,
            "trials": cost.trials,
            "search_images": found.search.total,
        }

    def _prepared(self, **options: Any) -> Prepared:
        case, settings = self.case, self._settings(**options)
        search, report = (data_of(path, case.data) for path in (case.search, case.report))
        return prepare(case.model, search, report, settings)

    def _settings(self, **options: Any) -> Settings:
        samples = self.case.search_samples
        return Settings(data=self.case.data, search_samples=samples, **options)

    def _command(self, kind: str) -> Made:
        """``compress`` as a user runs it, or by the paper's method."""
        method = "semilayer" if kind == "semilayer" else "frontier"
        run, case = self.folder / f"{kind}.run", self.case
        settings = self._settings(
            search=SearchSettings(method=method),
            run=RunOptions(folder=run, resume=True, time_budget=self.budget),
        )
        data = [data_of(path, case.data) for path in (case.search, case.report)]
        begun, output = time.process_time(), self.folder / f"{kind}.onnx"
        try:
            onnxsemi.compress(
                case.model, data[0], output=output, test_data=data[1], settings=settings
            )
        except OnnxSemiError as error:
            return {"failed": str(error).partition(": nothing was written")[0]}  # no path of here
        return self.of_run(run) | {"cpu_seconds": time.process_time() - begun}

    def _tables(self) -> Made:
        """Make the rounding table and Δloss; both are kept."""
        with self._measured() as measured:
            return _cost(measured.prepared, measured.cpu_seconds)

    def _nearest(self, bits: int) -> Made:
        """One bitwidth for all, plainly rounded."""
        prepared = self._prepared()
        layers, begun = prepared.classifier.layers, time.process_time()
        codes = rounded(layers, BitPlan.uniform(layers, bits), Nearest(prepared.settings.grids))
        cost = _cost(prepared, time.process_time() - begun)
        return self._written(prepared, codes) | cost

    def _plan(self, kind: str, bits: int) -> Made:
        """One bitwidth for all, or a plan of that size."""
        missing = [name for name in PARTS["uniform"] if name not in self.rows()]
        if kind != "uniform" and missing:
            raise SystemExit(f"{missing[0]!r} corrects the frontier: add --parts uniform")
        with self._measured() as measured:
            course = self._course(measured, corrected=kind != "uniform")
            plan = course.uniform(bits)
            known = course.prediction
            if kind == "layers":
                known = replace(known, kl_increase=even(known.kl_increase))
                course = Course(course.start, course.free, known.kl_increase)
            if kind != "uniform":
                plan = course.at_most(plan)
            begun = time.process_time()
            codes = measured.codes.rounder(plan)
            cost = _cost(measured.prepared, time.process_time() - begun)
            found = self._written(measured.prepared, codes)
            return found | cost | {"predicted": known.of(plan)}

    def _course(self, measured: "_Measured", *, corrected: bool) -> Course:
        """The frontier, corrected by what plans of one bitwidth were found to do."""
        course = Course(measured.prepared.start(), measured.prepared.free(), measured.kl_increase)
        if corrected:
            rows = self.rows()
            for bits in BITS:
                course.observe(course.uniform(bits), rows[f"uniform {bits}"]["kl_search"])
            course.correct()
        return course

    @contextmanager
    def _measured(self) -> Iterator["_Measured"]:
        """Rounding table and Δloss, from the folder if they are there."""
        prepared, begun = self._prepared(), time.process_time()
        options = RunOptions(folder=self.folder / "tables.run", resume=True)
        with open_run_of(options, made_of(prepared)) as run:
            codes = codes_of(prepared, run, Silent())
            sensitivity = measure_sensitivity(prepared, codes.rounding, run, Silent())
            assert sensitivity.kl_increase is not None
            yield _Measured(prepared, codes, sensitivity.kl_increase, time.process_time() - begun)

    def _static(self) -> Made:
        """ONNX Runtime's static quantization."""
        prepared, output = self._prepared(), self.folder / "static.onnx"
        begun = time.process_time()
        quantize_static(
            self.case.model,
            output,
            _Reader(prepared),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        cost = _cost(prepared, time.process_time() - begun)
        workload = prepared.workload(prepared.report)
        before = workload.forward(prepared.classifier.proto)
        after = workload.forward(onnx.load(output), integers=True)
        found = _compared(comparison_of(before, after, workload.labels))
        return found | self._bytes(output) | cost | {"mean_bits": 8.0}

    def _written(self, prepared: Prepared, codes: RoundedPlan) -> Made:
        """Write and verify a plan's file; compare it with the float model."""
        report, search = prepared.workload(prepared.report), prepared.workload(prepared.search)
        others = replace(search, images=search.images.select(prepared.fresh))
        output = self.folder / "plan.onnx"
        before = report.forward(prepared.classifier.proto)
        with Writer(report, prepared.settings.profile).written(codes, output) as file:
            after = file.logits
        float_ones = others.forward(prepared.classifier.proto)
        simulated = others.forward(simulate(prepared.classifier, codes))
        return _compared(comparison_of(before, after, report.labels)) | {
            **self._bytes(output),
            "mean_bits": codes.plan.mean_bits,
            "kl_search": float(np.mean(kl_divergence(float_ones, simulated))),
            "search_images": len(prepared.search),
        }

    def _bytes(self, output: Path) -> Made:
        before = sum(path.stat().st_size for path in model_files(self.case.model))
        return {"bytes": output.stat().st_size, "bytes_before": before}


@dataclass(frozen=True, eq=False)
class _Measured:
    """What plans are drawn from.

    Attributes:
        prepared: Model and images.
        codes: Gives plans their codes.
        kl_increase: KL of every channel quantized alone, as far as it holds for other images.
        cpu_seconds: What making or reading them took.
    """

    prepared: Prepared
    codes: Codes
    kl_increase: DeltaLossTable
    cpu_seconds: float


class _Reader(CalibrationDataReader):
    """The calibration images, one at a time."""

    def __init__(self, prepared: Prepared) -> None:
        images, name = prepared.calibration, prepared.classifier.ends.image.name
        self._feeds = ({name: images.batch(i, i + 1)} for i in range(len(images)))

    def get_next(self) -> dict[str, Float32Array] | None:
        """The next image; None after the last."""
        return next(self._feeds, None)


def _compared(found: Comparison) -> Made:
    assert found.top1 is not None
    return {
        "images": found.images,
        "broken": found.top1.broken,
        "fixed": found.top1.fixed,
        "change": 100 * found.top1.change,
        "interval": [100 * end for end in found.top1.interval],
        "same": found.same,
        "kl": found.kl,
    }


def _cost(prepared: Prepared, cpu_seconds: float) -> Made:
    """CPU time, also in that of a float32 forward pass of one image."""
    workload, begun = prepared.workload(prepared.search), time.process_time()
    workload.forward(workload.classifier.proto)
    each = (time.process_time() - begun) / len(workload.images)
    return {"cpu_seconds": cpu_seconds, "image_forwards": cpu_seconds / each}


if __name__ == "__main__":
    main()
