"""Cast -> Sub -> Mul instead of DequantizeLinear: any session folds it while it loads.

The same values bit for bit: the difference of two codes is exact in float32, and both multiply it
by the scale.
"""

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import Storage
from onnxsemi._emit.tail import Integers


def arithmetic(build: Builder, storage: Storage, label: str, integers: Integers) -> gs.Tensor:
    """float32, of the shape of the codes."""
    shape = [1] * integers.rank
    shape[integers.axis] = -1
    values = build.cast(integers.codes, np.float32)
    if integers.zero_point is not None:
        zero = storage.zero_points(label, integers.zero_point.reshape(shape), integers.bits)
        values = build.node("Sub", values, build.cast(zero, np.float32), dtype=np.float32)
    scale = build.stored(f"{label}s", integers.scale.reshape(shape))
    return build.node("Mul", values, scale, dtype=np.float32)
