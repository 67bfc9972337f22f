"""A node for each semilayer: for runtimes and compilers that take one bitwidth a node.

    x -> Conv(semilayer 1) -> Concat(channels) -> Gather(inverse permutation) -> y
     '-> Conv(semilayer 2) ---'

Each node is named after the layer and its bitwidth, ``conv1/6``, with a number behind it if a node
has that name; which nodes belong together stands in the file's metadata. A layer of one bitwidth
stays one node. Grouped convolutions cannot be divided: their channels see different inputs.

The channel axis is counted from the end: OpenVINO 2026.4 moves a Gather on axis 1 into the weights
of a convolution behind it, and there takes the permutation for its inverse.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.layout import ChannelGroup, Parts, in_order, joined
from onnxsemi._emit.layout.semilayers import semilayers
from onnxsemi._errors import PlanError
from onnxsemi._model.targets import Site


def nodes_apart(
    parts: Parts, label: str, site: Site, groups: Sequence[ChannelGroup], nodes: Sequence[gs.Node]
) -> None:
    """Divide the nodes."""
    if len(groups) == 1:
        semilayers(parts, label, site, groups, nodes)
        return
    if any(node.attrs.get("group", 1) != 1 for node in nodes):
        raise PlanError(
            f"layer {site.layer.name!r} is a grouped convolution of several bitwidths, which "
            "profile 'nodes' cannot divide: choose another profile, or give it one bitwidth "
            "with `pins`"
        )
    build, axis = parts.build, _channel_axis(site)
    names: dict[int, list[str]] = {group.bits: [] for group in groups}
    parts.divided[site.layer.name] = names
    weights = [
        parts.stored(label, group, site.layout.of_channels(len(group.channels))) for group in groups
    ]
    for node in nodes:
        outputs = []
        for group, weight in zip(groups, weights, strict=True):
            output = build.variable(np.float32)
            inputs = [
                node.inputs[0],
                weight,
                *_bias(build, site, node, group),
            ]
            name = build.node_name(f"{node.name}/{group.bits}")
            names[group.bits].append(name)
            build.append(node.op, inputs, [output], name, **node.attrs)
            outputs.append(output)
        whole = joined(build, outputs, axis, np.float32)
        ordered = in_order(parts, whole, groups, axis, np.float32)
        last = ordered.inputs[0]
        last.outputs = [node.outputs[0]]
        node.outputs.clear()


def _channel_axis(site: Site) -> int:
    if site.layout.output_axis < 0:
        return site.layout.output_axis
    return site.layout.output_axis - site.layer.weight.ndim  # as many axes as the weight


def _bias(build: Builder, site: Site, node: gs.Node, group: ChannelGroup) -> list[gs.Tensor]:
    """A semilayer's share of the bias; nothing if there is none."""
    if len(node.inputs) < 3:
        return []
    bias = node.inputs[2]
    if not isinstance(bias, gs.Constant):
        raise PlanError(
            f"layer {site.layer.name!r} has a bias that is computed at run time, which profile "
            "'nodes' cannot divide: choose another profile, or give it one bitwidth with `pins`"
        )
    if bias.values.shape[-1:] != (site.layer.channels,):
        return [bias]  # Gemm: the same for every channel
    return [build.shared(bias.values[..., group.channels])]
