"""<J u, v> = <u, J^T v> for any Conv, MaxPool and AveragePool that ONNX Runtime accepts."""

import math
from dataclasses import dataclass

import numpy as np
from gradient_cases import COTANGENTS, EPS32, gradient_of, joined, runtime, text_model
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from onnxsemi._errors import ModelError


@dataclass(frozen=True)
class Geometry:
    """One Conv or pool; a value for each spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    size: tuple[int, ...]

    def text(self, *others: str) -> str:
        parts = ("kernel", "kernel_shape"), ("strides",) * 2, ("dilations",) * 2, ("pads",) * 2
        listed = [f"{name} = {list(getattr(self, part))}" for part, name in parts]
        return f"<{', '.join([*listed, *others])}>"


@st.composite
def geometries(draw, most_padding):
    axes = draw(st.integers(1, 3))

    def each(low, high, count=axes):
        return tuple(draw(st.integers(low, high)) for _ in range(count))

    kernel, dilations = each(1, 3), each(1, 3)
    pads = tuple(draw(st.integers(0, most_padding(k))) for k in kernel * 2)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    paddings = [pads[i] + pads[axes + i] for i in range(axes)]
    size = tuple(
        draw(st.integers(max(1, r - p), max(1, r - p) + (6, 6, 4)[axes - 1]))
        for r, p in zip(reach, paddings, strict=True)
    )
    return Geometry(kernel, each(1, 4), dilations, pads, size)


def gradient(model, rows, feeds, seed):
    both = joined(model, rows, ("x",))
    return runtime(both.model)({**feeds, COTANGENTS: seed})[gradient_of("x")]


def dot(a, b):
    return float(np.vdot(a.astype(np.float64), b.astype(np.float64)))


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    geometry=geometries(lambda k: k + 1),
    group=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    seed=st.integers(0, 2**32 - 1),
)
def test_conv(geometry, group, channels, seed):
    # Each side sums, over outputs and inputs, products of a weight, u and v. A sum of n products is
    # off by n eps times the sum of their sizes, which is <|J| |u|, |v|>.
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(group * channels[1], channels[0], *geometry.kernel))
    row = (group * channels[0], *geometry.size)
    call = f"y = Conv {geometry.text(f'group = {group}')} (x, w)"
    model, sizes = (text_model(call, {"x": row}, {"w": w}) for w in (weight, np.abs(weight)))
    u = generator.normal(size=(2, *row)).astype(np.float32)
    forward = runtime(model)({"x": u})["y"]
    v = generator.normal(size=forward.shape).astype(np.float32)
    back = gradient(model, {"x": row, "y": forward.shape[1:]}, {"x": u}, v)
    assert back.shape == u.shape
    terms = math.prod(geometry.kernel) * sum(channels)
    bound = terms * EPS32 * dot(runtime(sizes)({"x": np.abs(u)})["y"], np.abs(v))
    assert abs(dot(forward, v) - dot(u, back)) <= bound


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    geometry=geometries(lambda k: k - 1),
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    ceil=st.integers(0, 1),
    padding_counts=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_pools(geometry, op, ceil, padding_counts, seed):
    # MaxPool is linear around a point of distinct values: its Jacobian there gives its value.
    generator = np.random.default_rng(seed)
    counts = [f"count_include_pad = {padding_counts}"] if op == "AveragePool" else []
    row = (2, *geometry.size)
    call = f"y = {op} {geometry.text(f'ceil_mode = {ceil}', *counts)} (x)"
    model = text_model(call, {"x": row}, {}, opset=19)
    u = generator.permutation(2 * math.prod(row)).reshape(2, *row).astype(np.float32)
    try:
        forward = runtime(model)({"x": u})["y"]
    except ModelError:
        reject()
    assume(np.isfinite(forward).all() and np.abs(forward).max(initial=0) < u.size)
    v = generator.normal(size=forward.shape).astype(np.float32)
    back = gradient(model, {"x": row, "y": forward.shape[1:]}, {"x": u}, v)
    bound = 2 * math.prod(geometry.kernel) * EPS32 * dot(np.abs(forward), np.abs(v))
    assert abs(dot(forward, v) - dot(u, back)) <= bound
