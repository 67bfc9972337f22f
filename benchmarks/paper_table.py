"""The paper's comparison on three models: uniform bits, the method in both orders, no split.

    python benchmarks/paper_table.py --shared ../shared

Every row runs in a process of its own, so that its peak memory is its own, and leaves a JSON file
in the work folder; a row that is there already is not run again. Passes are ratios of CPU time, so
that what else runs on the machine does not count; wall time is given as it was. At the end the
table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cases import Case, trained
from tables import note_processor, replace_table, versions

from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.reader import ReadOptions
from onnxsemi._pipeline.output import Writer
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.rounding import codes_of
from onnxsemi._pipeline.run_identity import Clock
from onnxsemi._pipeline.search import Search
from onnxsemi._pipeline.sensitivity import measure_sensitivity
from onnxsemi._pipeline.sizes import sizes_of
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._progress import Silent
from onnxsemi._quantizer.rounded_plan import rounded
from onnxsemi._run.folder import nowhere
from onnxsemi._runtime.memory import peak
from onnxsemi._search.ranking import Order
from onnxsemi._search.semilayers import Split
from onnxsemi._search.settings import SearchSettings
from onnxsemi._settings import Settings
from onnxsemi._stats.metrics import hits
from onnxsemi._stats.paired import Paired

LADDER = (8, 6, 4)


ROWS = {
    "fp32": "FP32",
    "uniform8": "every channel at 8 bits",
    "uniform6": "every channel at 6 bits",
    "uniform4": "every channel at 4 bits",
    "descending": "semilayers, descending",
    "ascending": "semilayers, ascending",
    "layers": "no split (one group a layer), descending",
}


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("paper_table"), help="results so far")
    parser.add_argument("--models", nargs="*", default=None, help="fashion, resnet20, resnet18")
    parser.add_argument("--row", nargs=2, help="run one row of one model in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = trained(arguments.shared)
    if arguments.row:
        name, row = arguments.row
        _run_row(known[name], row, arguments.work / name)
        return
    for name in arguments.models or known:
        for row in ROWS:
            if not (arguments.work / name / f"{row}.json").exists():
                print(f"{name}: {row}", flush=True)
                note_processor(arguments.work)
                paths = ["--shared", arguments.shared, "--work", arguments.work]
                command = [sys.executable, __file__, *map(str, paths), "--row", name, row]
                subprocess.run(command, check=True)
    _write_table(known, arguments.work)


def _run_row(case: Case, row: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepare(case.model, case.search, case.report, _settings(case, row))
    if row in ("fp32", "uniform8", "uniform6", "uniform4"):
        bits = FLOAT_BITS if row == "fp32" else int(row.removeprefix("uniform"))
        plan = BitPlan.uniform(prepared.classifier.layers, bits)
        result = _measured(prepared, plan, folder / f"{row}.onnx")
    else:
        result = _run_method(prepared, row, folder)
    result["peak_bytes"] = peak()
    (folder / f"{row}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


def _settings(case: Case, row: str) -> Settings:
    order = Order.ASCENDING if row == "ascending" else Order.DESCENDING
    split = Split.NONE if row == "layers" else Split.SIGN
    return Settings(
        search=SearchSettings(method="semilayer", bits=LADDER, order=order, split=split),
        model=ReadOptions(targets="hidden"),
        data=case.data,
        delta_loss_samples=case.delta_loss_samples,
        search_samples=case.search_samples,
    )


def _run_method(prepared: Prepared, row: str, folder: Path) -> dict[str, Any]:
    pass_cpu_seconds = _pass_cpu_seconds(prepared)
    began, cpu_began = time.perf_counter(), time.process_time()
    run = nowhere()
    codes = codes_of(prepared, run, Silent())
    sensitivity = measure_sensitivity(prepared, codes.rounding, run, Silent())
    found = Search(prepared, codes, sensitivity, run, Clock(None), Silent()).find()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    result = _measured(prepared, found.chosen.plan, folder / f"{row}.onnx")
    return result | {
        "passes": cpu_seconds / pass_cpu_seconds,
        "pass_cpu_seconds": pass_cpu_seconds,
        "seconds": seconds,
        "trials": len(found.trajectory.trials),
        "delta_loss_samples": sensitivity.summary.samples,
        "stop": found.trajectory.stop,
        "phase": f"{found.chosen.phase}, {found.chosen.bits} bits",
    }


def _pass_cpu_seconds(prepared: Prepared) -> float:
    """CPU time of one float32 forward pass over the calibration images: the median of three."""
    workload = prepared.workload(prepared.search)
    times = []
    for _ in range(3):
        began = time.process_time()
        workload.forward(workload.classifier.proto)
        times.append(time.process_time() - began)
    return sorted(times)[1]


def _measured(prepared: Prepared, plan: BitPlan, output: Path) -> dict[str, Any]:
    """Write and verify the plan's file; accuracy on search and on test images."""
    search_workload, workload = (
        prepared.workload(prepared.search),
        prepared.workload(prepared.report),
    )
    proto = prepared.classifier.proto
    codes = rounded(prepared.classifier.layers, plan, workload.rounding)
    simulated = simulate(prepared.classifier, codes)
    search = Paired.of(
        *(hits(search_workload.forward(m), search_workload.labels) for m in (proto, simulated))
    )
    before = workload.forward(proto)
    if plan == plan.all_float():
        after, size = before, {"targets": 0.0, "file": 0.0}
    else:
        with Writer(workload, prepared.settings.profile).written(codes, output) as file:
            after = file.logits
        measured = sizes_of(output)
        size = {"targets": measured.targets, "file": measured.file}
    report = Paired.of(hits(before, workload.labels), hits(after, workload.labels))
    return size | {"search": _paired(search), "report": _paired(report)}


