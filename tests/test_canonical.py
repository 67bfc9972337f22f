"""Weights are brought to where an operator's channels can be quantized; the function stays."""

import numpy as np
import pytest
from onnx_models import HEAD, SAME, Net, conv, head_shapes, images
from reading import BATCH, read, same_function

from onnxsemi._errors import ModelError
from onnxsemi._model.contraction import contraction
from onnxsemi._runtime.sessions import Session

STEM = conv("stem", "image", SAME)
TOKENS = STEM + "grid = Reshape (stem, rows)\n"  # [N, 8, 64]
MEAN = "mean = ReduceMean <axes = [2], keepdims = 0> ({})\nscores = MatMul (mean, last_w)\n"
LAST_MEAN = "mean = ReduceMean <axes = [1], keepdims = 0> ({})\nscores = MatMul (mean, last_w)\n"
ROWS = "rows = Constant <value = int64[3] {0, 8, 64}> ()\n"
COLUMNS = "turned = Transpose <perm = [0,2,1]> (grid)\n"  # [N, 64, 8]


def net(body, **shapes):
    return Net(ROWS + TOKENS + body, {"stem_w": (8, 3, 3, 3), **shapes})


FIRST = net("mixed = MatMul (mix_w, grid)\n" + MEAN.format("mixed"), mix_w=(6, 8), last_w=(6, 5))
FIRST_WITH_AXIS = net(
    "mixed = MatMul (mix_w, grid)\n" + MEAN.format("mixed"), mix_w=(1, 6, 8), last_w=(6, 5)
)
FIRST_OF_FOUR = Net(
    STEM
    + "mixed = MatMul (mix_w, stem)\nmean = ReduceMean <axes = [2,3], keepdims = 0> (mixed)\n"
    + "scores = MatMul (mean, last_w)\n",
    {"stem_w": (8, 3, 3, 3), "mix_w": (6, 8), "last_w": (8, 5)},
)
BATCHED = net(
    COLUMNS + "wide = MatMul (turned, wide_w)\n" + LAST_MEAN.format("wide"),
    wide_w=(1, 8, 12),
    last_w=(12, 5),
)


def einsum(equation, after, weight, last):
    body = f'{COLUMNS}wide = Einsum <equation = "{equation}"> (turned, wide_w)\n{after}'
    return net(body, wide_w=weight, last_w=last)


