"""Backward graphs of whole nets: inner tensors, several consumers, seeds, batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import onnx
import pytest
from gradient_cases import (
    COTANGENTS,
    EPS64,
    OPERATIONS,
    distinct,
    draw_cotangents,
    draw_weights,
    gradient_of,
    in_type,
    joined,
    numeric_jacobian,
    pulled,
    reference,
    row_shapes,
    runtime,
    tensor_shapes,
    text_model,
)
from onnx import numpy_helper, version_converter
from residual_net import SHAPES, TEXT

Shape = tuple[int, ...]
IMAGES, COORDINATES = 2, 6
STEP = 2.0**-18  # so small that no Relu or largest cell changes on the way


@dataclass(frozen=True, eq=False)
class Net:
    """A net from ``x`` to ``y``.

    Attributes:
        name: Its id.
        body: Its nodes.
        weights: Constant -> shape.
        inner: Tensors whose gradients are wanted.
        given: Constant -> its values.
        x: Shape of one row of the input.
        opset: From which it is raised to 18.
    """

    name: str
    body: str
    weights: Mapping[str, Shape]
    inner: tuple[str, ...]
    given: Mapping[str, object] = field(default_factory=dict)
    x: Shape = (3, 8, 8)
    opset: int = 18

    def model(self, dtype=np.float32) -> onnx.ModelProto:
        """Opset 18, nodes called after their outputs, no Constant nodes, weights of good size."""
        constants = {name: np.array(values) for name, values in self.given.items()}
        for name, values in draw_weights(self.weights).items():
            scaled = values / np.sqrt(np.prod(values.shape[1:]))
            constants[name] = scaled.astype(np.float32).astype(np.float64)
        model = text_model(self.body, {"x": self.x}, constants, dtype, self.opset)
        if self.opset < 18:
            model = version_converter.convert_version(model, 18)
        constants = [node for node in model.graph.node if node.op_type == "Constant"]
        for node in constants:
            value = numpy_helper.to_array(node.attribute[0].t)
            model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            model.graph.node.remove(node)
        for node in model.graph.node:
            node.name = node.output[0]
        return model


RESIDUAL = Net(
    "residual",
    TEXT[TEXT.index("{", TEXT.index("=>")) + 1 : TEXT.rindex("}")]
    .replace("image", "x")
    .replace("scores", "y"),
    SHAPES,
    ("stem", "c1", "c2", "short", "dw", "tied1", "tied2", "sum", "pooled", "flat"),
    opset=17,
)
NETS = [
    RESIDUAL,
    Net(
        "plain",
        """
        a = Conv <pads = [1,1,1,1]> (x, a_w)
        n = BatchNormalization (a, scale, shift, mean, var)
        ar = Relu (n)
        b = Conv <strides = [2,2], pads = [0,0,1,1]> (ar, b_w)
        br = LeakyRelu <alpha = 0.1> (b)
        p = GlobalAveragePool (br)
        f = Flatten (p)
        y = Gemm <transB = 1> (f, y_w, y_b)
        """,
        {
            "a_w": (4, 3, 3, 3),
            **dict.fromkeys(("scale", "shift", "mean", "var"), (4,)),
            "b_w": (5, 4, 3, 3),
            "y_w": (3, 5),
            "y_b": (3,),
        },
        ("a", "b", "f"),
    ),
    Net(
        "squeeze-and-excite",
        """
        a = Conv <pads = [1,1,1,1]> (x, a_w)
        ar = HardSwish (a)
        p = GlobalAveragePool (ar)
        s = Conv (p, s_w)
        sr = Relu (s)
        e = Conv (sr, e_w)
        gate = Sigmoid (e)
        h = Mul (ar, gate)
        gated = Mul (h, gate)
        b = Conv <strides = [2,2]> (gated, b_w)
        bt = Tanh (b)
        y = ReduceSum <keepdims = 0> (bt, spatial)
        """,
        {"a_w": (4, 3, 3, 3), "s_w": (2, 4, 1, 1), "e_w": (4, 2, 1, 1), "b_w": (3, 4, 3, 3)},
        ("a", "s", "e", "b"),
        {"spatial": [2, 3]},
        (3, 7, 7),
    ),
    Net(  # 75 values in an image: the images of a batch are aligned differently
        "gated",
        "p = GlobalAveragePool (x)\n gate = Sigmoid (p)\n y = Mul (x, gate)",
        {},
        ("p", "gate"),
        x=(3, 5, 5),
    ),
    Net(
        "branches",
        """
        a = Conv <pads = [1,1,1,1]> (x, a_w)
        m = MaxPool <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]> (a)
        v = AveragePool <kernel_shape = [2,2], strides = [2,2]> (a)
        c = Conv <strides = [2,2], pads = [1,1,1,1]> (a, c_w)
        even = Slice (a, starts, ends, axes, steps)
        half = Slice (even, channel_start, channel_end, channel_start)
        wide = Concat <axis = 1> (half, even)
        all = Concat <axis = 1> (m, c, v, c)
        d = Conv (all, d_w)
        sum = Sum (d, wide, d)
        m2 = MaxPool <kernel_shape = [2,2], strides = [2,2]> (sum)
        y = Flatten (m2)
        """,
        {"a_w": (4, 3, 3, 3), "c_w": (2, 4, 3, 3), "d_w": (6, 12, 1, 1)},
        ("a", "c", "d"),
        {
            "starts": [0, 0],
            "ends": [8, 8],
            "axes": [2, 3],
            "steps": [2, 2],
            "channel_start": [1],
            "channel_end": [3],
        },
    ),
    Net(
        "attention",
        """
        patches = Conv <strides = [4,4]> (x, patches_w)
        rows = Reshape (patches, flat)
        body = Transpose <perm = [0,2,1]> (rows)
        whole = Shape (x)
        one = Slice (whole, start, end)
        token_shape = Concat <axis = 0> (one, token_row)
        token = Expand (token_w, token_shape)
        tokens = Concat <axis = 1> (token, body)
        q = MatMul (tokens, q_w)
        k = MatMul (tokens, k_w)
        v = MatMul (tokens, v_w)
        turned = Transpose <perm = [0,2,1]> (k)
        products = MatMul (q, turned)
        scaled = Div (products, root)
        weights = Softmax <axis = -1> (scaled)
        mixed = MatMul (weights, v)
        sum = Add (mixed, tokens)
        first = Slice (sum, start, end, end)
        squeezed = Squeeze (first, end)
        y = Gemm (squeezed, y_w)
        """,
        {
            "patches_w": (6, 3, 4, 4),
            "token_w": (1, 1, 6),
            **dict.fromkeys(("q_w", "k_w", "v_w"), (6, 6)),
            "root": (),
            "y_w": (6, 3),
        },
        ("patches", "q", "k", "v", "sum"),
        {"flat": [0, 6, -1], "start": [0], "end": [1], "token_row": [1, 6]},
    ),
    Net(
        "hourglass",
        """
        a = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (x, a_w)
        ar = Clip (a, zero, six)
        b = Conv <strides = [2,2], pads = [1,1,1,1]> (ar, b_w)
        br = Relu (b)
        up = ConvTranspose <strides = [2,2]> (br, up_w)
        joined = Concat <axis = 1> (ar, up)
        c = Conv <pads = [2,2,2,2], dilations = [2,2]> (joined, c_w)
        difference = Sub (c, up)
        square = Mul (difference, difference)
        y = ReduceMean <keepdims = 0> (square, spatial)
        """,
        {"a_w": (4, 3, 3, 3), "b_w": (6, 4, 3, 3), "up_w": (6, 4, 2, 2), "c_w": (4, 8, 3, 3)},
        ("a", "b", "up", "c"),
        {"spatial": [2, 3], "zero": 0.0, "six": 6.0},
    ),
    Net(  # shifted windows: tensors of N * 4 rows, those of an image side by side
        "windows",
        """
        a = Conv <pads = [1,1,1,1]> (x, a_w)
        last = Transpose <perm = [0,2,3,1]> (a)
        normal = LayerNormalization (last, scale, shift)
        top = Slice (normal, zero, two, one)
        rest = Slice (normal, two, far, one)
        rolled = Concat <axis = 1> (rest, top)
        cells = Reshape (rolled, to_cells)
        sorted = Transpose <perm = [0,1,3,2,4,5]> (cells)
        windows = Reshape (sorted, to_windows)
        qkv = MatMul (windows, qkv_w)
        parts = Reshape (qkv, to_parts)
        turned = Transpose <perm = [2,0,3,1,4]> (parts)
        q = Gather <axis = 0> (turned, first)
        k = Gather <axis = 0> (turned, second)
        v = Gather <axis = 0> (turned, third)
        kt = Transpose <perm = [0,1,3,2]> (k)
        products = MatMul (q, kt)
        biased = Add (products, bias)
        weights = Softmax (biased)
        mixed = MatMul (weights, v)
        heads = Transpose <perm = [0,2,1,3]> (mixed)
        flat = Reshape (heads, to_windows)
        out = MatMul (flat, out_w)
        split = Reshape (out, from_windows)
        back = Transpose <perm = [0,1,3,2,4,5]> (split)
        whole = Reshape (back, to_image)
        sum = Add (whole, last)
        y = ReduceMean <keepdims = 0> (sum, middle)
        """,
        {
            "a_w": (4, 3, 3, 3),
            "scale": (4,),
            "shift": (4,),
            "qkv_w": (4, 12),
            "bias": (1, 2, 16, 16),
            "out_w": (4, 4),
        },
        ("a", "whole"),
        {
            "zero": [0],
            "one": [1],
            "two": [2],
            "far": [99],
            "to_cells": [-1, 2, 4, 2, 4, 4],
            "to_windows": [-1, 16, 4],
            "to_parts": [-1, 16, 3, 2, 2],
            "first": 0,
            "second": 1,
            "third": 2,
            "from_windows": [-1, 2, 2, 4, 4, 4],
            "to_image": [-1, 8, 8, 4],
            "middle": [1, 2],
        },
    ),
    Net(  # PyTorch's MultiheadAttention: tokens before the batch
        "tokens-first",
        """
        patches = Conv <strides = [4,4]> (x, patches_w)
        rows = Reshape (patches, to_rows)
        tokens = Transpose <perm = [2,0,1]> (rows)
        qkv = MatMul (tokens, qkv_w)
        q, k, v = Split <axis = 2> (qkv, sizes)
        qt = Transpose <perm = [1,0,2]> (q)
        kt = Transpose <perm = [1,2,0]> (k)
        vt = Transpose <perm = [1,0,2]> (v)
        products = MatMul (qt, kt)
        weights = Softmax (products)
        mixed = MatMul (weights, vt)
        back = Transpose <perm = [1,0,2]> (mixed)
        flat = Reshape (back, to_flat)
        out = Gemm (flat, out_w, out_b)
        again = Reshape (out, to_tokens)
        sum = Add (again, tokens)
        class = Gather <axis = 0> (sum, zero)
        y = Gemm (class, y_w)
        """,
        {
            "patches_w": (6, 3, 4, 4),
            "qkv_w": (6, 18),
            "out_w": (6, 6),
            "out_b": (6,),
            "y_w": (6, 3),
        },
        ("patches", "class"),
        {
            "to_rows": [0, 6, -1],
            "to_flat": [-1, 6],
            "sizes": [6, 6, 6],
            "to_tokens": [4, -1, 6],
            "zero": 0,
        },
    ),
    Net(
        "batch-behind",
        """
        flat = Flatten (x)
        a = Gemm (flat, a_w)
        turned = Transpose <perm = [1,0]> (a)
        bent = Tanh (turned)
        b = Gemm <transA = 1, transB = 1, alpha = 0.5> (bent, b_w)
        y = Sigmoid (b)
        """,
        {"a_w": (192, 6), "b_w": (4, 6)},
        ("a", "b"),
    ),
    Net(  # what exporters write below opset 17; Tanh for Erf, which the reference rounds
        "written-out",
        """
        a = Conv <pads = [1,1,1,1]> (x, a_w)
        mean = ReduceMean (a, channels)
        centred = Sub (a, mean)
        squares = Pow (centred, two)
        variance = ReduceMean (squares, channels)
        safe = Add (variance, epsilon)
        deviation = Sqrt (safe)
        normal = Div (centred, deviation)
        scaled = Mul (normal, scale)
        moved = Add (scaled, shift)
        b = Conv (moved, b_w)
        narrow = Div (b, root)
        bent = Tanh (narrow)
        raised = Add (bent, unit)
        product = Mul (b, raised)
        gelu = Mul (product, half)
        c = Conv (gelu, c_w)
        positive = Greater (c, zero)
        low = Mul (c, slope)
        chosen = Where (positive, c, low)
        y = ReduceMean <keepdims = 0> (chosen, places)
        """,
        {
            "a_w": (4, 3, 3, 3),
            "scale": (4, 1, 1),
            "shift": (4, 1, 1),
            "b_w": (8, 4, 1, 1),
            "c_w": (4, 8, 1, 1),
        },
        ("a", "b", "c", "deviation"),
        {
            "channels": [1],
            "two": 2.0,
            "epsilon": 1e-5,
            "root": 1.4142135623730951,
            "unit": 1.0,
            "half": 0.5,
            "zero": 0.0,
            "slope": 0.25,
            "places": [2, 3],
        },
    ),
]
nets = pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)


def bumped(model: onnx.ModelProto, name: str, row: Shape, dtype) -> onnx.ModelProto:
    """The model with an input ``bump`` that is added to a tensor, which is an output too."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    position = next(i for i, n in enumerate(changed.graph.node) if name in n.output)
    changed.graph.node[position].output[0] = "before"
    add = onnx.helper.make_node("Add", ["before", "bump"], [name])
    changed.graph.node.insert(position + 1, add)
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for tensor, values in (("bump", changed.graph.input), (name, changed.graph.output)):
        values.append(onnx.helper.make_tensor_value_info(tensor, element, ["N", *row]))
    return changed


