"""Results as tables that fit a terminal of 80 columns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table

from onnxsemi._emit.integer_kernels import Kernels
from onnxsemi._emit.narrow_types import NarrowTypes
from onnxsemi._emit.profile import Profile
from onnxsemi._emit.stored_weights import FOR_TOOLS, InspectedLayer
from onnxsemi._plan.bitwidth import shown
from onnxsemi._report.leftover import float_lines, large
from onnxsemi._report.line import line
from onnxsemi._report.plans import given_lines, plan_lines
from onnxsemi._report.predictions import prediction_lines
from onnxsemi._report.speed import Speed
from onnxsemi._results import wording
from onnxsemi._results.results import (
    ApplyResult,
    CompressResult,
    EvaluateResult,
    InspectResult,
    SensitivitySummary,
    Sizes,
)
from onnxsemi._results.timings import BenchResult, TimeSpread
from onnxsemi._search.verdict import Verdict
from onnxsemi._sensitivity.agreement import Agreement
from onnxsemi._stats.comparison import Comparison
from onnxsemi._stats.paired import Paired
from onnxsemi._stats.pairing import Pairing


def compress_table(result: CompressResult, *, verbose: bool = False) -> RenderableType:
    """The verdict, the file, its accuracy, and what to do next; with ``verbose`` everything else.

    The verdict stands first, and all of it fits one screen of 80 x 24.
    """
    report, before = result.report, result.sizes.bytes_before
    answers = _answers_table([("calib.", result.search), *_rows("test", report)], report)
    lines = [
        f"Wrote {result.output}, {result.sizes.text}; {_verified(result.profile)}.",
        _load_hint(result.profile, result.output),
        *([] if result.speed is None else [Speed.of(result.speed).line]),
        *([_TIME_ENDED] if result.trajectory.out_of_time else []),
        *_kernel_lines(result.kernels, result.profile),
        *type_lines(result.types),
        *_float_activations_line(result),
        *(f"Note: {note}." for note in result.notes),
        *float_lines(large(result.left_float, before), before),
        *given_lines(result),
        *_next_lines(result),
    ]
    parts: list[RenderableType] = [line(_verdict_line(result.verdict, report), "bold"), answers]
    if verbose:
        parts += [_sizes_table(result.sizes), *_trust(result), *map(line, _details(result))]
    else:
        lines.append("How it was found, and how sure: --verbose, or 'report'.")
    return Group(*parts, *map(line, lines))


_TIME_ENDED = "The time budget ended: --resume goes on with the search."


def _details(result: CompressResult) -> list[str]:
    """Everything that is no verdict."""
    point, report = result.chosen, result.report
    where = f"{point.phase} phase" + (
        f", {shown(point.bits)} bits" if point.bits is not None else ""
    )
    return [
        wording.sentence(wording.agreed(report)),
        f"Asked of the calibration images: {result.finding.text}.",
        f"Chosen from {len(result.trajectory.points)} plans ({where}); "
        f"{result.plan.mean_bits:.2f} bits a target weight.",
        *prediction_lines(result),
        f"Cost: {result.cost.text}; {result.cost.trials} trials, "
        f"{_duration(result.cost.seconds)}; effort {result.made_from['--effort']}.",
        f"Δloss and KL from {result.sensitivity.samples:,} calibration images.",
        *_exact_lines(result.sensitivity),
        f"Plan: {result.plan_file}",
    ]


def _trust(result: CompressResult) -> list[RenderableType]:
    agreement = result.sensitivity.agreement
    return [_agreement_table(agreement)] if agreement else []


def _verdict_line(claim: Verdict, report: Comparison) -> str:
    return wording.sentence(wording.verdict(claim, report))


def _next_lines(result: CompressResult | ApplyResult) -> list[str]:
    """What to do next: a safer point, or how many images it would take; other sizes."""
    claim, report = result.verdict, result.report
    run = result.run if isinstance(result, CompressResult) else None
    needed = None if claim is None or report is None else wording.needed(claim, report)
    return [
        *([] if needed is None else [wording.sentence(needed)]),
        *([f"A safer size: {result.next_command}"] if result.next_command else []),
        *([] if run is None else [f"Other sizes: onnxsemi pareto {run}"]),
    ]


def apply_table(result: ApplyResult) -> RenderableType:
    """Sizes, accuracy if data were given, and how to load the file."""
    parts: list[RenderableType] = []
    if result.report is not None:
        if result.verdict is not None:
            parts.append(line(_verdict_line(result.verdict, result.report), "bold"))
        parts.append(_answers_table(_rows("data", result.report), result.report))
        parts.append(line(wording.sentence(wording.agreed(result.report))))
    lines = (
        *_kernel_lines(result.kernels, result.profile),
        *type_lines(result.types),
        *plan_lines(result),
        f"Wrote {result.output}, {result.sizes.text}; {_verified(result.profile)}.",
        _load_hint(result.profile, result.output),
        *_next_lines(result),
    )
    return Group(*parts, _sizes_table(result.sizes), *map(line, lines))


def evaluate_table(result: EvaluateResult) -> RenderableType:
    """Accuracy, loss, and the difference from a reference."""
    table = plain_table("", "value")
    table.add_row("images", f"{result.total:,}")
    if result.correct is not None:
        table.add_row(result.head.accuracy, f"{result.correct / result.total:.2%}")
    if result.metric is not None:
        table.add_row(line(f"mean of {result.metric}"), f"{result.mean:.4f}")
    if result.loss is not None:
        table.add_row("loss", f"{result.loss:.5f} nats")
    if result.comparison is not None:
        _add_comparison(table, result.comparison)
    return table


def _add_comparison(table: Table, comparison: Comparison) -> None:
    same = wording.share_interval(comparison.same, comparison.images)
    table.add_row("KL from the reference", f"{comparison.kl:.3g} nats")
    table.add_row("same answer as the reference, 95 % interval", same)
    for what, paired in comparison.changes:
        table.add_row(line(f"reference's {what}"), paired.levels[0])
        table.add_row(line(f"change of {what}, 95 % interval"), wording.change(paired))
        table.add_row("images broken / fixed", f"{paired.broken:,} / {paired.fixed:,}")
        if isinstance(paired, Paired):
            table.add_row("McNemar p", wording.p_value(paired))


def inspect_table(result: InspectResult) -> RenderableType:
    """Layers with their bits and bytes, or with what makes them a target or not."""
    head = (
        f"{result.path}: {result.file_bytes:,} bytes, opset {result.opset}, IR {result.ir_version}"
    )
    stated = {key: value for key, value in result.properties.items() if key not in FOR_TOOLS}
    lines = [head, *(f"{key}: {value}" for key, value in stated.items())]
    if result.sizes is None:
        left = float_lines(result.left_float, result.file_bytes)
        said = [*(f"Note: {note}." for note in result.notes), *left]
        return Group(*map(line, lines), _float_table(result.layers), *map(line, said))
    notes = (line(f"Note: {note}.") for note in result.notes)
    return Group(*map(line, lines), _stored_table(result), _sizes_table(result.sizes), *notes)


def bench_table(result: BenchResult) -> RenderableType:
    """Latency, load time, memory and bytes, as ratios to the first row."""
    table = plain_table(
        "model", "folded", *(f"batch {n}" for n in result.batches), "load", "peak", "file"
    )
    for row in result.rows:
        table.add_row(
            "" if row.folded else line(row.model.name),
            "yes" if row.folded else "no",
            *map(_times, row.latency),
            _times(row.load),
            f"{row.peak_bytes / 2**20:.0f} MB",
            f"{row.file_bytes:,}",
        )
    first = result.rows[0]
    absolute = ", ".join(
        f"batch {batch} {1e3 * spread.seconds:.2f} ms"
        for batch, spread in zip(result.batches, first.latency, strict=True)
    )
    lines = [
        f"Times as ratios to the first row: median of {result.rounds} rounds, ± half the distance "
        f"of the quartiles; {result.threads} thread{'s' * (result.threads > 1)}.",
        f"First row: {absolute}, load {1e3 * first.load.seconds:.1f} ms.",
        "folded: opened by onnxsemi.load_session: float32 weights folded while it loads.",
    ]
    return Group(table, *map(line, lines))


def _times(spread: TimeSpread) -> str:
    low, high = spread.ratio_quartiles
    return f"{spread.ratio:.2f} ±{(high - low) / 2:.2f}"


def _float_table(layers: Iterable[InspectedLayer]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("layer", "weight", "role"):
        table.add_column(heading, overflow="fold")
    for layer in layers:
        table.add_row(line(layer.name), "x".join(map(str, layer.shape)), line(layer.status))
    return table


def _stored_table(result: InspectResult) -> Table:
    groups = [group for layer in result.layers for group in layer.groups]
    coded = any(group.taken_bits < 0.97 * group.bits for group in groups)
    centred = any(layer.levels is not None for layer in result.layers)
    taken = ("coded bits",) if coded else ()
    levels = ("levels",) if centred else ()
    parts = ("codes", "scales", "structure")
    table = plain_table("layer", *levels, "bits", *taken, "channels", *parts)
    for layer in result.layers:
        of_layer = ["" if layer.levels is None else str(layer.levels)] * len(levels)
        if not layer.groups:
            table.add_row(line(layer.name), *of_layer, "32")
        for place, group in enumerate(layer.groups):
            table.add_row(
                *([""] * (1 + len(levels)) if place else [line(layer.name), *of_layer]),
                str(group.bits),
                *([f"{group.taken_bits:.2f}"] if coded else []),
                str(group.channels),
                f"{group.code_bytes:,}",
                f"{group.scale_bytes:,}",
                f"{group.structure_bytes:,}",
            )
        if len(layer.groups) > 1:
            table.add_row(*[""] * (5 + len(levels) + len(taken)), f"+ {layer.structure_bytes:,}")
    before, apart = [""] * len(levels), [""] * (1 + len(taken))
    floats = f"{result.float_bytes:,}"
    table.add_row("float32 outside of them", *before, "32", *apart, floats, "", "")
    table.add_row("shared by layers", *before, "", *apart, "", "", f"{result.shared_bytes:,}")
    return table


def _sizes_table(sizes: Sizes) -> Table:
    table = plain_table("size", "smaller by", "")
    table.add_row("target weights (the paper's ratio)", f"{sizes.targets:.2%}", "")
    table.add_row("whole model", f"{sizes.model:.2%}", "")
    change = f"{sizes.bytes_before:,} -> {sizes.bytes_after:,} bytes"
    table.add_row("file", f"{sizes.file:.2%}", change)
    table.add_row("overhead beyond payload", "", f"{sizes.overhead:+.2%}")
    zipped = 1 - sizes.gzip_bytes / sizes.bytes_before
    table.add_row("file after gzip", f"{zipped:.2%}", f"{sizes.gzip_bytes:,} bytes")
    return table


_INTEGERS = (
    "At full speed in any ONNX Runtime session; on x86 processors without VNNI open it with "
    "onnxsemi.load_session, whose integer sums do not overflow there."
)
_HINTS = {
    Profile.FAKE: "Float32 weights on the grid: the file is no smaller, and runs as the float one.",
    Profile.INT8: _INTEGERS,
    Profile.INT8_DENSE: _INTEGERS,
    Profile.TENSORRT: "For TensorRT, on which it was not tried; ONNX Runtime runs it, too.",
}


def _load_hint(profile: Profile, output: Path) -> str:
    """How to run the file at full speed."""
    if profile in _HINTS:
        return _HINTS[profile]
    if profile is Profile.NODES:
        return f"Fastest, from Python: onnxsemi.load_session({str(output)!r}); see 'bench'."
    if profile.dequantizes:
        return f"At full speed, from Python: onnxsemi.load_session({str(output)!r})"
    return "At full speed in any ONNX Runtime session, after unpacking once while it loads."


def _verified(profile: Profile) -> str:
    if profile.quantizes_activations:
        noise = f"within the noise of the {profile.activation_type} grids"
        return f"weights verified bit for bit, logits {noise}"
    return "verified bit for bit"


def _kernel_lines(kernels: Kernels | None, profile: Profile) -> list[str]:
    """How many targets run on ONNX Runtime's integer kernels, and why the others do not."""
    if kernels is None or profile.activation_type != "uint8":
        return []
    count = len(kernels.integer) + len(kernels.floating)
    used = ", ".join(
        f"{number} {kernel}" for kernel, number in Counter(kernels.integer.values()).items()
    )
    lines = [f"Integer kernels: {len(kernels.integer)} of {count} target nodes ({used or 'none'})."]
    lines.extend(f"{node} runs in float32: {why}." for node, why in kernels.floating.items())
    return lines


