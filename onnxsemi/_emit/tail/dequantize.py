"""DequantizeLinear with per-channel scales: the standard's own form (opset 13).

ONNX Runtime never folds it by itself; ``session.disable_quant_qdq`` makes it.
"""

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.builder import Builder
from onnxsemi._emit.storage import Storage
from onnxsemi._emit.tail import Integers


def dequantize(build: Builder, storage: Storage, label: str, integers: Integers) -> gs.Tensor:
    """float32, of the shape of the codes."""
    inputs = [integers.codes, build.stored(f"{label}s", integers.scale)]
    if integers.zero_point is not None:
        inputs.append(storage.zero_points(label, integers.zero_point, integers.bits))
    return build.node("DequantizeLinear", *inputs, dtype=np.float32, axis=integers.axis)
