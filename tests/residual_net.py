"""A small residual classifier with seeded weights, and labelled noise for it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
residual (float[N,3,8,8] image) => (float[N,5] scores)
{
    stem = Conv <pads = [1,1,1,1]> (image, stem_w, stem_b)
    a = Relu (stem)
    c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (a, c1_w, c1_b)
    c1r = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (c1r, c2_w)
    short = Conv <strides = [2,2]> (a, short_w)
    sum = Add (c2, short)
    s = Relu (sum)
    dw = Conv <pads = [1,1,1,1], group = 8> (s, dw_w)
    dwr = Relu (dw)
    tied1 = Conv <pads = [1,1,1,1]> (dwr, tied_w)
    tied1r = Relu (tied1)
    tied2 = Conv <pads = [1,1,1,1]> (tied1r, tied_w)
    sum2 = Add (tied2, s)
    t = Relu (sum2)
    pooled = GlobalAveragePool (t)
    shape = Shape (pooled)
    zero = Constant <value = int64[1] {0}> ()
    batch = Gather (shape, zero)
    rest = Constant <value = int64[1] {-1}> ()
    flat_shape = Concat <axis = 0> (batch, rest)
    flat = Reshape (pooled, flat_shape)
    scores = Gemm <transB = 1> (flat, fc_w, fc_b)
}
"""
SHAPES = {
    "stem_w": (6, 3, 3, 3),
    "stem_b": (6,),
    "c1_w": (8, 6, 3, 3),
    "c1_b": (8,),
    "c2_w": (8, 8, 3, 3),
    "short_w": (8, 6, 1, 1),
    "dw_w": (8, 1, 3, 3),
    "tied_w": (8, 8, 3, 3),
    "fc_w": (5, 8),
    "fc_b": (5,),
}


def residual_net(seed: int = 0) -> onnx.ModelProto:
    """Stem, residual block with projection, depthwise and tied convolutions, dynamic flatten."""
    rng = np.random.default_rng(seed)
    model = parser.parse_model(TEXT)
    for name, shape in SHAPES.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        values = rng.normal(0, 2 / np.sqrt(fan_in), shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def save_residual_net(path: Path, seed: int = 0) -> Path:
    """Write the net to a file."""
    onnx.save(residual_net(seed), path)
    return path


def save_noise(path: Path, *, count: int, seed: int, labels: bool = True) -> Path:
    """uint8 noise of the net's shape; labels are arbitrary classes."""
    rng = np.random.default_rng(seed)
    arrays = {"x": rng.integers(0, 256, (count, 8, 8, 3), np.uint8)}
    if labels:
        arrays["y"] = rng.integers(0, 5, count)
    np.savez(path, **arrays, mean=np.float32(0.5), std=np.float32(0.25))
    return path