def type_lines(types: NarrowTypes | None) -> list[str]:
    """How many layers ONNX's own narrow types hold.

    >>> type_lines(NarrowTypes({"conv": ("INT4", "INT2"), "fc": ("INT4",)}, ("stem",)))
    ["ONNX's own types hold 2 of 3 layers (INT4 in 2, INT2 in 1); other bitwidths are bit-packed."]
    """
    if types is None:
        return []
    count = len(types.layers) + len(types.others)
    used = Counter(name for names in types.layers.values() for name in names)
    told = ", ".join(f"{name} in {number}" for name, number in used.items()) or "none"
    return [
        f"ONNX's own types hold {len(types.layers)} of {count} layers ({told}); other bitwidths "
        "are bit-packed."
    ]


def _float_activations_line(result: CompressResult) -> list[str]:
    """What the activations cost, as the search measured the same plan without them."""
    if result.kernels is None:
        return []
    score, metric, kind = result.chosen.score, result.report.metric, result.profile.activation_type
    if metric is not None:
        return [
            f"All means with activations in {kind}; with float32 ones that of the "
            f"calibration images is {score.accuracy:.4f}."
        ]
    share = wording.share(score.correct, score.total)
    what = "accuracy" if result.has_labels else "agreement"
    return [
        f"All {what} with activations in {kind}; with float32 ones that of the calibration images "
        f"is {share}."
    ]


