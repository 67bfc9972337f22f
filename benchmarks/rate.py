"""What rounding for entropy-coded weights gives: bits of a weight against KL, widths, the price.

    python benchmarks/rate.py --shared ../shared --models fashion resnet20

All convolutions and the classifier, rounded on some of the calibration images; the KL is that of
calibration images that nothing was fitted to, and the test images are not touched.

*curve*: plans of the frontier at some sizes, by ``--rounding gptq`` in whole bits, by ``rate`` at
several prices of a bit: bits of the codes (of coded widths the entropy over the channels of a
width, of all layers), and of the scales: 40 bits a channel with its zero point, 32 without one.
*whole*: ``compress`` as a user runs it, on all calibration images, and what it says of the test
images: ``gptq`` in profile qdq, the same plan written in dense, and ``rate`` in dense.
*widths*: what a weight takes at each coded width, all channels rounded one by one.

Every model and part leaves a JSON file in the work folder; one that is there is not run again.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, trained
from frontier import frontier_plans
from numpy.typing import NDArray
from tables import note_processor, replace_table, versions

from onnxsemi import (
    ApplySettings,
    CompressResult,
    ReadOptions,
    RoundingSettings,
    Settings,
    apply,
    compress,
)
from onnxsemi._coding.code import entropy
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.rounding import codes_of
from onnxsemi._plan.bitwidth import EVERY_CODED, FLOAT_BITS, is_coded, shown
from onnxsemi._plan.groups import SCALE_BITS
from onnxsemi._progress import Silent
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._results.results import Sizes
from onnxsemi._rounding import rate
from onnxsemi._run.folder import nowhere
from onnxsemi._stats.metrics import kl_divergence

SIZES = (3.5, 3.0, 2.5, 2.0, 1.5, 1.25, 1.0, 0.7, 0.5, 0.3)
PRICES = (rate.PRICE, 0.0, 0.2)
RATE_SCALE_BITS = 32
ROUNDED = 512


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("rate"), help="results so far")
    parser.add_argument("--models", nargs="*", default=["fashion", "resnet20"])
    parser.add_argument("--parts", nargs="*", default=["whole", "curve"])
    parser.add_argument("--samples", type=int, default=2000, help="calibration images")
    arguments = parser.parse_args()
    known, found = trained(arguments.shared), {}
    arguments.work.mkdir(parents=True, exist_ok=True)
    parts = {"curve": partial(_curves, samples=arguments.samples), "whole": _whole}
    for name in arguments.models:
        for part in arguments.parts:
            target = arguments.work / f"{name}_{part}.json"
            if not target.exists():
                note_processor(arguments.work)
                target.write_text(json.dumps(parts[part](known[name])), encoding="utf-8")
        there = [part for part in parts if (arguments.work / f"{name}_{part}.json").exists()]
        texts = {p: (arguments.work / f"{name}_{p}.json").read_text("utf-8") for p in there}
        found[known[name].title] = {part: json.loads(text) for part, text in texts.items()}
    replace_table("rate", [*_lines(found, arguments.work)])


def _whole(case: Case) -> list[dict[str, Any]]:
    """Files as a user gets them, and verdicts."""
    gptq = Settings(model=ReadOptions(targets="all"), data=case.data, allow_loss=True)
    dense = replace(gptq, profile="dense")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        give = partial(compress, case.model, case.search, output=output, test_data=case.report)
        found = give(settings=gptq)
        rows.append(_row("gptq", found, found.sizes))
        again = apply(
            found.plan_file,
            case.model,
            output=Path(folder) / "dense.onnx",
            calibration_data=case.search,
            settings=ApplySettings(profile="dense", data=case.data),
        )
        rows.append(_row("gptq", found, again.sizes) | {"profile": "dense"})
        found = give(settings=replace(dense, rounding=RoundingSettings(method="rate")))
        rows.append(_row("rate", found, found.sizes))
    return rows


def _row(rounding: str, result: CompressResult, sizes: Sizes) -> dict[str, Any]:
    return {
        "rounding": rounding,
        "profile": str(result.profile),
        "bits": 32 * (1 - sizes.targets),
        "file": sizes.file,
        "bytes": sizes.bytes_after,
        "gzip": sizes.gzip_bytes / sizes.bytes_after,
        "verdict": str(result.verdict.outcome),
        "interval": result.report.top1.interval,
        "kl": result.report.kl,
    }


def _curves(case: Case, samples: int) -> dict[str, Any]:
    given = Settings(
        model=ReadOptions(targets="all"),
        data=case.data,
        search_samples=samples,
        rounding_samples=ROUNDED,
    )
    coded = replace(given, rounding=RoundingSettings(method="rate"))
    prepared = prepare(case.model, case.search, case.report, coded)
    usual, curves = rate.PRICE, {"gptq": _curve(replace(prepared, settings=given))}
    for price in PRICES:
        rate.PRICE = price
        curves["rate" if price == usual else f"rate, price {price:g}"] = _curve(prepared)
    rate.PRICE = usual
    return {"curves": curves, "widths": _widths(prepared)}


def _curve(prepared: Prepared) -> list[dict[str, float]]:
    codes = codes_of(prepared, nowhere(), Silent())
    plans = frontier_plans(prepared, codes.rounding, SIZES)
    return [_point(prepared, codes.rounder(plan)) for plan in dict.fromkeys(plans)]


def _point(prepared: Prepared, rounded: RoundedPlan) -> dict[str, float]:
    workload, unseen = prepared.workload(prepared.search), prepared.unseen
    reference = workload.float_logits()[unseen]
    some = replace(workload, images=workload.images.select(unseen))
    logits = some.forward(simulate(workload.classifier, rounded))
    bits, scales = _bits(rounded)
    return {
        "bits": bits / rounded.plan.parameters,
        "scales": scales / rounded.plan.parameters,
        "kl": float(np.mean(kl_divergence(reference, logits))),
    }


def _bits(rounded: RoundedPlan) -> tuple[float, float]:
    """Of the codes, by the channels of one width; and of the scales."""
    of_width: dict[int, list[NDArray[Any]]] = {}
    scales = 0
    for name, layer in rounded.layers.items():
        stored, planned = np.array(layer.bits), rounded.plan.bits[name]
        for bits, channels in layer.quantized.items():
            steps = channels.codes.astype(np.int64) - channels.centre
            for width in np.unique(planned[stored == bits]).tolist():
                if bits:
                    of_width.setdefault(width, []).append(steps[planned[stored == bits] == width])
        coded = any(map(is_coded, planned.tolist()))
        each = RATE_SCALE_BITS if coded else SCALE_BITS
        scales += each * int(((stored > 0) & (stored < FLOAT_BITS)).sum())
    total = 0.0
    for width, parts in of_width.items():
        joined = np.concatenate([part.ravel() for part in parts])
        total += joined.size * (_entropy(joined) if is_coded(width) else width)
    return total, scales


def _entropy(steps: NDArray[Any]) -> float:
    return entropy(np.unique(steps, return_counts=True)[1])


def _widths(prepared: Prepared) -> dict[str, float]:
    """Bits of a weight at every width."""
    codes, layers = codes_of(prepared, nowhere(), Silent()), prepared.classifier.layers
    every = {
        w: [codes.rounding.at(layer, w).codes.ravel() for layer in layers] for w in EVERY_CODED
    }
    return {str(shown(w)): _entropy(np.concatenate(parts)) for w, parts in every.items()}


def _lines(found: dict[str, Any], work: Path) -> Iterable[str]:
    yield f"{versions(work)}. {ROUNDED} images rounded on."
    yield from (
        "",
        "| model | rounding | profile | bits a weight | file smaller by | gzip / file "
        "| verdict, change of top-1 | KL |",
        "|" + "---|" * 8,
    )
    for title, parts in found.items():
        for row in parts.get("whole", []):
            low, high = (f"{100 * end:+.2f}" for end in row["interval"])
            said = f"{row['verdict']}, [{low}, {high}]"
            yield (
                f"| {title} | {row['rounding']} | {row['profile']} | {row['bits']:.2f} "
                f"| {row['file']:.2%} | {row['gzip']:.2f} | {said} | {row['kl']:.4f} |"
            )
    for title, parts in found.items():
        if (known := parts.get("curve")) is None:
            continue
        yield from ("", f"{title}: bits a weight, and KL in nats.", "")
        yield "| rounding | codes | with scales | KL |"
        yield "|" + "---|" * 4
        for rounding, points in known["curves"].items():
            for point in points:
                whole = point["bits"] + point["scales"]
                yield f"| {rounding} | {point['bits']:.2f} | {whole:.2f} | {point['kl']:.4f} |"
        widths = known["widths"]
        yield from ("", f"| width | {' | '.join(widths)} |", "|" + "---|" * (1 + len(widths)))
        yield f"| bits | {' | '.join(f'{bits:.2f}' for bits in widths.values())} |"


if __name__ == "__main__":
    main()
