"""Profile ``qdq``: each layer's weight as its semilayers, dequantized and put back together.

    codes -> unpack -> DequantizeLinear -> Concat(axis 0) -> Gather(inverse permutation) -> Conv
    float32 channels --------------------'

One initializer of codes for each bitwidth of a layer, with per-channel scales and zero points.
A layer of one bitwidth needs no Concat, and channels that already lie in order no Gather.
"""

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi.bitwidth import FLOAT_BITS
from onnxsemi.emit.builder import Builder
from onnxsemi.emit.unpack import unpacked_codes
from onnxsemi.model.layout import Layout
from onnxsemi.model.targets import Site
from onnxsemi.quantizer.affine import Scheme, quantize


def weight_path(
    build: Builder, label: str, site: Site, bits: tuple[int, ...], scheme: Scheme
) -> gs.Tensor:
    """The layer's weight in the operator's own layout, computed from the stored codes.

    Args:
        build: Adds to the graph.
        label: Short name of the layer, unique in the file.
        site: The layer.
        bits: Bitwidth of each channel; not all of them 32.
        scheme: The quantizer's scheme.
    """
    bits_of = np.array(bits)
    order = np.argsort(-bits_of, kind="stable")  # channels of equal bitwidth together, ascending
    groups = [
        _group(build, f"{label}_{value}", site.layer.weight[bits_of == value], value, scheme)
        for value in sorted(set(bits), reverse=True)
    ]
    weight = groups[0]
    if len(groups) > 1:
        weight = build.node("Concat", *groups, dtype=np.float32, axis=0)
    if not np.array_equal(order, np.arange(len(order))):
        inverse = np.argsort(order).astype(np.int32)
        places = build.stored(f"{label}_p", inverse)
        weight = build.node("Gather", weight, places, dtype=np.float32, axis=0)
    return _to_stored(build, weight, site.layout)


def _group(build: Builder, label: str, weight: np.ndarray, bits: int, scheme: Scheme) -> gs.Tensor:
    """Channels of one bitwidth: float32[C, ...]."""
    if bits == FLOAT_BITS:
        return build.stored(label, weight)
    quantized = quantize(weight, bits, scheme)
    codes = unpacked_codes(build, label, quantized)
    scale = build.stored(f"{label}s", quantized.scale)
    zero_point = build.stored(f"{label}z", quantized.zero_point)
    return build.node("DequantizeLinear", codes, scale, zero_point, dtype=np.float32, axis=0)


def _to_stored(build: Builder, weight: gs.Tensor, layout: Layout) -> gs.Tensor:
    """Channels-first weight -> the operator's own layout."""
    if layout.is_identity:
        return weight
    if layout.split != layout.channel_first:
        weight = build.node("Reshape", weight, build.integers(*layout.split), dtype=np.float32)
    weight = build.node("Transpose", weight, dtype=np.float32, perm=list(layout.order))
    if tuple(layout.split[axis] for axis in layout.order) != layout.stored:
        weight = build.node("Reshape", weight, build.integers(*layout.stored), dtype=np.float32)
    return weight