def _rows(name: str, comparison: Comparison) -> list[tuple[str, Pairing]]:
    """By the metric, or top-1 and top-5, or agreement."""
    top5 = comparison.top5
    return [(name, comparison.answers), *([] if top5 is None else [(" top-5", top5)])]


def _answers_table(rows: Iterable[tuple[str, Pairing]], comparison: Comparison) -> Table:
    """Right answers before and after; without labels, how many are the float model's."""
    if not comparison.labelled:
        table = plain_table("agreement", "images", "same", "share, 95 % interval")
        for name, paired in rows:
            same = f"{paired.total - paired.broken - paired.fixed:,}"
            table.add_row(name, f"{paired.total:,}", same, wording.same(paired))
        return table
    tests = () if comparison.top1 is None else ("McNemar p",)
    headings = ("images", "float", "now", "change, 95 % interval", "broken/fixed", *tests)
    table = plain_table(comparison.changes[0][0], *headings)
    for name, paired in rows:
        table.add_row(
            name,
            f"{paired.total:,}",
            *paired.levels,
            wording.change(paired),
            f"{paired.broken}/{paired.fixed}",
            *((wording.p_value(paired),) if isinstance(paired, Paired) else ()),
        )
    return table


def plain_table(*headings: str) -> Table:
    """Columns without lines; all but the first are figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        side: JustifyMethod = "right" if place else "left"
        table.add_column(heading, justify=side, no_wrap=place > 0, overflow="fold")
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _agreement_table(agreement: Sequence[Agreement]) -> Table:
    """How far the fast way can be trusted."""
    channels = agreement[0].channels
    table = plain_table("fast against exact, bits", *(str(shown(a.bits)) for a in agreement))
    table.add_row(f"same sign, of {channels} channels", *(f"{a.same_sign:.0%}" for a in agreement))
    table.add_row("rank of Δloss (Spearman)", *(f"{a.delta_loss_rank:.2f}" for a in agreement))
    table.add_row("rank of KL (Spearman)", *(f"{a.kl_rank:.2f}" for a in agreement))
    return table


def _exact_lines(summary: SensitivitySummary) -> list[str]:
    """What was measured exactly."""
    lines = [
        f"{what} was measured exactly at {', '.join(str(shown(b)) for b in bits)} bits."
        for what, bits in (("Δloss", summary.exact_delta_loss), ("KL", summary.exact_kl))
        if bits
    ]
    for how, layers in (
        ("Measured exactly", summary.missing.keys() - set(summary.estimated)),
        ("Estimated from the errors of outputs", summary.missing.keys() & set(summary.estimated)),
    ):
        reasons = Counter(summary.missing[layer] for layer in layers)
        lines.extend(
            f"{how}, for lack of a backward pass: {count} layers above {reason}."
            for reason, count in sorted(reasons.items())
        )
    if summary.estimated:
        lines.append(
            f"Δloss and KL of {len(summary.estimated)} layers are estimates from the errors of "
            f"their outputs: exactly they would take {summary.exact_passes:,.0f} passes over "
            f"{summary.samples:,} images (--delta-loss exact)."
        )
    return lines
