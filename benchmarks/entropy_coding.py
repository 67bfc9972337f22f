"""What entropy coding takes and costs: bytes against the entropy of the codes, load time, memory.

    python benchmarks/entropy_coding.py --shared ../shared

Every channel at one coded width, weights at their nearest level: no rounding for what codes take
(``rate.py`` has that), as the coder is what is measured. Files of profile ``dense``, of ``fast``
for what bit planes take; of ResNet-18 also how they load, in default sessions and fresh processes,
against the float file. At the end the table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import Case, trained
from tables import note_processor, replace_table, versions

import onnxsemi
from onnxsemi import BitPlan, Profile, ReadOptions, Scheme, TargetPolicy
from onnxsemi._coding.code import entropy
from onnxsemi._emit.coded_sizes import coded_sizes
from onnxsemi._emit.model import emit
from onnxsemi._emit.stored_weights import emitted_properties, read_stored
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.reader import read_model
from onnxsemi._plan.bitwidth import width_of
from onnxsemi._quantizer.rounded_plan import Nearest, RoundedPlan, rounded

WIDTHS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
MODELS = ("fashion", "resnet20", "resnet18")
LARGE = 10_000  # weights of a layer that the coder's loss is asked of
TIMED = "resnet18"
_TABLES = "wtelpv"
"""What the names of a decoder's tables end with."""


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("entropy_coding"), help="results so far")
    parser.add_argument("--rounds", type=int, default=5, help="times that each file is loaded")
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    cases = trained(arguments.shared)
    for name in MODELS:
        if not (work / f"{name}.json").exists():
            print(name, flush=True)
            note_processor(work)
            found = _measured(cases[name], name, work, arguments.rounds)
            (work / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    results = {cases[n].title: json.loads((work / f"{n}.json").read_text()) for n in MODELS}
    replace_table("entropy_coding", _lines(results, work))


def _measured(case: Case, name: str, work: Path, rounds: int) -> list[dict[str, Any]]:
    rows, paths = [], []
    classifier = read_model(case.model, ReadOptions(targets=TargetPolicy.ALL))
    sizes = {layer.name: layer.channel_params for layer in classifier.layers}
    for bits in WIDTHS:
        plan = BitPlan(
            {la.name: (width_of(bits),) * la.channels for la in classifier.layers}, sizes
        )
        codes = rounded(classifier.layers, plan, Nearest(Scheme.ASYMMETRIC))
        written = {}
        for profile in (Profile.FAST, Profile.DENSE):
            path = work / f"{name}-{bits}-{profile}.onnx"
            onnx.save(emit(classifier, codes, profile), path)
            written[profile] = path
        rows.append({"width": bits, **_sizes(written[Profile.DENSE], codes)})
        rows[-1]["fast"] = written[Profile.FAST].stat().st_size
        paths.append(written[Profile.DENSE])
    if name == TIMED:
        settings = onnxsemi.BenchSettings(rounds=1, batches=(1,), load_rounds=rounds)
        first, *others = onnxsemi.bench([case.model, *paths], settings=settings).rows[::2]
        for row, timed in zip(rows, others, strict=True):
            row["load"] = [timed.load.seconds, timed.load.ratio]
            row["peak"] = [timed.peak_bytes, timed.peak_bytes / first.peak_bytes]
            row["peak_over_file"] = timed.peak_bytes / first.file_bytes
    return rows


@dataclass
class _Sum:
    """Bytes of layers: as they are coded, tables by their share of the weights, and at least."""

    coded: float = 0.0
    least: float = 0.0

    @property
    def loss(self) -> float:
        """Beyond the entropy."""
        return self.coded / self.least - 1


def _sizes(path: Path, codes: RoundedPlan) -> dict[str, Any]:
    model, file = onnx.load(path), path.read_bytes()
    index = GraphIndex.of(model.graph)
    split_prefix = next(iter(coded_sizes(model, index).streams), "").partition("g_")[0]
    names = [split_prefix + table for table in _TABLES] if split_prefix else []
    tables = sum(len(index.constants[n].raw_data) for n in names if n in index.constants)
    stored = {layer.name: layer for layer in read_stored(model).layers}
    count, large, every, worst = codes.plan.parameters, _Sum(), _Sum(), 0.0
    for name, layer in codes.layers.items():
        coded = sum(group.code_bytes for group in stored[name].groups)
        coded += tables * layer.weight.size / count
        least = sum(
            q.codes.size * entropy(np.bincount(q.codes.ravel())) / 8
            for q in layer.quantized.values()
        )
        every.coded, every.least = every.coded + coded, every.least + least
        if layer.weight.size > LARGE and least:
            large.coded, large.least = large.coded + coded, large.least + least
            worst = max(worst, coded / least - 1)
    decoding = json.loads(emitted_properties(model).get("onnxsemi.decoding", "null"))
    return {
        "file": len(file),
        "gzip": len(gzip.compress(file, mtime=0)) / len(file),
        "entropy": 8 * every.least / count,
        "coded": 8 * every.coded / count,
        "loss": large.loss if large.least else None,
        "worst": worst,
        "whole": 8 * len(file) / count,
        "words": decoding and decoding["words"],
    }


def _lines(results: dict[str, list[dict[str, Any]]], work: Path) -> list[str]:
    headings = ["model", "width", "file", "of `fast`", "bits a weight, whole file", "codes, tables"]
    headings += ["entropy", "loss, large layers", "worst of them", "gzip over file", "words"]
    headings += ["load, s", "over float32", "peak, MB", "over float32", "over its file"]
    rows = [headings, ["---"] * len(headings)]
    for title, found in results.items():
        for row in found:
            cells = [title, f"{row['width']:g}", f"{row['file']:,}"]
            cells += [f"{row['file'] / row['fast']:.3f}", f"{row['whole']:.3f}"]
            cells += [f"{row['coded']:.3f}", f"{row['entropy']:.3f}"]
            cells += ["" if row["loss"] is None else f"{row['loss']:.1%}", f"{row['worst']:.1%}"]
            cells += [f"{row['gzip']:.3f}", "" if row["words"] is None else f"{row['words']:,}"]
            if "load" in row:
                cells += [f"{row['load'][0]:.2f}", f"{row['load'][1]:.2f}"]
                cells += [f"{row['peak'][0] / 1e6:.0f}", f"{row['peak'][1]:.2f}"]
                cells += [f"{row['peak_over_file']:.1f}"]
            rows.append([*cells, *[""] * (len(headings) - len(cells))])
    return [f"{versions(work)}.", "", *(f"| {' | '.join(cells)} |" for cells in rows)]


if __name__ == "__main__":
    main()
