"""Each semilayer is dequantized, and the weight is put together from them.

    codes -> tail -> Concat(axis 0) -> Gather(inverse permutation) -> Conv
    float32 channels ---'

A layer of one bitwidth needs no Concat, and channels that already lie in order no Gather.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.layout import ChannelGroup, Parts, in_order, joined, to_stored
from onnxsemi._model.targets import Site


def semilayers(
    parts: Parts, label: str, site: Site, groups: Sequence[ChannelGroup], nodes: Sequence[gs.Node]
) -> None:
    """Give the nodes a weight of semilayers."""
    if len(groups) == 1:
        stored = parts.stored(label, groups[0], site.layout)
    else:
        weights = [parts.weight(label, group) for group in groups]
        weight = joined(parts.build, weights, 0, np.float32)
        weight = in_order(parts, weight, groups, 0, np.float32)
        stored = to_stored(parts.build, weight, site.layout)
    for node in nodes:
        node.inputs[1] = stored
