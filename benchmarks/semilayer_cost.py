"""What the paper's search costs, and fast against exact Δloss: passes, agreement, memory.

    python benchmarks/semilayer_cost.py --shared ../shared

Every measurement runs in a process of its own and leaves a JSON file in the work folder; one that
is there already is not run again. Costs are in passes: CPU time divided by the CPU time of one
float32 forward pass over the same calibration images in the same process, so that what else runs
on the machine does not count. At the end the table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import Case, random, trained
from random_resnets import random_images, random_resnet
from semilayer_cost_table import DROPS, LADDER, write_table
from tables import note_processor

import onnxsemi
from onnxsemi import Method, ReadOptions, RunOptions, SearchSettings, Settings
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._progress import Silent
from onnxsemi._run.journal import Journal
from onnxsemi._runtime.memory import parse_memory, peak
from onnxsemi._sensitivity.agreement import SampleRequest, measure_agreement
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.variants import Variant, measure_plainly, measure_variants

REPEATS = 3
SEEDS = 5  # runs that compare fast with exact


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("semilayer_cost"), help="results so far")
    parser.add_argument("--only", nargs="*", default=None, help="jobs to run, such as tables")
    parser.add_argument("--job", nargs=3, help="run one job of one model in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = trained(arguments.shared) | random(arguments.work)
    if arguments.job:
        name, job, number = arguments.job
        _run(known[name], job, int(number), arguments.work / f"{name}-{job}-{number}.json")
        return
    write_random_models(arguments.work)
    for name, job, number in _jobs(known):
        if arguments.only is not None and job not in arguments.only:
            continue
        if not (arguments.work / f"{name}-{job}-{number}.json").exists():
            print(f"{name}: {job} {number}", flush=True)
            note_processor(arguments.work)
            paths = ["--shared", arguments.shared, "--work", arguments.work]
            command = [sys.executable, __file__, *map(str, paths), "--job", name, job, str(number)]
            subprocess.run(command, check=True)
    write_table(known, arguments.work)


def _jobs(known: dict[str, Case]) -> list[tuple[str, str, int]]:
    jobs = [(name, "tables", n) for name in known for n in range(REPEATS)]
    whole = [name for name, case in known.items() if case.compared]
    jobs += [(name, "compress", n) for name in whole for n in range(REPEATS)]
    jobs += [(name, "plain", n) for name in whole for n in range(REPEATS)]
    jobs += [(name, "signs", 0) for name, case in known.items() if case.compared]
    jobs += [("random50", "memory", 0)]
    jobs += [("resnet20", method, n) for n in range(SEEDS) for method in ("fast", "exact")]
    return jobs


def write_random_models(work: Path) -> None:
    """Write the ResNets for 224x224 images and images for them, where they are missing."""
    for depth in (18, 34, 50):
        path = work / f"random{depth}.onnx"
        if not path.exists():
            onnx.save(random_resnet(depth), path)
    for name, count, seed in (("search", 1000, 2), ("report", 64, 3)):
        path = work / f"random_{name}.npz"
        if not path.exists():
            images, labels = random_images(count, seed)
            np.savez(path, x=images, y=labels)


def _run(case: Case, job: str, number: int, target: Path) -> None:
    jobs: dict[str, Callable[[Case], dict[str, Any]]] = {
        "tables": _tables,
        "compress": _compress,
        "plain": _plain,
        "signs": _signs,
        "fast": partial(_same_images, method=Method.FAST, seed=number),
        "exact": partial(_same_images, method=Method.EXACT, seed=number),
        "memory": _memory,
    }
    result = jobs[job](case)
    result["peak_bytes"] = peak()
    target.write_text(json.dumps(result, indent=1), encoding="utf-8")


def _settings(case: Case, **options: Any) -> Settings:
    chosen: dict[str, Any] = {
        "search": SearchSettings(method="semilayer", bits=LADDER),
        "model": ReadOptions(targets="hidden"),
        "data": case.data,
        "delta_loss_samples": case.delta_loss_samples,
        "search_samples": case.search_samples,
        "force": True,  # of random models the labels are random, too
    }
    return Settings(**(chosen | options))


def _prepared(case: Case, **options: Any) -> Prepared:
    return prepare(case.model, case.search, case.report, _settings(case, **options))


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds of all threads."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _pass_seconds(prepared: Prepared) -> float:
    """CPU seconds of one float32 forward pass over the calibration images, the less of two."""
    workload = prepared.workload(prepared.search)
    return min(_cpu(lambda: workload.forward(workload.classifier.proto)) for _ in range(2))


def _tables(case: Case) -> dict[str, Any]:
    """Δloss and KL of all channels and bitwidths, and the comparison with exact on a sample."""
    prepared = _prepared(case)
    one = _pass_seconds(prepared)
    workload, layers = prepared.workload(prepared.delta_loss), prepared.free()

    def tables() -> None:
        FastMeasurement(workload, layers, LADDER, 0).measure(Silent(), lambda: None).delta_loss()

    bare = _cpu(tables)
    request = SampleRequest(layers, LADDER, 0)
    compared = _cpu(lambda: measure_agreement(workload, request, Silent(), Journal()))
    return {"passes": (bare + compared) / one, "compared": compared / one, "pass_cpu_seconds": one}


def _compress(case: Case) -> dict[str, Any]:
    """The whole command, from reading the model to the verified file."""
    one = _pass_seconds(_prepared(case))
    results = []
    output = Path(f"semilayer_cost-{os.getpid()}.onnx")
    arguments = (case.model, case.search)
    settings = _settings(case)

    def work() -> None:
        results.append(
            onnxsemi.compress(*arguments, output=output, test_data=case.report, settings=settings)
        )

    began = time.perf_counter()
    cpu = _cpu(work)
    seconds = time.perf_counter() - began
    output.unlink()
    output.with_suffix(".plan.json").unlink()
    return {"passes": cpu / one, "seconds": seconds, **_summary(results[0])}


def _summary(result: onnxsemi.CompressResult) -> dict[str, Any]:
    report = result.report.answers
    return {
        "targets": result.sizes.targets,
        "file": result.sizes.file,
        "trials": result.cost.trials,
        "searched": [result.search.before, result.search.after, result.search.total],
        "reported": [100 * report.change, *(100 * end for end in report.interval)],
        "agreement": [(a.bits, a.same_sign, a.kl_rank) for a in result.sensitivity.agreement],
        "images": sum(trial.score.measured for trial in result.trajectory.trials),
        "total": result.search.total,
    }


def _plain(case: Case) -> dict[str, Any]:
    """Set the weight, run everything: extrapolated from one channel in each of eight layers."""
    prepared = _prepared(case)
    workload, sites = prepared.workload(prepared.delta_loss), prepared.classifier.sites
    chosen = [sites[place] for place in np.linspace(0, len(sites) - 1, 8).round().astype(int)]
    variants = [Variant((0,), 4)]
    # measure_plainly runs the float model first: two variants less one leave one
    twice = _cpu(
        lambda: [measure_plainly(workload, s, variants * 2, lambda _n: None) for s in chosen]
    )
    once = _cpu(lambda: [measure_plainly(workload, s, variants, lambda _n: None) for s in chosen])
    channels = sum(site.layer.channels for site in sites)
    plain = (twice - once) / len(chosen) * channels * len(LADDER)
    fast = _cpu(
        lambda: FastMeasurement(workload, prepared.free(), LADDER, 0).measure(
            Silent(), lambda: None
        )
    )
    return {"ratio": plain / fast, "evaluations": channels * len(LADDER)}


def _signs(case: Case) -> dict[str, Any]:
    """Sign of Δloss, fast against exact on the same images, all layers."""
    prepared = _prepared(case, delta_loss_samples=case.compared)
    workload, free = prepared.workload(prepared.delta_loss), prepared.free()
    table = FastMeasurement(workload, free, LADDER, 0).measure(Silent(), lambda: None).delta_loss()
    pairs: dict[int, list[tuple[float, float]]] = {bits: [] for bits in LADDER}
    for site in prepared.classifier.sites:
        channels = range(0, site.layer.channels, case.every)
        variants = [Variant((channel,), bits) for channel in channels for bits in LADDER]
        exact = measure_variants(workload, site, variants, lambda _n: None).delta_loss
        for variant, value in zip(variants, exact, strict=True):
            fast = table.column(site.layer.name, variant.bits)[variant.channels[0]]
            pairs[variant.bits].append((float(fast), float(value)))
    found = {}
    for bits, values in pairs.items():
        fast_values, exact_values = np.array(values).T
        found[str(bits)] = {
            "same_sign": float(np.mean((fast_values > 0) == (exact_values > 0))),
            "correlation": float(np.corrcoef(fast_values, exact_values)[0, 1]),
            "channels": len(values),
        }
    return {"signs": found, "images": case.compared}


def _same_images(case: Case, method: Method, seed: int) -> dict[str, Any]:
    """Compression with fast or exact Δloss on the same images, drawn by the seed.

    One search serves every drop: only the choice from its plans depends on it.
    """
    settings = _settings(case, delta_loss=method, seed=seed)
    output = Path(f"semilayer_cost-{os.getpid()}.onnx")
    result = onnxsemi.compress(
        case.model, case.search, output=output, test_data=case.report, settings=settings
    )
    output.unlink()
    output.with_suffix(".plan.json").unlink()
    chosen = [result.trajectory.choose(drop).plan.compression for drop in DROPS]
    return {**_summary(result), "at_drops": chosen}


def _memory(case: Case) -> dict[str, Any]:
    """Peak memory of a whole run on 1,000 images, cut short in the search."""
    settings = _settings(
        case,
        search_samples=1000,
        delta_loss_samples=512,
        max_memory=parse_memory("2.75GB"),
        run=RunOptions(time_budget=1500),
    )
    output = Path(f"semilayer_cost-{os.getpid()}.onnx")
    result = onnxsemi.compress(
        case.model, case.search, output=output, test_data=case.report, settings=settings
    )
    output.unlink()
    output.with_suffix(".plan.json").unlink()
    return {**_summary(result), "stop": result.trajectory.stop}


if __name__ == "__main__":
    main()