def _paired(paired: Paired) -> dict[str, Any]:
    return {
        "total": paired.total,
        "correct": paired.after,
        "broken": paired.broken,
        "fixed": paired.fixed,
        "interval": paired.interval,
    }


def _load(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def _write_table(known: dict[str, Case], work: Path) -> None:
    parts = [_machine(work)]
    for name, case in known.items():
        if all((work / name / f"{row}.json").exists() for row in ROWS):
            parts.append(_table(case, work / name))
    replace_table("paper_table", ["\n\n".join(parts)])


def _machine(work: Path) -> str:
    return (
        f"{versions(work, ('onnxruntime', 'numpy'))}. "
        f"Ladder {', '.join(map(str, LADDER))}; asymmetric; targets `hidden`; seed 0."
    )


def _table(case: Case, folder: Path) -> str:
    total = _load(folder / "fp32.json")
    lines = [
        f"### {case.title}",
        "",
        f"{total['search']['total']:,} calibration images, {total['report']['total']:,} test "
        f"images.",
        "",
        "| | targets smaller by | file smaller by | search top-1 (broken / fixed) "
        "| report top-1 (broken / fixed) | change on report, 95 % interval "
        "| Δloss images | trials | passes | wall time | peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(title, folder, row) for row, title in ROWS.items())])


def _line(title: str, folder: Path, row: str) -> str:
    result = _load(folder / f"{row}.json")
    most = result["peak_bytes"]
    low, high = (100 * end for end in result["report"]["interval"])
    cells = [
        title,
        f"{result['targets']:.2%}",
        f"{result['file']:.2%}",
        _accuracy(result["search"]),
        _accuracy(result["report"]),
        "" if row == "fp32" else f"{_change(result['report']):+.2f} [{low:+.2f}, {high:+.2f}]",
        str(result.get("delta_loss_samples", "")),
        str(result.get("trials", "")),
        f"{result['passes']:,.0f}" if "passes" in result else "",
        f"{result['seconds'] / 60:.1f} min" if "seconds" in result else "",
        f"{most / 2**20:.0f} MiB",
    ]
    return f"| {' | '.join(cells)} |"


def _accuracy(paired: dict[str, Any]) -> str:
    share = f"{paired['correct'] / paired['total']:.2%}"
    return (
        share
        if not paired["broken"] + paired["fixed"]
        else f"{share} ({paired['broken']} / {paired['fixed']})"
    )


def _change(paired: dict[str, Any]) -> float:
    return 100 * (paired["fixed"] - paired["broken"]) / int(paired["total"])


if __name__ == "__main__":
    main()