HEADS = "flat = Constant <value = int64[3] {0, 64, 12}> ()\nrow = Reshape (wide, flat)\n"
EINSUM = einsum("abc,cd->abd", LAST_MEAN.format("wide"), (8, 12), (12, 5))
EINSUM_TURNED = einsum("...i,oi->...o", LAST_MEAN.format("wide"), (12, 8), (12, 5))
EINSUM_HEADS = einsum("abc,cde->abde", HEADS + LAST_MEAN.format("row"), (8, 3, 4), (12, 5))
EINSUM_JOINED = net(
    "cut = Constant <value = int64[4] {0, 64, 2, 4}> ()\n"
    + COLUMNS
    + "heads = Reshape (turned, cut)\n"
    + 'wide = Einsum <equation = "abcd,cde->abe"> (heads, wide_w)\n'
    + LAST_MEAN.format("wide"),
    wide_w=(2, 4, 12),
    last_w=(12, 5),
)
FORMS = {
    "first of three axes": (FIRST, "mixed", (6, 8, 1)),
    "first, [1, C, I]": (FIRST_WITH_AXIS, "mixed", (6, 8, 1)),
    "first of four axes": (FIRST_OF_FOUR, "mixed", (6, 8)),
    "second, [1, I, O]": (BATCHED, "wide", (12, 8)),
    "Einsum": (EINSUM, "wide", (12, 8)),
    "Einsum, transposed": (EINSUM_TURNED, "wide", (12, 8)),
    "Einsum, several channel axes": (EINSUM_HEADS, "wide", (12, 8)),
    "Einsum, several summed axes": (EINSUM_JOINED, "wide", (12, 8)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_anywhere_is_a_target_and_the_function_stays(form, tmp_path):
    net, layer, shape = FORMS[form]
    model = net.model(opset=12)
    classifier = read(model, tmp_path)
    assert [skip.name for skip in classifier.skipped] == []
    assert classifier.site(layer).layer.weight.shape == shape
    same_function(model, classifier)


@pytest.mark.parametrize("form", ["first of three axes", "first of four axes"])
def test_the_channels_of_a_first_factor_are_its_rows(form, tmp_path):
    net, layer, _ = FORMS[form]
    classifier = read(net.model(opset=12), tmp_path)
    weight = classifier.site(layer).layer.weight.copy()
    weight[2] = 0
    changed = classifier.with_weights({layer: weight})
    node = next(n for n in changed.graph.node if n.name == layer)
    changed.graph.output[0].name = node.output[0]
    changed.graph.output[0].type.tensor_type.ClearField("shape")
    (found,) = Session(changed.SerializeToString()).run({"image": images(BATCH)}).values()
    axis = classifier.site(layer).layout.output_axis
    empty = [not np.take(found, row, axis).any() for row in range(6)]
    assert empty == [False, False, True, False, False, False]


def test_a_batched_weight_that_adds_an_axis_stays_as_it_is(tmp_path):
    """A product whose result would have another number of axes."""
    body = "mean = ReduceMean <axes = [2], keepdims = 0> (grid)\nwide = MatMul (mean, wide_w)\n"
    last = "scores = Squeeze <axes = [0]> (wide)\n"
    classifier = read(net(body + last, wide_w=(1, 8, 5)).model(12), tmp_path)
    assert [site.layer.name for site in classifier.sites] == ["stem"]
    assert "batched" in classifier.skipped[0].reason


@pytest.mark.parametrize(
    ("equation", "rank"),
    [
        ("ab,bc->ca", 2),
        ("ab,ab->a", 2),
        ("aab,bc->aac", 3),
        ("abc,bd->acd", 3),
        ("abc,cd->abd", 4),
        ("ab,bc", 2),
        ("abc,cbd->ad", 0),
    ],
)
def test_other_equations_are_no_product_of_the_last_axes(equation, rank):
    assert contraction(equation, rank) is None


def test_a_weight_shared_by_two_layouts_is_kept_once_for_each(tmp_path):
    body = (
        conv("stem", "image", SAME)
        + "p = GlobalAveragePool (stem)\nf = Flatten (p)\n"
        + "up = Gemm <transB = 1> (f, square_w)\ndown = Gemm (up, square_w)\n"
        + "scores = MatMul (down, last_w)\n"
    )
    model = Net(body, {"stem_w": (8, 3, 3, 3), "square_w": (8, 8), "last_w": (8, 5)}).model()
    classifier = read(model, tmp_path)
    assert [site.layer.name for site in classifier.sites] == ["stem", "up", "down", "scores"]
    same_function(model, classifier)


def test_two_factors_of_the_run_are_named_as_such(tmp_path):
    body = (
        conv("stem", "image", SAME)
        + "square = MatMul (stem, stem)\n"
        + "last = Relu (square)\n"
        + HEAD
    )
    classifier = read(Net(body, {"stem_w": (8, 3, 3, 3), **head_shapes(8)}).model(), tmp_path)
    (skipped,) = classifier.skipped
    assert skipped.reason == "MatMul of two tensors that are computed at run time"


def test_a_weight_that_is_not_finite_is_refused_by_name(tmp_path):
    model = FIRST.model(opset=12)
    for tensor in model.graph.initializer:
        if tensor.name == "mix_w":
            tensor.raw_data = np.full((6, 8), np.nan, np.float32).tobytes()
    with pytest.raises(ModelError, match="layer 'mixed': a weight is NaN"):
        read(model, tmp_path)
