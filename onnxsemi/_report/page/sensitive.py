"""The semilayers that bits are worth most in."""

import math
from collections.abc import Sequence

from onnxsemi._plan.bitwidth import BITS_TAKEN
from onnxsemi._report.page.channels import bits_name
from onnxsemi._report.page.groups import SemilayerRow, groups_of
from onnxsemi._report.page.markup import Markup, join, tag
from onnxsemi._report.page.plot import folded, table
from onnxsemi._report.record import RunRecord

MOST = 10


def sensitive(kept: RunRecord) -> Markup | None:
    """The most sensitive semilayers at the bitwidth that is nearest to the file's mean."""
    found = [group for group in groups_of(kept) if math.isfinite(group.sensitivity)]
    if not found:
        return None
    mean = kept.document.plan.mean_bits
    bits = min({group.bits for group in found}, key=lambda b: (abs(BITS_TAKEN[b] - mean), -b))
    there = sorted((g for g in found if g.bits == bits), key=lambda g: (-g.sensitivity, g.layer))
    shown = there[:MOST]
    caption = (
        f"The {len(shown)} most sensitive of {len(there)} semilayers at {bits_name(bits)}, the "
        f"bitwidth nearest to the file's mean of {mean:.2f}"
    )
    plan = kept.document.plan.layers
    return join(
        tag(
            "p",
            "Sensitivity is KL for each million float32 weights that quantizing the semilayer "
            "would save. Where it is high, bits are worth most.",
        ),
        table(
            ("layer", "semilayer", "channels", "sensitivity", "KL, nats", "bits in the file"),
            [_row(group, shown, plan[group.layer]) for group in shown],
            caption=caption,
        ),
        folded("All semilayers as a table", _all(found)),
    )


def _row(
    group: SemilayerRow, shown: Sequence[SemilayerRow], bits: Sequence[float]
) -> tuple[object, ...]:
    share = group.sensitivity / (shown[0].sensitivity or 1.0)
    bar = tag("span", class_="meter", style=f"--share:{share:.3f}")
    value = join(bar, f"{1e6 * group.sensitivity:.3g}")
    kl = f"{group.kl:.2e}".replace("-", "−")
    return group.layer, group.sign_name, group.channels, value, kl, _range(bits)


def _range(bits: Sequence[float]) -> str:
    mean = sum(bits) / len(bits)
    ends = f"{min(bits)}" if min(bits) == max(bits) else f"{min(bits)} to {max(bits)}"
    return f"{mean:.2f} ({ends})"


def _all(groups: Sequence[SemilayerRow]) -> Markup:
    rows = [
        (
            g.layer,
            g.sign_name,
            g.channels,
            g.bits,
            f"{g.kl:.2e}",
            f"{g.delta_loss:.2e}",
            f"{1e6 * g.sensitivity:.3g}",
        )
        for g in groups
    ]
    headings = ("layer", "semilayer", "channels", "bits", "KL, nats", "Δloss, nats", "sensitivity")
    return table(headings, rows, caption="Semilayers at every bitwidth")
