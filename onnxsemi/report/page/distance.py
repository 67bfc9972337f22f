"""Δloss of a channel against the change of its weights (the paper's figure 2)."""

import numpy as np

from onnxsemi.report.page.channels import bits_name
from onnxsemi.report.page.correlation import correlations
from onnxsemi.report.page.markup import Markup, join, tag
from onnxsemi.report.page.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    bits_class,
    dots,
    figure,
    legend,
    plot,
    table,
)
from onnxsemi.report.page.scale import logarithmic, stretched
from onnxsemi.run.kept import Kept


def distance(kept: Kept) -> Markup | None:
    """The figure and its correlations; None if Δloss was not measured."""
    evidence = kept.evidence
    known = np.isfinite(evidence.delta_loss).all(axis=1)
    losses, lengths = evidence.delta_loss[known], evidence.distance[known]
    if not len(losses):
        return None
    bits = evidence.bits.tolist()
    x, y = logarithmic(lengths, LEFT, RIGHT), stretched(losses, BOTTOM, TOP)
    marks = []
    for place, b in enumerate(bits):
        moved = lengths[:, place] > 0
        across, up = x.all(lengths[moved, place]), y.all(losses[moved, place])
        marks.append(dots(across, up, bits_class(b)))
    drawn = plot(
        Axis(x, "‖Δw‖₁, sum of the absolute changes of the weights"),
        Axis(y, "Δloss, nats a sample (stretched around 0)"),
        join(*marks),
        label="Δloss of each channel at each bitwidth against the change of its weights",
    )
    rows = [
        (bits_name(b), *correlations(lengths[:, place], losses[:, place]))
        for place, b in enumerate(bits)
    ]
    headings = ("bits", "Pearson", "Spearman", "channels")
    return join(
        legend([(bits_class(b), bits_name(b)) for b in bits]),
        figure(
            drawn,
            "A channel at a bitwidth is a dot. Were the change of the weights enough to know the "
            "loss, the dots would lie on a line. (Figure 2 of the paper.)",
        ),
        table(headings, rows, caption="Correlation of Δloss with ‖Δw‖₁"),
        tag("p", "Channels that their bitwidth leaves unchanged are not drawn.", class_="small"),
    )
