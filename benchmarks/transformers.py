"""What Δloss costs on transformers and ConvNeXt, in forward passes over the same images.

    python benchmarks/transformers.py
    python benchmarks/transformers.py --images 16 --classes 10

The models are small, of random weights (``random_transformers.py``), the images seeded noise of
224x224. Δloss and KL of every channel of all layers at 8 to 1 bits are measured as ``compress``
does by default: nothing but the backward passes and what building them takes. Passes are CPU time
over the CPU time of one float32 forward pass over the images, the median of three. Layers *without
a gradient* are those above an operator that has no reverse rule.

Every row is kept as a line of JSON in the work folder; one that is there is not measured again. At
the end the table in ``benchmarks/README.md`` is written anew.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from random_transformers import random_convnext, random_vit
from tables import note_processor, replace_table, versions

from onnxsemi import ImageSet
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._runtime.runner import worker_threads
from onnxsemi._sensitivity.fast import FastMeasurement

BITS = (8, 7, 6, 5, 4, 3, 2, 1)
MODELS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "ConvNeXt": random_convnext,
    "ViT": random_vit,
}


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("transformers"), help="rows so far")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 1000])
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = {(row["model"], row["classes"], row["images"]): row for row in map(json.loads, lines)}
    for model in MODELS:
        for classes in arguments.classes:
            key = (model, classes, arguments.images)
            if key not in rows:
                print(*key, flush=True)
                note_processor(arguments.work)
                rows[key] = _row(*key)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(rows[key]) + "\n")
    table = [f"{versions(arguments.work)}.", "", *_table(list(rows.values()))]
    print("\n".join(table))
    replace_table("transformers", table)


def _row(model: str, classes: int, images: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    pixels = random.normal(size=(images, 3, 224, 224)).astype(np.float32)
    data = ImageSet("noise", pixels, random.integers(0, classes, images))
    classifier = _read(MODELS[model](classes))
    workload = Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), worker_threads(None))
    one_pass = sorted(_cpu_seconds(lambda: workload.forward(classifier.proto)) for _ in range(3))[1]
    names = [layer.name for layer in classifier.layers]
    missing: list[str] = []

    def measure() -> None:
        found = FastMeasurement(workload, names, BITS, seed=0).measure(Silent(), lambda: None)
        missing.extend(found.missing)

    spent = _cpu_seconds(measure)
    return {
        "model": model,
        "classes": classes,
        "images": images,
        "parameters": classifier.parameters,
        "layers": len(names),
        "missing": len(missing),
        "pass_seconds": one_pass,
        "seconds": spent,
    }


def _read(model: onnx.ModelProto) -> Classifier:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return read_model(path, ReadOptions())


def _cpu_seconds(measure: Callable[[], object]) -> float:
    began = time.process_time()
    measure()
    return time.process_time() - began


def _table(rows: list[dict[str, Any]]) -> list[str]:
    headings = (
        *("model", "parameters", "classes", "images", "layers", "without a gradient"),
        *("one pass, CPU s", "Δloss, CPU s", "passes"),
    )
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for row in rows:
        cells = [
            *(row["model"], f"{row['parameters'] / 1e6:.1f} M", f"{row['classes']:,}"),
            *(str(row["images"]), str(row["layers"]), str(row["missing"])),
            *(f"{row['pass_seconds']:.2f}", f"{row['seconds']:.1f}"),
            f"**{row['seconds'] / row['pass_seconds']:.1f}**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
