"""How small models get at the same accuracy: the frontier, the paper's method, uniform bitwidths.

    python benchmarks/frontier.py --shared ../shared

Three parts, every row in a process of its own, which leaves a JSON file in the work folder; a row
that is there already is not run again:

*whole*: ``compress`` as a user runs it, with labels and without any; with ``--rounding rate`` and
profile dense; the paper's method on the same layers. Accuracy on the test images, which no search
saw. Passes are ratios of CPU time.
*ingredients*: the plan that the frontier found, rounded anew with one ingredient taken away.
*curve*: file size against accuracy on the test images: uniform bitwidths, the paper's method at
growing drops, plans of the frontier; the same rounded for an entropy coder, as profile dense, down
to 0.3 bits a weight.

At the end the tables in ``benchmarks/README.md`` and the figure ``frontier.png`` are written
anew.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, data_of, real
from frontier_table import write_all
from tables import note_processor

import onnxsemi
from onnxsemi import ReadOptions, RoundingSettings, RunOptions, SearchSettings, Settings
from onnxsemi._data.load import load_images
from onnxsemi._evaluation.folds import Rounder
from onnxsemi._evaluation.forward import forward
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.head import find_ends
from onnxsemi._model.loader import load_proto
from onnxsemi._pipeline.output import Writer
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.rounding import calibrated_rounder, codes_of
from onnxsemi._pipeline.run_identity import Clock
from onnxsemi._pipeline.search import Search
from onnxsemi._pipeline.sensitivity import measure_sensitivity
from onnxsemi._pipeline.sizes import sizes_of
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._run.folder import nowhere
from onnxsemi._run.plan_file import read_plan
from onnxsemi._runtime.runner import Runner
from onnxsemi._search.frontier import frontier, merged_groups
from onnxsemi._search.observer import Watch
from onnxsemi._stats.metrics import hits, kl_divergence
from onnxsemi._stats.paired import Paired

WHOLE = ("frontier", "rate", "without labels", "semilayer")
LARGE = {"efficientnet": ("frontier", "rate")}
"""Models of which there are these rows only."""
INGREDIENTS: dict[str, dict[str, Any]] = {
    "all of them": {},
    "ranges: mse": {"ranges": "mse"},
    "ranges: minmax": {"ranges": "minmax"},
    "rounding: nearest": {"method": "nearest"},
    "inputs: float": {"inputs": "float"},
    "no bias correction": {"bias_correction": False},
    "zero points on whole steps": {"half_steps": False},
    "no coordinate descent": {"sweeps": 0},
    "all of the above (nearest, minmax)": {
        "ranges": "minmax",
        "method": "nearest",
        "inputs": "float",
        "bias_correction": False,
        "half_steps": False,
    },
}
DROPS = (0.0, 0.5, 1.0, 2.0, 5.0)
MEAN_BITS = (8.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5)
RATES = (4.0, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.3)


def main() -> None:
    """Run what is missing, then write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("frontier"), help="results so far")
    parser.add_argument(
        "--models", nargs="*", default=None, help="fashion, resnet20, resnet18, efficientnet"
    )
    parser.add_argument("--parts", nargs="*", default=["whole", "ingredients", "curve"])
    parser.add_argument("--row", nargs=2, help="run one row of one model in this process")
    arguments = parser.parse_args()
    known = real(arguments.shared)
    if arguments.row:
        name, row = arguments.row
        folder = arguments.work / name
        folder.mkdir(parents=True, exist_ok=True)
        result = _run(known[name], row, folder)
        (folder / f"{row}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        return
    rows = {"whole": WHOLE, "ingredients": ("ingredients",), "curve": ("curve",)}
    for name in arguments.models or known:
        for row in (row for part in arguments.parts for row in rows[part]):
            if row not in LARGE.get(name, (row,)):
                continue
            if not (arguments.work / name / f"{row}.json").exists():
                print(f"{name}: {row}", flush=True)
                note_processor(arguments.work)
                paths = ["--shared", arguments.shared, "--work", arguments.work]
                command = [sys.executable, __file__, *map(str, paths), "--row", name, row]
                subprocess.run(command, check=True)
    write_all({name: case.title for name, case in known.items()}, arguments.work)


def _run(case: Case, row: str, folder: Path) -> Any:
    if row == "ingredients":
        return _ingredients(case, folder)
    if row == "curve":
        return _curve(case, folder)
    return _whole(case, row, folder)


def _settings(case: Case, **search: Any) -> Settings:
    return Settings(
        search=SearchSettings(**search), model=ReadOptions(targets="all"), data=case.data
    )


def _coded(case: Case) -> Settings:
    """Weights rounded for an entropy coder, and stored so."""
    how = RoundingSettings(method="rate")
    return replace(_settings(case), rounding=how, profile="dense")


def _whole(case: Case, row: str, folder: Path) -> dict[str, Any]:
    """``compress`` as a user runs it."""
    image = find_ends(load_proto(case.model), None).image
    search, report = (
        load_images(data_of(path, case.data), image.name, image.shape, case.data)
        for path in (case.search, case.report)
    )
    given = [search, report]
    if row == "without labels":
        given = [replace(images, labels=None) for images in given]
    method = "semilayer" if row == "semilayer" else "frontier"
    settings = _coded(case) if row == "rate" else _settings(case, method=method)
    settings = replace(settings, run=RunOptions(folder=folder / f"{row}.run"))
    one_pass = _pass_cpu_seconds(prepare(case.model, search, report, settings))
    output, began = folder / f"{row}.onnx", time.process_time()
    result = onnxsemi.compress(
        case.model, given[0], test_data=given[1], output=output, settings=settings
    )
    spent = time.process_time() - began
    before, after = (
        _logits(path, report, settings.worker_threads) for path in (case.model, output)
    )
    return {
        **_accuracy(before, after, report.labels),
        "sizes": {name: getattr(result.sizes, name) for name in ("targets", "model", "file")},
        "bytes": result.sizes.bytes_after,
        "mean_bits": result.plan.mean_bits,
        "search": [result.search.total, result.search.broken, result.search.fixed],
        "trials": len(result.trajectory.trials),
        "passes": spent / one_pass,
    }


def _ingredients(case: Case, folder: Path) -> dict[str, Any]:
    """The frontier's plan, rounded anew with one ingredient taken away."""
    prepared = prepare(case.model, case.search, case.report, _settings(case))
    document = read_plan(folder / "frontier.plan.json")
    plan = document.fit(prepared.classifier.layers)
    bits = plan.widths
    results = {}
    for name, changes in INGREDIENTS.items():
        settings, workload = RoundingSettings(**changes), prepared.workload(prepared.rounding)
        rounder = calibrated_rounder(workload, bits, settings, 0, Silent())
        results[name] = _measured(prepared, rounder, plan, folder / "ingredient.onnx")
        print(f"  {name}: KL {results[name]['kl']:.4f}", flush=True)
    return results


def _curve(case: Case, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Points of the three curves."""
    settings = _settings(case, method="semilayer", bits=(8, 6, 4, 3, 2))
    prepared = prepare(case.model, case.search, case.report, settings)
    output = folder / "curve.onnx"
    codes = codes_of(prepared, nowhere(), Silent())
    layers = prepared.classifier.layers
    uniform = [BitPlan.uniform(layers, bits) for bits in range(8, 0, -1)]
    curves = {"uniform": [_measured(prepared, codes.rounder, plan, output) for plan in uniform]}
    paper = list(_paper_plans(prepared))
    curves["paper"] = [_measured(prepared, codes.rounder, plan, output) for plan in paper]
    prepared = replace(prepared, settings=_settings(case))
    codes = codes_of(prepared, nowhere(), Silent())
    plans = frontier_plans(prepared, codes.rounding, MEAN_BITS)
    curves["frontier"] = [_measured(prepared, codes.rounder, plan, output) for plan in plans]
    prepared = replace(prepared, settings=_coded(case))
    codes = codes_of(prepared, nowhere(), Silent())
    plans = frontier_plans(prepared, codes.rounding, RATES)
    curves["rate"] = [_measured(prepared, codes.rounder, plan, output) for plan in plans]
    return curves


def _paper_plans(prepared: Prepared) -> Iterable[BitPlan]:
    """What the paper's method gives at growing drops, each once."""
    run, progress = nowhere(), Silent()
    codes = codes_of(prepared, run, progress)
    sensitivity = measure_sensitivity(prepared, codes.rounding, run, progress)
    search = Search(prepared, codes, sensitivity, run, Clock(None), progress)
    trajectory = prepared.strategy.search(search.problem(Watch(progress)))
    seen = []
    for drop in DROPS:
        plan = trajectory.choose(drop).plan
        if plan not in seen and plan.saved_parameters:
            seen.append(plan)
            yield plan


def frontier_plans(prepared: Prepared, rounding: Any, sizes: Sequence[float]) -> list[BitPlan]:
    """Plans of the frontier at some mean bitwidths."""
    sensitivity = measure_sensitivity(prepared, rounding, nowhere(), Silent())
    assert sensitivity.kl_increase is not None
    free = prepared.free()
    path = frontier(prepared.start(), sensitivity.kl_increase, free)
    points_between = path.points_between(256)
    means = np.array([path.plan(stop).mean_bits for stop in points_between])
    chosen = [points_between[int(np.abs(means - bits).argmin())] for bits in sizes]
    return [merged_groups(path.plan(stop), free) for stop in chosen]


def _measured(prepared: Prepared, rounder: Rounder, plan: BitPlan, output: Path) -> dict[str, Any]:
    """Write and verify a plan's file; compare it with the float model on the test images."""
    workload = prepared.workload(prepared.report)
    before = workload.forward(prepared.classifier.proto)
    with Writer(workload, prepared.settings.profile).written(rounder(plan), output) as file:
        after = file.logits
    sizes = sizes_of(output)
    return {
        **_accuracy(before, after, workload.labels),
        "bytes": sizes.bytes_after,
        "bytes_before": sizes.bytes_before,
        "mean_bits": 32 * (1 - sizes.targets),
    }


def _accuracy(before: Any, after: Any, labels: Any) -> dict[str, Any]:
    paired = Paired.of(hits(before, labels), hits(after, labels))
    return {
        "total": paired.total,
        "before": paired.before,
        "broken": paired.broken,
        "fixed": paired.fixed,
        "change": 100 * paired.change,
        "interval": [100 * end for end in paired.interval],
        "kl": float(np.mean(kl_divergence(before, after))),
    }


def _logits(path: Path, images: Any, threads: int) -> Any:
    proto = load_proto(path)
    ends = find_ends(proto, None)
    with Runner(ends.image.batch, threads) as runner:
        return forward(proto, ends, images, runner, Silent())


def _pass_cpu_seconds(prepared: Prepared) -> float:
    """CPU time of one float32 forward pass over the calibration images: the median of three."""
    workload: Workload = prepared.workload(prepared.search)
    times = []
    for _ in range(3):
        began = time.process_time()
        workload.forward(workload.classifier.proto)
        times.append(time.process_time() - began)
    return sorted(times)[1]


if __name__ == "__main__":
    main()
