"""Reverse rules of activations, normalizations, reductions and of what attention is made of."""

import numpy as np
import pytest
from gradient_cases import (
    COTANGENTS,
    IMAGES,
    Case,
    check_differences,
    check_oracle,
    distinct,
    draw_cotangents,
    gradient_of,
    ids,
    in_type,
    joined,
    parametrized,
    runtime,
    text_model,
)

ROW, IMAGE = (3, 4, 5), (4, 3, 2)


# Where the reference evaluator is no oracle of differences in float64:
NOT_REFERENCE = {
    "Celu-alpha": "ONNX's Celu takes float32 only",
    "Erf-": "it rounds Erf to float32",
    "Gelu-": "it rounds Erf to float32",
    "GroupNormalization-": "it normalizes in float32, as stash_type says",
    "LRN-odd": "it mixes up the axes where they differ",
    "LpNormalization-1": "it sums without taking sizes",
}


def case(
    op, name, call="(x)", x=ROW, *, third=0.0, opset=18, above=0.0, z=None, weights=(), **given
):
    """``third``: bound on the third derivative; a generous one costs the differences 1e-8."""
    not_reference = NOT_REFERENCE.get(f"{op}-{name}", "")
    return Case(
        f"{op}-{name}",
        f"{op} {call}",
        x,
        z,
        dict(weights),
        given,
        third,
        not_reference,
        opset=opset,
        above=above,
    )


