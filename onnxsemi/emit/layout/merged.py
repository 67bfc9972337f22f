"""The semilayers are put together as integers, and dequantized together.

    codes -> Concat(axis 0) -> Gather(inverse permutation) -> tail -> Conv

One tail a layer instead of one a semilayer; with signed codes and DequantizeLinear it is the form
that ONNX Runtime's integer kernels take. Float32 channels join behind the tail, before the Gather.
The storage must give codes of all bitwidths in one type.
"""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi.bitwidth import MAX_BITS
from onnxsemi.emit.layout import Group, Parts, in_order, joined, to_stored
from onnxsemi.emit.tail import Integers
from onnxsemi.model.targets import Site


def merged(
    parts: Parts, label: str, site: Site, groups: Sequence[Group], nodes: Sequence[gs.Node]
) -> None:
    """Give the nodes a weight of merged integers."""
    build, dtype = parts.build, np.int8 if parts.signed else np.uint8
    whole = [group for group in groups if group.quantized is None]
    packed = [(group, group.quantized) for group in groups if group.quantized is not None]
    codes = joined(
        build,
        [parts.storage.codes(f"{label}_{group.bits}", quantized) for group, quantized in packed],
        0,
        dtype,
    )
    order = np.argsort(np.concatenate([group.channels for group, _ in packed]))
    if whole:
        order = np.arange(len(order))
    else:
        codes = in_order(parts, codes, groups, 0, dtype)
    scale = np.concatenate([quantized.scale for _, quantized in packed])[order]
    zero = np.concatenate([quantized.zero_point for _, quantized in packed])[order]
    integers = Integers(
        codes, site.layer.weight.ndim, MAX_BITS, scale, None if parts.signed else zero
    )
    weight = parts.tail(build, parts.storage, label, integers)
    if whole:
        every = [*(parts.weight(label, group) for group in whole), weight]
        weight = in_order(parts, joined(build, every, 0, np.float32), groups, 0, np.float32)
    for node in nodes:
        node.inputs[1] = to_stored(build, weight, site.layout)
