"""When bias correction helps, and when it ruins a model: every layer at few bits.

    python benchmarks/bias_correction.py --shared ../shared --models resnet20

All layers at 3 and at 2 bits, on grids of whole steps, rounded on some of the calibration images
and measured on the others; the test images are not touched. Bias correction is done in four ways:

*none*: biases stay.
*float inputs*: each bias takes up the mean of what rounding changes, for the float model's inputs.
*in graph order*: each bias takes up the mean difference of the layer's output from the float
model's, in the model whose layers before it are quantized and corrected.
*aimed*: layer after layer as well, and the weights are moved towards the float model's outputs too
(``--inputs quantized``, the default); without and with bias correction.

*scale* is the standard deviation of what the classifier reads, over that in the float model.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, trained
from tables import note_processor, replace_table, versions

from onnxsemi import ReadOptions, RoundingSettings, Settings
from onnxsemi._arrays import Float32Array
from onnxsemi._data.images import ImageSet
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.bias import correctable_bias
from onnxsemi._model.outputs import with_outputs
from onnxsemi._pipeline.preparation import Prepared, drawn, prepare
from onnxsemi._pipeline.rounding import plan_rounder
from onnxsemi._plan.bits import BitPlan
from onnxsemi._progress import Silent
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._rounding.float_inputs import rounding_table
from onnxsemi._rounding.sequential import from_table
from onnxsemi._rounding.table import RoundingTable
from onnxsemi._runtime.sessions import Session
from onnxsemi._stats.metrics import hits, kl_divergence
from onnxsemi._stats.paired import Paired

BITS = (3, 2)
ROUNDINGS = (
    ("minmax", "nearest"),
    ("mse", "nearest"),
    ("minmax", "gptq"),
    ("mse", "gptq"),
    ("output", "gptq"),
)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("bias"), help="results so far")
    parser.add_argument("--models", nargs="*", default=["resnet20"])
    parser.add_argument("--images", type=int, default=512, help="to round on, and to measure on")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    known = trained(arguments.shared)
    for name in arguments.models:
        path = arguments.work / f"{name}.json"
        if not path.exists():
            note_processor(arguments.work)
            path.write_text(json.dumps(list(_rows(known[name], arguments.images))))
    found = {name: arguments.work / f"{name}.json" for name in known}
    tables = [
        line
        for name, path in found.items()
        if path.exists()
        for line in _table(known[name].title, json.loads(path.read_text()))
    ]
    replace_table("bias", [f"{versions(arguments.work)}.", *tables])


def _rows(case: Case, images: int) -> Iterable[dict[str, Any]]:
    settings = Settings(model=ReadOptions(targets="all"), data=case.data, rounding_samples=images)
    prepared = prepare(case.model, case.search, case.report, settings)
    rest = _rest(prepared, images)
    workload = prepared.workload(prepared.rounding)
    for bits in BITS:
        for ranges, method in ROUNDINGS:
            chosen = RoundingSettings(
                ranges=ranges, method=method, half_steps=False, inputs="float"
            )
            free = replace(chosen, bias_correction=False)
            plan = BitPlan.uniform(prepared.classifier.layers, bits)
            table, plain = _rounded(workload, plan, free)
            _, corrected = _rounded(workload, plan, chosen)
            aimed = replace(chosen, inputs="quantized")
            found = {
                "none": plain,
                "float inputs": corrected,
                "in graph order": _in_graph_order(workload, plain),
                "aimed, none": _aimed(workload, table, replace(free, inputs="quantized"), plan),
                "aimed, corrected": _aimed(workload, table, aimed, plan),
            }
            for way, rounded in found.items():
                row = {"bits": bits, "ranges": ranges, "rounding": method, "bias": way}
                row |= _measured(prepared.workload(rest), rounded)
                print(row, flush=True)
                yield row


def _rest(prepared: Prepared, images: int) -> ImageSet:
    """Calibration images that the weights are not rounded on."""
    used = set(prepared.rounding.digests())
    left = [i for i, digest in enumerate(prepared.search.digests()) if digest not in used]
    return drawn(prepared.search.select(np.array(left)), images)


def _aimed(
    workload: Workload, table: RoundingTable, settings: RoundingSettings, plan: BitPlan
) -> RoundedPlan:
    """A plan rounded layer after layer, for the inputs of the quantized model."""
    return plan_rounder(workload, table, settings, 0, Silent())(plan)


def _rounded(
    workload: Workload, plan: BitPlan, settings: RoundingSettings
) -> tuple[RoundingTable, RoundedPlan]:
    """A table of the plan's bitwidth, and every layer rounded for the float model's inputs."""
    table = rounding_table(workload, sorted(plan.widths), settings, 0, Silent())
    return table, from_table(workload.classifier, table, plan)


def _in_graph_order(workload: Workload, rounded: RoundedPlan) -> RoundedPlan:
    """Every bias corrected by the mean difference of the layer's output, layer after layer."""
    layers = dict(rounded.layers)
    outputs = {
        site.layer.name: _output(workload, site.nodes[0]) for site in workload.classifier.sites
    }
    wanted = _channel_means(workload, workload.classifier.proto, list(outputs.values()))
    for site in workload.classifier.sites:
        name, bias = site.layer.name, correctable_bias(workload.classifier, site)
        if bias is None:
            continue
        model = simulate(workload.classifier, replace(rounded, layers=layers))
        mean = _channel_means(workload, model, [outputs[name]])[outputs[name]]
        change = (wanted[outputs[name]] - mean).astype(np.float32)
        layers[name] = replace(layers[name], bias=bias + change)
    return replace(rounded, layers=layers)


