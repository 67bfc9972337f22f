"""Columns of a layer's input: the weights times the columns are the layer's output."""

import numpy as np
import onnx
import pytest
from emitting import OPERATORS
from onnx import helper, numpy_helper

from onnxsemi._model.layout import layout_of
from onnxsemi._model.targets import Site
from onnxsemi._plan.layers import TargetLayer
from onnxsemi._rounding import im2col as columns_module
from onnxsemi._rounding.im2col import FEWEST, POSITIONS, Patches, patches_of
from onnxsemi._runtime.sessions import Session

WAYS = {
    **OPERATORS,
    "same-upper": ("Conv", (5, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    "same-lower": ("Conv", (5, 4, 2, 4), {"auto_pad": "SAME_LOWER"}),
    "asymmetric": ("Conv", (5, 4, 3, 2), {"pads": [0, 2, 1, 0], "dilations": [2, 3]}),
    "transposed-strided": (
        "ConvTranspose",
        (4, 5, 3, 2),
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]},
    ),
    "transposed-cropped": ("ConvTranspose", (4, 5, 2, 2), {"pads": [2, 2, 2, 2]}),
    "transposed-dilated": ("ConvTranspose", (4, 5, 3, 3), {"dilations": [2, 1]}),
    "gemm": ("Gemm", (4, 7), {"alpha": 0.5}),
    "gemm-turned": ("Gemm", (7, 4), {"transB": 1}),
    "matmul": ("MatMul", (4, 7), {}),
    "matmul-3d": ("MatMul", (4, 7), {}),
}


SIZES = {3: (40,), 4: (12, 11), 5: (6, 7, 5)}  # axes of the weight -> size of the images


@pytest.fixture(params=WAYS)
def case(request):
    """Patches of a layer, its weight, what goes in and comes out."""
    way = request.param
    op, shape, attributes = WAYS[way]
    rng = np.random.default_rng(0)
    stored = rng.normal(size=shape).astype(np.float32)
    size = (6, 4) if way == "matmul-3d" else (4, *SIZES.get(len(shape), ()))
    x = rng.normal(size=(3, *size)).astype(np.float32)
    node = helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "way",
        [values("x", onnx.TensorProto.FLOAT, ["N", *size])],
        [values("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(stored, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    y = Session(model.SerializeToString(), optimize=False).run({"x": x})["y"]
    layout = layout_of(node, shape)
    layer = TargetLayer("layer", layout.to_channel_first(stored))
    patches = patches_of(node, Site(layer, "w", ("layer",), layout), rows_of(x, y))
    return patches, layer.weight, x, y


def rows_of(x, y):
    return {"x": x.shape[1:], "y": y.shape[1:]}


def test_weights_times_columns_are_the_output(case):
    patches, weight, x, y = case
    positions = patches.positions(seed=0, block=0)
    columns = patches.columns(x, positions)
    split = weight.reshape(patches.groups, -1, patches.size)
    found = np.concatenate([w @ c for w, c in zip(split, columns, strict=True)])
    expected = patches.outputs_at(y, positions)
    assert found.shape == expected.shape
    # float32 sums of K products in another order
    bound = np.finfo(np.float32).eps * patches.size * np.abs(weight).max() * np.abs(columns).max()
    np.testing.assert_allclose(found, expected, atol=2 * bound, rtol=0)


def test_images_side_by_side_are_those_one_by_one(case):
    patches, _, x, _ = case
    positions = patches.positions(seed=0, block=0)
    alone = [patches.columns(x[i : i + 1], positions) for i in range(len(x))]
    assert np.array_equal(patches.columns(x, positions), np.concatenate(alone, axis=2))


@pytest.mark.parametrize("side", [4, 40])
def test_of_large_images_only_the_pixels_that_are_used(side):
    """A strided 3x3 kernel, padded: as if every cell were looked up by itself."""
    layout = {"kernel": (3, 3), "strides": (2, 2), "dilations": (1, 1), "begins": (1, 1)}
    patches = Patches(1, 18, 1, **layout, spread=(1, 1), outputs=(side // 2, side // 2))
    x = np.random.default_rng(0).normal(size=(3, 2, side, side)).astype(np.float32)
    positions = patches.positions(seed=0, block=0)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    rows, columns = (2 * place for place in np.divmod(positions, side // 2))
    expected = np.stack(
        [padded[:, :, rows + i, columns + j] for i in range(3) for j in range(3)]
    )  # [k, N, C, P] -> [C, k, N, P]
    expected = expected.transpose(2, 0, 1, 3).reshape(1, 18, -1)
    assert np.array_equal(patches.columns(x, positions), expected)
    used = patches.index(positions, (side, side)).used
    assert (used is None) == (side == 4)
    assert used is None or len(used) <= 9 * len(positions)


def test_where_the_cells_lie_is_found_once_for_all_plans(case, monkeypatch):
    patches, _, x, _ = case
    asked, index = [], Patches.index
    monkeypatch.setattr(Patches, "index", lambda *given: asked.append(1) or index(*given))
    for block in (5, 6, 5, 6):
        patches.columns(x, patches.positions(seed=1, block=block))
    draws = {patches.positions(seed=1, block=block).tobytes() for block in (5, 6)}
    assert len(asked) == (len(draws) if patches.kernel else 0)


def test_groups_in_parts_are_the_whole(case, monkeypatch):
    patches, _, x, _ = case
    positions = patches.positions(seed=0, block=0)
    monkeypatch.setattr(columns_module, "COLUMN_BYTES", 1)
    parts = patches.parts(len(x), len(positions))
    assert len(parts) == patches.groups
    found = np.concatenate([patches.columns(x, positions, part) for part in parts])
    assert np.array_equal(found, patches.columns(x, positions))


@pytest.mark.parametrize(("size", "count"), [(9, 16), (25, 25), (64, 64), (1024, 64), (4608, 32)])
def test_layers_of_few_weights_a_channel_take_fewer_positions(size, count):
    patches = Patches(1, size, 1, kernel=(1, 1), outputs=(56, 56))
    assert len(patches.positions(seed=0, block=0)) == count


def test_positions_are_drawn_once_each_by_seed_and_block(case):
    patches, _, _, y = case
    found = patches.positions(seed=0, block=3)
    assert (np.diff(found) > 0).all()
    count = y[0].size // (y.shape[patches.channel_axis])
    assert len(found) in (count, *range(FEWEST, POSITIONS + 1))
    assert found.max() < count
    assert np.array_equal(found, patches.positions(seed=0, block=3))
    if len(found) < count:
        assert not np.array_equal(found, patches.positions(seed=0, block=4))
        assert not np.array_equal(found, patches.positions(seed=1, block=3))


def test_what_is_not_covered():
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    weight = np.ones((3, 4), np.float32)
    site = Site(TargetLayer("layer", weight), "w", ("layer",), layout_of(node, (4, 3)))
    assert patches_of(node, site, {"x": (4,), "y": (3,)}) is None
    assert patches_of(node, site, {"x": (4,)}) is None