@cache
def shapes_of(net: Net):
    return row_shapes(net.model(), {"x": net.x})


def whole(net: Net, cotangents: int, dtype=np.float32):
    """The joined model of all inner tensors and the input."""
    both = joined(
        net.model(dtype),
        shapes_of(net),
        ("x", *net.inner),
        cotangents=cotangents,
        dtype=dtype,
        others=tensor_shapes(net.model(), {"x": net.x}),
    )
    assert not both.reverse.missing
    return both.model


def images(net: Net, count: int):
    return distinct((count, *net.x)) / 8


@nets
@pytest.mark.parametrize("cotangents", [1, 3])
def test_differences_of_inner_tensors(net, cotangents):
    # D(h) is off by a third of what it differs from D(2h) by, and by rounding.
    shapes, feeds = shapes_of(net), {"x": images(net, IMAGES)}
    seed = draw_cotangents(cotangents, shapes["y"])
    found = reference(whole(net, cotangents, np.float64))({**feeds, COTANGENTS: seed})
    total = np.abs(seed).reshape(IMAGES, cotangents, -1).sum(axis=2)[..., None]
    for name in net.inner:
        row = shapes[name]
        run = reference(bumped(net.model(np.float64), name, row, np.float64))
        around = {**feeds, "bump": np.zeros((IMAGES, *row))}
        # A Conv of nothing but zeros, behind a Relu, is at the kink of the next Relu.
        smooth = np.flatnonzero((run(around)[name] != 0).all(axis=0))
        places = np.random.default_rng(5).permutation(smooth)[:COORDINATES]
        once, twice = (
            pulled(numeric_jacobian(run, around, "bump", step, places), seed)
            for step in (STEP, 2 * STEP)
        )
        largest = max(1.0, np.abs(run(around)["y"]).max())
        off = np.abs(twice - once) + OPERATIONS * EPS64 * largest / STEP * total
        gradient = found[gradient_of(name)].reshape(IMAGES, cotangents, -1)[:, :, places]
        assert (np.abs(gradient - once) <= off).all(), name
        assert off.max() < 1e-5 * max(1.0, largest) * total.max()


