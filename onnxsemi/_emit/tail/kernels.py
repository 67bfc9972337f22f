"""DequantizeLinear as ONNX Runtime's integer kernels take it: zero points of their own, all zero.

Without them QGemm fails in ONNX Runtime 1.19 and is not fused in 1.32, and where a
DequantizeLinear is left over, ``session.x64quantprecision`` gives it a zero point of the wrong
shape. If several share one constant, that option replaces it twice and fails (1.32, processors
without VNNI): so nodes that share a weight have its codes through a Transpose that leaves the order
of the axes, which is folded to a constant of its own. Each takes the one before it: of several that
take the same, ONNX Runtime makes one again.
"""

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import Storage
from onnxsemi._emit.tail import Integers
from onnxsemi._emit.tail.dequantize import dequantize


def dequantize_for_kernels(
    build: Builder, storage: Storage, label: str, integers: Integers
) -> gs.Tensor:
    """float32, of the shape of the codes, which are signed."""
    codes, zeros = integers.codes, np.zeros(len(integers.scale), np.int8)
    while any(node.op == "DequantizeLinear" for node in codes.outputs):
        copies = [node.outputs[0] for node in codes.outputs if node.op == "Transpose"]
        order = list(range(integers.rank))
        codes = copies[0] if copies else build.node("Transpose", codes, dtype=np.int8, perm=order)
    return dequantize(build, storage, label, replace(integers, codes=codes, zero_point=zeros))