ACTIVATIONS = [
    case("Abs", ""),
    case("Neg", ""),
    case("Erf", ""),
    case("Gelu", "", opset=20),
    case("Gelu", "tanh", '<approximate = "tanh"> (x)', opset=20, third=3.0),
    case("Sqrt", "", above=5.0, third=1.0),
    case("Reciprocal", "", above=5.0, third=5.0),
    case("Log", "", above=5.0, third=2.0),
    case("Exp", "", third=50.0),
    case("Sin", "", third=1.0),
    case("Cos", "", third=1.0),
    case("Softplus", "", third=0.2),
    case("Softsign", "", third=6.0),
    case("Elu", "", third=1.0),
    case("Elu", "alpha", "<alpha = 0.5> (x)", third=1.0),
    case("Celu", "alpha", "<alpha = 2.0> (x)"),
    case("Selu", "", third=2.0),
    case("Selu", "alpha-gamma", "<alpha = 0.5, gamma = 2.0> (x)", third=2.0),
    case("ThresholdedRelu", "", "<alpha = 0.5> (x)"),
    case("PRelu", "channel", "(x, slope)", weights={"slope": (3, 1, 1)}),
    case("PRelu", "one", "(x, slope)", weights={"slope": (1,)}),
    case("Mish", "", third=2.0),
    case("Swish", "", opset=24, third=2.0),
    case("Swish", "alpha", "<alpha = 1.5> (x)", opset=24, third=8.0),
]
ARITHMETIC = [
    case("Pow", "square", "(x, two)", two=2.0),
    case("Pow", "cube", "(x, three)", three=3.0, third=6.0),
    case("Pow", "whole", "(x, two)", two=2),
    case("Pow", "root", "(x, half)", half=0.5, above=5.0, third=1.0),
    case("Pow", "broadcast", "(x, p)", (3, 1, 5), p=[[2.0], [1.0], [3.0], [2.0]], third=6.0),
    case("Div", "varying", "(z, x)", z=ROW, above=5.0, third=50.0),
    case("Div", "varying-broadcast", "(z, x)", (3, 1, 1), z=ROW, above=5.0, third=50.0),
    case("Div", "constant-by-varying", "(var, x)", weights={"var": (4, 5)}, above=5.0, third=20.0),
    case("Max", "two", "(x, z)", z=ROW),
    case("Max", "broadcast", "(x, z)", (3, 1, 5), z=(1, 4, 5)),
    case("Max", "constant", "(c, x)", c=0.3),
    case("Min", "three", "(x, c, z)", z=(3, 1, 1), weights={"c": (5,)}),
    case("Mean", "three", "(x, z, c)", z=(3, 1, 1), weights={"c": (5,)}),
    case("Where", "two", "(c, x, z)", z=(3, 1, 5), c=[[True], [False], [True], [True]]),
    case("Where", "constant", "(c, w, x)", weights={"w": ()}, c=[True, False, True, True, False]),
    case("Expand", "", "(x, to)", (3, 1, 5), to=[1, 3, 4, 5]),
    case("Expand", "fewer", "(x, to)", (3, 1, 5), to=[4, 5]),
]
NORMALIZATIONS = [
    case("LayerNormalization", "", "(x, w, b)", weights={"w": (5,), "b": (5,)}, third=500.0),
    case("LayerNormalization", "no-bias", "(x, w)", (7,), weights={"w": (7,)}, third=500.0),
    case("LayerNormalization", "axes", "<axis = 2> (x, w)", weights={"w": (4, 5)}, third=500.0),
    case(
        "LayerNormalization",
        "epsilon",
        "<axis = 1, epsilon = 0.1> (x, w)",
        weights={"w": ROW},
        third=500.0,
    ),
    case("RMSNormalization", "", "(x, w)", weights={"w": (5,)}, opset=23, third=500.0),
    case(
        "InstanceNormalization",
        "",
        "<epsilon = 0.001> (x, w, b)",
        weights={"w": (3,), "b": (3,)},
        third=500.0,
    ),
    case(
        "GroupNormalization",
        "",
        "<num_groups = 2> (x, w, b)",
        IMAGE,
        weights={"w": (4,), "b": (4,)},
        opset=21,
    ),
    case("LpNormalization", "", "<axis = 2> (x)", third=500.0),
    case("LpNormalization", "1", "<axis = 1, p = 1> (x)"),
    case("LRN", "odd", "<size = 3, alpha = 0.5, beta = 0.6, bias = 2.0> (x)", (5, 2, 3)),
    case("LogSoftmax", "", third=1.0),
    case("LogSoftmax", "axis", "<axis = 1> (x)", third=1.0),
]
REDUCTIONS = [
    case(op, name, call, third=third, above=above, **given)
    for op, third, above in (
        ("ReduceL1", 0.0, 0.0),
        ("ReduceL2", 50.0, 5.0),
        ("ReduceLogSumExp", 1.0, 0.0),
        ("ReduceMax", 0.0, 0.0),
        ("ReduceMin", 0.0, 0.0),
        ("ReduceSumSquare", 0.0, 0.0),
    )
    for name, call, given in (
        ("last", "(x, axes)", {"axes": [-1]}),
        ("dropped", "<keepdims = 0> (x, axes)", {"axes": [3, 1]}),
        ("all", "<keepdims = 0> (x, axes)", {"axes": [1, 2, 3]}),
    )
] + [case("GlobalMaxPool", ""), case("ReduceMax", "axis-of-size-1", "(x, one)", (3, 1), one=[2])]
MATRICES = [
    case("MatMul", "stack", "(x, w)", (2, 4, 6), weights={"w": (2, 6, 5)}),
    case("MatMul", "stack-broadcast", "(x, w)", (1, 4, 6), weights={"w": (1, 2, 6, 5)}),
    case("MatMul", "stack-before", "(w, x)", (2, 6, 4), weights={"w": (2, 3, 6)}),
    case("MatMul", "column", "(x, w)", (4, 6), weights={"w": (6,)}),
    case("MatMul", "column-1-axis", "(x, w)", (6,), weights={"w": (6,)}),
    case("MatMul", "row", "(w, x)", (6, 4), weights={"w": (6,)}),
    case("Einsum", "attention", '<equation = "nhid,nhjd->nhij"> (x, z)', (2, 4, 3), z=(2, 5, 3)),
    case("Einsum", "implicit", '<equation = "a cdb"> (x)'),
    case("Einsum", "weight", '<equation = "nhwc,dc->ndhw"> (x, w)', weights={"w": (6, 5)}),
    case("Einsum", "weight-before", '<equation = "dc,nc->nd"> (w, x)', (5,), weights={"w": (6, 5)}),
    case("Einsum", "summed-alone", '<equation = "nabc,nb->nc"> (x, z)', z=(4,)),
    case("Einsum", "one-operand", '<equation = "nabc->ncab"> (x)'),
]
MOVEMENT = [
    case("Gather", "one", "<axis = 2> (x, i)", i=2),
    case("Gather", "negative", "<axis = -1> (x, i)", i=[-1, 0]),
    case("Gather", "again", "<axis = 2> (x, i)", i=[1, 3, 1, 0]),
    case("Gather", "table", "<axis = 1> (x, i)", i=[[0, 2], [2, 1]]),
    case("Gather", "order", "<axis = 3> (x, i)", i=[4, 2, 0, 1, 3]),
    case("Tile", "", "(x, times)", times=[1, 2, 1, 3]),
    case("DepthToSpace", "dcr", "<blocksize = 2> (x)", (8, 2, 3)),
    case("DepthToSpace", "crd", '<blocksize = 2, mode = "CRD"> (x)', (8, 2, 3)),
    case("SpaceToDepth", "", "<blocksize = 2> (x)", (2, 4, 6)),
    case(
        "Resize",
        "asymmetric",
        '<axes = [2,3], coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
        " (x, , , sizes)",
        sizes=[8, 15],
    ),
    case("Resize", "half-pixel", "<axes = [3,2]> (x, , , sizes)", sizes=[15, 8]),
]
CASES = parametrized(
    [*ACTIVATIONS, *ARITHMETIC, *NORMALIZATIONS, *REDUCTIONS, *MATRICES, *MOVEMENT]
)


@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("case", [c for c in CASES if not c.not_reference], ids=ids)
def test_differences(case, cotangents):
    check_differences(case, cotangents)


@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_oracle(case, cotangents):
    check_oracle(case, cotangents)


def test_scale_of_a_group_is_that_of_its_channels():
    # Below opset 21 a scale belongs to a group; onnx's checker refuses it as deprecated.
    found = []
    for opset, scale in ((18, np.array([0.5, 2.0])), (21, np.array([0.5, 0.5, 2.0, 2.0]))):
        constants = {"w": scale, "b": np.zeros(len(scale))}
        call = "y = GroupNormalization <num_groups = 2> (x, w, b)"
        model = text_model(call, {"x": IMAGE}, constants, opset=opset)
        both = joined(model, {"x": IMAGE, "y": IMAGE}, ("x",))
        feeds = {"x": distinct((IMAGES, *IMAGE)), COTANGENTS: draw_cotangents(1, IMAGE)}
        found.append(runtime(both.model)(in_type(feeds, np.float32))[gradient_of("x")])
    np.testing.assert_array_equal(*found)