@nets
def test_several_seeds_are_as_many_single_ones(net):
    x, seed = images(net, IMAGES), draw_cotangents(3, shapes_of(net)["y"])
    together = runtime(whole(net, 3))(in_type({"x": x, COTANGENTS: seed}, np.float32))
    single = runtime(whole(net, 1))
    for s in range(3):
        alone = single(in_type({"x": x, COTANGENTS: seed[s::3]}, np.float32))
        for name, values in alone.items():
            np.testing.assert_array_equal(together[name][s::3], values, err_msg=name)


@nets
@pytest.mark.parametrize("cotangents", [1, 3])
def test_rows_of_an_image_do_not_depend_on_the_batch(net, cotangents):
    x, seed = images(net, 5), draw_cotangents(cotangents, shapes_of(net)["y"], 5)
    grouped = seed.reshape(5, cotangents, -1)
    run = runtime(whole(net, cotangents))
    full = run(in_type({"x": x, COTANGENTS: seed}, np.float32))
    for batch in ([0], [3], [4, 1], [2, 2, 0, 3]):
        feeds = {"x": x[batch], COTANGENTS: grouped[batch].reshape(-1, *seed.shape[1:])}
        for name, values in run(in_type(feeds, np.float32)).items():
            expected = full[name].reshape(5, cotangents, -1)[batch]
            np.testing.assert_array_equal(values.reshape(expected.shape), expected, err_msg=name)


@nets
@pytest.mark.parametrize("cotangents", [1, 3])
def test_model_passes_the_checker(net, cotangents):
    onnx.checker.check_model(whole(net, cotangents), full_check=True)
