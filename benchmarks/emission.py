"""What the emitted files weigh, and how fast they run and load.

    python benchmarks/emission.py --shared ../shared

Random plans of three and of five bitwidths in every profile, hidden targets, each file written and
verified by ``apply``, then timed against the float file by ``bench`` on one thread. A model whose
result is in the work folder already is not run again. At the end the table in
``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cases import Case, random, trained
from emitted import FORMS, Form, plan_of, write
from semilayer_cost import write_random_models
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi import Profile

MIXED = ("three", "five")  # bitwidths of a layer
MODELS = ("fashion", "resnet20", "resnet18", "random18", "random50")
TIMED = [form for form in FORMS if form.profile is not Profile.FAKE]


def main() -> None:
    """Run what is missing, each model in a process of its own, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("emission"), help="results so far")
    parser.add_argument("--model", choices=MODELS, help="run one model in this process")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = trained(arguments.shared) | random(arguments.work)
    if arguments.model:
        _run(known[arguments.model], arguments.model, arguments.work)
        return
    write_random_models(arguments.work)
    for name in MODELS:
        if not (arguments.work / f"{name}.json").exists():
            print(name, flush=True)
            note_processor(arguments.work)
            paths = ["--shared", arguments.shared, "--work", arguments.work]
            command = [sys.executable, __file__, *map(str, paths), "--model", name]
            subprocess.run(command, check=True)
    results = {name: json.loads((arguments.work / f"{name}.json").read_text()) for name in MODELS}
    titled = {known[name].title: found for name, found in results.items()}
    replace_table("emission", _lines(titled, arguments.work))


def _run(case: Case, name: str, work: Path) -> None:
    large = name.startswith("random")
    found: dict[str, Any] = {}
    for ladder in MIXED:
        files = []
        for form in FORMS:
            path = work / f"{name}-{ladder}-{form.name}.onnx"
            result = write(case, plan_of(case, ladder, form), form, path)
            sizes, kernels = result.sizes, result.kernels
            found[f"{ladder} {form.name}"] = {
                "payload": sizes.payload_bytes,
                "file": sizes.bytes_after,
                "kernels": None if kernels is None else asdict(kernels),
            }
            files.append(path)
        timed = [path for path, form in zip(files, FORMS, strict=True) if form in TIMED]
        batches = (1, 8) if large else (1, 32)
        settings = onnxsemi.BenchSettings(batches=batches, rounds=7 if large else 15)
        result = onnxsemi.bench([case.model, *timed], settings=settings)
        names = ["float32", *(form.name for form in TIMED)]
        for place, row in enumerate(result.rows):
            way = "load_session" if row.folded else "default"
            found.setdefault(f"{ladder} {names[place // 2]}", {})[way] = {
                "batches": result.batches,
                "latency": [asdict(spread) for spread in row.latency],
                "load": asdict(row.load),
            }
    (work / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def _lines(results: dict[str, dict[str, Any]], work: Path) -> list[str]:
    lines = [f"{versions(work)}, one thread.", ""]
    for title, found in results.items():
        batches = found["three float32"]["default"]["batches"]
        lines += [f"### {title}", "", *_table(found, batches), ""]
    return lines[:-1]


def _table(found: dict[str, Any], batches: list[int]) -> list[str]:
    headings = ["profile", "bitwidths", "file over payload"]
    for way in ("default session", "`load_session`"):
        headings += [f"{way}: batch {batch}" for batch in batches]
    headings += ["load, default", "load, `load_session`", "integer kernels"]
    rows = [
        _row(found[f"{ladder} {form.name}"], form, ladder, len(batches))
        for form in FORMS
        for ladder in MIXED
    ]
    rows = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _row(entry: dict[str, Any], form: Form, ladder: str, batches: int) -> list[str]:
    cells = [f"`{form.name}`", ladder, f"{entry['file'] / entry['payload']:.4f}"]
    if "default" not in entry:
        return [*cells, *[""] * (2 * batches + 3)]
    ways = [entry["default"], entry["load_session"]]
    cells += [_ratio(spread) for way in ways for spread in way["latency"]]
    cells += [_ratio(way["load"]) for way in ways]
    kernels = entry["kernels"]
    if kernels is None:
        return [*cells, ""]
    count = len(kernels["integer"])
    return [*cells, f"{count} of {count + len(kernels['floating'])}"]


def _ratio(spread: dict[str, Any]) -> str:
    low, high = spread["ratio_quartiles"]
    return f"{spread['ratio']:.2f} ±{(high - low) / 2:.2f}"


if __name__ == "__main__":
    main()
