"""The semilayers are put together as integers, and dequantized together.

    codes -> Concat(axis 0) -> Gather(inverse permutation) -> (Transpose) -> tail -> Conv

One tail a layer instead of one a semilayer; with signed codes and DequantizeLinear it is the form
that ONNX Runtime's integer kernels take, if each node has a tail of its own. Float32 channels join
behind the tail, before the Gather, and so do channels at 0 bits, which need no scales then; unless
that would keep the layer from integer kernels: there they are codes as all others. The storage must
give codes of all bitwidths in one type.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._arrays import Int64Array
from onnxsemi._emit.layout import ChannelGroup, Parts, in_order, joined, to_stored, unmatched
from onnxsemi._emit.layout.semilayers import semilayers
from onnxsemi._emit.tail import Integers
from onnxsemi._model.targets import Site
from onnxsemi._plan.bitwidth import MAX_BITS


def merged(
    parts: Parts, label: str, site: Site, groups: Sequence[ChannelGroup], nodes: Sequence[gs.Node]
) -> None:
    """Give the nodes a weight of merged integers and of zeros."""
    packed = [group for group in groups if group.quantized is not None and group.bits]
    if packed:
        _merge(parts, label, site, (_others(groups, packed), packed), nodes)
        for node in nodes:
            node.inputs[1] = unmatched(parts, node.inputs[1], site.layout)
    else:
        semilayers(parts, label, site, groups, nodes)


def merged_for_kernels(
    parts: Parts, label: str, site: Site, groups: Sequence[ChannelGroup], nodes: Sequence[gs.Node]
) -> None:
    """Give the nodes a weight of merged integers, those of channels at 0 bits among them."""
    packed = [group for group in groups if group.quantized is not None]
    _merge(parts, label, site, (_others(groups, packed), packed), nodes)


def _others(groups: Sequence[ChannelGroup], packed: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    return [group for group in groups if group not in packed]


def _merge(
    parts: Parts,
    label: str,
    site: Site,
    groups: tuple[Sequence[ChannelGroup], Sequence[ChannelGroup]],
    nodes: Sequence[gs.Node],
) -> None:
    """Give the nodes a weight of two kinds of groups: float32 tensors, and integers."""
    build, dtype = parts.build, np.int8 if parts.signed else np.uint8
    apart, packed = groups
    codes = joined(build, [parts.codes(label, group) for group in packed], 0, dtype)
    if apart or site.layout.stored_axis is None:
        unordered = np.arange(sum(len(group.channels) for group in packed))
        integers = _integers(parts, codes, 0, packed, unordered)
        values = parts.tail(build, parts.storage, label, integers)
        every = joined(build, [*(parts.weight(label, g) for g in apart), values], 0, np.float32)
        weight = in_order(parts, every, [*apart, *packed], 0, np.float32)
        for node in nodes:
            node.inputs[1] = to_stored(build, weight, site.layout)
        return
    codes = in_order(parts, codes, packed, 0, dtype)
    codes = to_stored(build, codes, site.layout, dtype)
    order = np.argsort(np.concatenate([group.channels for group in packed]))
    integers = _integers(parts, codes, site.layout.stored_axis, packed, order)
    for number, node in enumerate(nodes):
        own = f"{label}n{number}" if number else label
        node.inputs[1] = parts.tail(build, parts.storage, own, integers)


def _integers(
    parts: Parts, codes: gs.Tensor, axis: int, packed: Sequence[ChannelGroup], order: Int64Array
) -> Integers:
    """The codes, with scales and zero points of their groups put in order."""
    channels = [group.quantized for group in packed if group.quantized is not None]
    scale = np.concatenate([quantized.scale for quantized in channels])[order]
    zero = np.concatenate([quantized.zero_point for quantized in channels])[order]
    rank = packed[0].weight.ndim
    return Integers(codes, axis, rank, MAX_BITS, scale, None if parts.signed else zero)