def _output(workload: Workload, node_name: str) -> str:
    node = next(n for n in workload.classifier.proto.graph.node if n.name == node_name)
    return str(node.output[0])


def _channel_means(workload: Workload, model: Any, names: list[str]) -> dict[str, Any]:
    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    total = len(workload.images)
    for block in _values(workload, model, names):
        for name in names:
            values = block[name].astype(np.float64)
            axes = tuple(range(2, values.ndim))
            sums[name] = sums[name] + values.mean(axis=axes).sum(axis=0) / total
    return sums


def _values(workload: Workload, model: Any, names: list[str]) -> Iterable[dict[str, Float32Array]]:
    session = Session(with_outputs(model, names).SerializeToString())
    image = workload.classifier.ends.image.name
    for start in range(0, len(workload.images), 128):
        stop = min(start + 128, len(workload.images))
        yield session.run({image: workload.images.batch(start, stop)})


def _measured(workload: Workload, rounded: RoundedPlan) -> dict[str, Any]:
    classifier, labels = workload.classifier, workload.labels
    model = simulate(classifier, rounded)
    before, after = workload.forward(classifier.proto), workload.forward(model)
    paired = Paired.of(hits(before, labels), hits(after, labels))
    last = next(n for n in classifier.proto.graph.node if n.name == classifier.sites[-1].nodes[0])
    one, two = (
        _deviation(workload.first(128), m, last.input[0]) for m in (classifier.proto, model)
    )
    return {
        "kl": float(np.mean(kl_divergence(before, after))),
        "change": 100 * paired.change,
        "scale": two / one,
    }


def _deviation(workload: Workload, model: Any, name: str) -> float:
    (values,) = _values(workload, model, [name])
    return float(np.std(values[name]))


def _table(title: str, rows: list[dict[str, Any]]) -> list[str]:
    ways = list(dict.fromkeys(row["bias"] for row in rows))
    lines = [
        "",
        f"{title}: KL in nats (scale)",
        "",
        f"| bits | ranges, rounding | {' | '.join(ways)} |",
        "|---" * (len(ways) + 2) + "|",
    ]
    for first in range(0, len(rows), len(ways)):
        group = rows[first : first + len(ways)]
        cells = [f"{row['kl']:.3f} ({row['scale']:.2f})" for row in group]
        head = group[0]
        name = f"{head['ranges']}, {head['rounding']}"
        lines.append(f"| {head['bits']} | {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
