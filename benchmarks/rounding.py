"""What the ways to choose ranges are worth, layer by layer, and how long a large layer takes.

    python benchmarks/rounding.py --shared ../shared

*Output error* is the mean square of what rounding changes in a layer's output, for the float
model's inputs (256 of the calibration images), summed over the channels of a layer. The table
shows the geometric mean over the layers of its ratio to that of ``--ranges minmax`` at the same
bits; with error-compensating rounding throughout. *half steps*: zero points may lie between two
levels.

*A large layer*: 512 channels of 4,608 columns (a 3x3 convolution of 512 inputs) with random weights
and inputs of 8,192 positions; CPU seconds of one thread.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from cases import Case, trained
from tables import replace_table, versions

from onnxsemi import ReadOptions, RoundingSettings, Settings
from onnxsemi._pipeline.preparation import prepare
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._rounding import layer as layer_module
from onnxsemi._rounding.grid import Grid
from onnxsemi._rounding.layer import LayerRounder
from onnxsemi._rounding.observed_layers import input_moments, observed_layers
from onnxsemi._rounding.second_moments import MomentSums, SecondMoments
from onnxsemi._runtime.blas import one_thread

BITS = (6, 5, 4, 3, 2, 1)
ALL = "the same, all candidates rounded"
WAYS = {
    "mse": RoundingSettings(ranges="mse", half_steps=False),
    "output": RoundingSettings(half_steps=False),
    "output, half steps (default)": RoundingSettings(),
    ALL: RoundingSettings(),
}
PLAIN = RoundingSettings(ranges="minmax", half_steps=False)


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    arguments = parser.parse_args()
    cases = trained(arguments.shared)
    with one_thread(), ThreadPoolExecutor(1) as pool:
        lines = _large_layer(pool)
        for name in ("fashion", "resnet20"):
            lines += _ranges_table(cases[name], pool)
    lines = [f"{versions()}.", "", *lines]
    print("\n".join(lines))
    replace_table("rounding", lines)


def _ranges_table(case: Case, pool: ThreadPoolExecutor) -> list[str]:
    settings = Settings(model=ReadOptions(targets="all"), data=case.data, rounding_samples=256)
    prepared = prepare(case.model, case.search, case.report, settings)
    workload = prepared.workload(prepared.rounding)
    sums = input_moments(
        workload, observed_layers(workload.classifier, workload.image), 0, Silent()
    )
    layers = {site.layer.name: site.layer for site in workload.classifier.sites}
    ratios: dict[tuple[str, int], list[float]] = {}
    for name, layer in layers.items():
        moments = sums[name].moments(centred=True)
        for bits in BITS:
            before = _output_error(moments, layer.weight, bits, PLAIN, pool)
            for way, chosen in WAYS.items():
                with nullcontext() if way != ALL else patch.object(layer_module, "likely", _all):
                    after = _output_error(moments, layer.weight, bits, chosen, pool)
                ratios.setdefault((way, bits), []).append(after / before)
    means = {key: float(np.exp(np.mean(np.log(found)))) for key, found in ratios.items()}
    rows = [f"| {way} | {' | '.join(f'{means[way, b]:.3f}' for b in BITS)} |" for way in WAYS]
    heading = " | ".join(f"{bits} bits" if bits > 1 else "1 bit" for bits in BITS)
    columns = "|---" * (len(BITS) + 1) + "|"
    return [
        "",
        f"{case.title}: output error, as a ratio to `minmax`",
        "",
        f"| ranges | {heading} |",
        columns,
        *rows,
    ]


def _all(grids: list[Grid], errors: np.ndarray, bits: int) -> list[Grid]:
    """Instead of the likely candidates."""
    del errors, bits
    return grids


def _output_error(
    moments: SecondMoments,
    weight: np.ndarray,
    bits: int,
    settings: RoundingSettings,
    pool: ThreadPoolExecutor,
) -> float:
    """Mean square of the change of output, summed over channels."""
    rounder = LayerRounder(moments, settings, Scheme.ASYMMETRIC, pool)
    change = (rounder.at(weight, bits).dequantize() - weight).astype(np.float64)
    rows = np.array_split(change.reshape(len(weight), -1), len(moments.second))
    return float(
        sum(
            ((part @ second) * part).sum()
            for part, second in zip(rows, moments.second, strict=True)
        )
    )


def _large_layer(pool: ThreadPoolExecutor) -> list[str]:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(4608, 256)).astype(np.float32)
    sums = MomentSums(1, 4608)
    for _ in range(8):
        hidden = random.normal(size=(256, 1024)).astype(np.float32)
        noise = random.normal(size=(4608, 1024)).astype(np.float32)
        sums.add([sums.block(np.maximum(mixing @ hidden / 16 + noise, 0)[None])])
    moments = sums.moments(centred=True)
    weight = random.normal(size=(512, 512, 3, 3)).astype(np.float32)
    lines = ["| 512 x 4,608 weights | CPU seconds, one thread |", "|---|---|"]
    began = time.process_time()
    rounder = LayerRounder(moments, RoundingSettings(), Scheme.ASYMMETRIC, pool)
    lines.append(f"| factorize the second moments | {time.process_time() - began:.1f} |")
    for bits in (3, 2, 1):
        began = time.process_time()
        rounder.at(weight, bits)
        spent = time.process_time() - began
        lines.append(f"| choose ranges and round to {bits} bit{'s' * (bits > 1)} | {spent:.1f} |")
    minmax = replace(RoundingSettings(), ranges="minmax")
    rounder = LayerRounder(moments, minmax, Scheme.ASYMMETRIC, pool)
    began = time.process_time()
    rounder.at(weight, 3)
    lines.append(f"| round on given ranges | {time.process_time() - began:.1f} |")
    return lines


if __name__ == "__main__":
    main()
