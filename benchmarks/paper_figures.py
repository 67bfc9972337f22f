"""The paper's figures 2 and 4: what Δloss goes together with.

    python benchmarks/paper_figures.py
    python benchmarks/paper_figures.py --shared ../shared

The paper's method is run on each model, as ``compress --method semilayer`` does, and its evidence
read from the run's folder; a run that is there is taken up again.

*Figure 2*: a dot is a channel at a bitwidth, Δloss against ‖Δw‖₁, the sum of the absolute changes
of its weights. Did the two go together, one could leave out the images and look at the weights.

*Figure 4*: a dot is a semilayer at a bitwidth, KL against Δloss. KL ranks semilayers of both signs,
which Δloss, near 0 where its parts cancel, does not.

The tables in ``benchmarks/README.md`` and ``paper_figures.png`` are written anew.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import FASHION, Case, trained
from matplotlib import pyplot
from matplotlib.axes import Axes
from scipy import stats
from tables import replace_table, versions

import onnxsemi
from onnxsemi import RunOptions, SearchSettings, Settings
from onnxsemi._arrays import Float64Array
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._report.record import ResultArrays, read_result

FIGURE = Path(__file__).with_name("paper_figures.png")
BITS = (8, 6, 4)
COLOURS = {8: "#4363d8", 6: "#3cb44b", 4: "#c0392b"}


def main() -> None:
    """Measure what is missing, then write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, help="folder with models/ and data/ for ResNet-20")
    parser.add_argument("--work", type=Path, default=Path("paper_figures"), help="runs so far")
    arguments = parser.parse_args()
    cases = {"fashion": FASHION}
    if arguments.shared is not None:
        cases["resnet20"] = trained(arguments.shared)["resnet20"]
    arguments.work.mkdir(exist_ok=True)
    figure, axes = pyplot.subplots(len(cases), 2, figsize=(10.4, 4.0 * len(cases)), squeeze=False)
    parts = [f"{versions(packages=('onnxruntime', 'numpy', 'scipy'))}; seed 0."]
    for (name, case), row in zip(cases.items(), axes, strict=True):
        evidence = _evidence(case, arguments.work / name)
        changes = _weight_changes(case)
        parts += [case.title + ":", _table(evidence, changes)]
        _draw_channels(row[0], case.title, evidence, changes)
        _draw_semilayers(row[1], evidence)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110, metadata={"Software": None})
    replace_table("paper_figures", ["\n\n".join(parts)])


def _evidence(case: Case, work: Path) -> ResultArrays:
    """What a run of the paper's method has measured."""
    settings = Settings(
        data=case.data,
        search=SearchSettings(method="semilayer", bits=BITS),
        search_samples=case.search_samples,
        allow_loss=True,
        run=RunOptions(folder=work.with_suffix(".run"), resume=True),
    )
    output = work.with_suffix(".onnx")
    onnxsemi.compress(
        case.model, case.search, output=output, test_data=case.report, settings=settings
    )
    return read_result(work.with_suffix(".run")).evidence


def _weight_changes(case: Case) -> Float64Array:
    """‖Δw‖₁ of every channel at every bitwidth: float64[C, B], in the order of the evidence."""
    layers = read_model(case.model, ReadOptions()).layers
    return np.concatenate([_of_layer(layer) for layer in layers])


def _of_layer(layer: TargetLayer) -> Float64Array:
    rounding = Nearest(Scheme.ASYMMETRIC)
    rows = layer.weight.reshape(layer.channels, -1)  # [O, ...] -> [O, n]
    rounded = [rounding.at(layer, bits).dequantize().reshape(rows.shape) for bits in BITS]
    return np.stack([np.abs(r - rows).sum(axis=1, dtype=np.float64) for r in rounded], axis=1)


def _table(evidence: ResultArrays, changes: Float64Array) -> str:
    lines = [
        "| bits | channels: Δloss and ‖Δw‖₁ | Δloss's size and ‖Δw‖₁ | semilayers: Δloss and KL "
        "| Δloss's size and KL |",
        "|---|---|---|---|---|",
    ]
    for place, bits in enumerate(BITS):
        of = evidence.group_bits == bits
        losses, kl = evidence.group_delta_loss[of], evidence.group_kl[of]
        channel = evidence.delta_loss[:, place]
        pairs = ((channel, changes[:, place]), (np.abs(channel), changes[:, place]))
        cells = [_correlations(*pair) for pair in (*pairs, (losses, kl), (np.abs(losses), kl))]
        lines.append(f"| {bits} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _correlations(one: Float64Array, other: Float64Array) -> str:
    """Pearson's r and Spearman's rank correlation of what was measured."""
    known = np.isfinite(one) & np.isfinite(other)
    pair = one[known], other[known]
    return f"{stats.pearsonr(*pair).statistic:.2f}, {stats.spearmanr(*pair).statistic:.2f}"


def _draw_channels(axis: Axes, title: str, evidence: ResultArrays, changes: Float64Array) -> None:
    for place, bits in enumerate(BITS):
        axis.plot(changes[:, place], evidence.delta_loss[:, place], ".", ms=3, c=COLOURS[bits])
    axis.set(xscale="log", xlabel="‖Δw‖₁", ylabel="Δloss of a channel, nats", title=title)
    _stretched(axis.set_yscale, evidence.delta_loss)


def _draw_semilayers(axis: Axes, evidence: ResultArrays) -> None:
    for bits in BITS:
        of = evidence.group_bits == bits
        x, y = evidence.group_delta_loss[of], evidence.group_kl[of]
        axis.plot(x, y, "o", ms=4, c=COLOURS[bits], label=f"{bits} bits")
    axis.set(yscale="log", xlabel="Δloss of a semilayer, nats", ylabel="KL, nats")
    _stretched(axis.set_xscale, evidence.group_delta_loss)
    axis.legend(fontsize=8)


def _stretched(set_scale: Callable[..., None], values: Float64Array) -> None:
    """Linear around 0, up to the lower decile of the values' sizes."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    set_scale("symlog", linthresh=float(np.quantile(sizes, 0.1)))


if __name__ == "__main__":
    main()
