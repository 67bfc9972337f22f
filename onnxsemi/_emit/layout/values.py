"""The weights as float32 values on the grid: for importers that take nothing else."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.layout import ChannelGroup, Parts
from onnxsemi._model.targets import Site


def values(
    parts: Parts, label: str, site: Site, groups: Sequence[ChannelGroup], nodes: Sequence[gs.Node]
) -> None:
    """Give the nodes an initializer of quantized weights."""
    weight = np.empty_like(site.layer.weight)
    for group in groups:
        weight[group.channels] = group.weight
    stored = parts.build.stored(label, site.layout.to_stored(weight))
    for node in nodes:
        node.inputs[1] = stored
