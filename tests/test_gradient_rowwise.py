"""Reverse rules of elementwise operators, matrices, movement and sums along axes."""

import pytest
from gradient_cases import Case, check_differences, check_oracle, ids, parametrized

ROW, ALL = (3, 4, 5), 2**63 - 1


NEGATIVE = "onnx 1.23's reference evaluator refuses negative pads, here or in the reverse"


def values(op, name, call, x=ROW, *, z=None, weights=(), third=0.0, **given) -> Case:
    """``third``: bound on the third derivative."""
    not_reference = NEGATIVE if op == "Pad" else ""
    return Case(f"{op}-{name}", f"{op} {call}", x, z, dict(weights), given, third, not_reference)


ACTIVATIONS = [
    values("Relu", "", "(x)"),
    values("Relu", "1-axis", "(x)", (7,)),
    values("Clip", "both", "(x, lo, hi)", lo=-0.5, hi=1.0),
    values("Clip", "low", "(x, lo)", lo=-0.5),
    values("Clip", "high", "(x, , hi)", hi=1.0),
    values("Clip", "none", "(x)"),
    values("Clip", "relu6", "(x, lo, hi)", (2, 12, 12), lo=0.0, hi=6.0),
    values("LeakyRelu", "", "(x)"),
    values("LeakyRelu", "alpha", "<alpha = 0.25> (x)"),
    values("LeakyRelu", "negative-alpha", "<alpha = -0.5> (x)"),
    values("Sigmoid", "", "(x)", third=1 / 8),
    values("Tanh", "", "(x)", third=2.0),
    values("HardSigmoid", "", "(x)", (2, 10, 10)),
    values("HardSigmoid", "alpha-beta", "<alpha = 0.5, beta = 0.25> (x)", (2, 10, 10)),
    values("HardSwish", "", "(x)", (2, 10, 12)),
    values("Softmax", "", "(x)", third=1.0),
    values("Softmax", "axis-1", "<axis = 1> (x)", third=1.0),
    values("Softmax", "axis-2", "<axis = 2> (x)", third=1.0),
    values("Softmax", "axis-negative", "<axis = -2> (x)", third=1.0),
    values("Softmax", "classes", "<axis = 1> (x)", (6,), third=1.0),
]
ARITHMETIC = [
    values(op, name, call, x, **fields)
    for op in ("Add", "Mul", "Sub", "Sum")
    for name, call, x, fields in (
        ("two", "(x, z)", ROW, {"z": ROW}),
        ("x-broadcast", "(x, z)", (3, 1, 1), {"z": ROW}),
        ("z-broadcast", "(x, z)", ROW, {"z": (1, 4, 1)}),
        ("both-broadcast", "(x, z)", (3, 1, 5), {"z": (1, 4, 5)}),
        ("constant-behind", "(x, c)", ROW, {"weights": {"c": (3, 1, 1)}}),
        ("constant-before", "(c, x)", ROW, {"weights": {"c": (4, 5)}}),
        ("scalar", "(x, c)", ROW, {"weights": {"c": ()}}),
        ("constant-of-all-axes", "(c, x)", ROW, {"weights": {"c": (1, 3, 4, 1)}}),
        ("constant-broadcasts-x", "(x, c)", (3, 1, 5), {"weights": {"c": (1, 3, 4, 1)}}),
        ("constant-broadcasts-x-before", "(c, x)", (1, 1), {"weights": {"c": (4, 5)}}),
        ("twice", "(x, x)", ROW, {}),
    )
] + [
    values("Sum", "three", "(x, z, c, x)", ROW, z=(3, 4, 1), weights={"c": (5,)}),
    values("Sum", "one", "(x)"),
    values("Mul", "1-axis", "(x, z)", (7,), z=(1,)),
    values("Div", "constant", "(x, var)", weights={"var": (3, 1, 1)}),
    values("Div", "scalar", "(x, var)", weights={"var": ()}),
    values("Div", "constant-of-all-axes", "(x, var)", weights={"var": (1, 3, 4, 5)}),
    values("Div", "constant-broadcasts-x", "(x, var)", (3, 1, 1), weights={"var": (4, 5)}),
]
WEIGHT, TURNED = {"w": (6, 5)}, {"w": (5, 6)}
MATRICES = [
    values("Gemm", "plain", "(x, w)", (6,), weights=WEIGHT),
    values("Gemm", "transB", "<transB = 1> (x, w)", (6,), weights=TURNED),
    values("Gemm", "bias", "<transB = 1> (x, w, b)", (6,), weights={**TURNED, "b": (5,)}),
    values(
        "Gemm", "alpha", "<alpha = 0.3, beta = 2.5> (x, w, b)", (6,), weights={**WEIGHT, "b": (1,)}
    ),
    values("Gemm", "transB-alpha", "<transB = 1, alpha = -2.0> (x, w)", (6,), weights=TURNED),
    values("Gemm", "varying-C", "<beta = 0.7> (x, w, z)", (6,), z=(5,), weights=WEIGHT),
    values("Gemm", "varying-C-broadcast", "<alpha = 3.0> (x, w, z)", (6,), z=(1,), weights=WEIGHT),
    values("Gemm", "only-C-varies", "<beta = -1.5> (z, w, x)", (5,), z=(6,), weights=WEIGHT),
    values("MatMul", "2-axes", "(x, w)", (6,), weights=WEIGHT),
    values("MatMul", "3-axes", "(x, w)", (4, 6), weights=WEIGHT),
    values("MatMul", "4-axes", "(x, w)", (2, 4, 6), weights=WEIGHT),
    values("MatMul", "constant-before-3-axes", "(w, x)", (5, 4), weights=WEIGHT),
    values("MatMul", "constant-before-4-axes", "(w, x)", (3, 5, 4), weights=WEIGHT),
    values("MatMul", "both-3-axes", "(x, z)", (4, 6), z=(6, 3)),
    values("MatMul", "both-4-axes", "(x, z)", (2, 4, 6), z=(2, 6, 3)),
    values("MatMul", "both-x-broadcast", "(x, z)", (1, 4, 6), z=(2, 6, 3)),
    values("MatMul", "both-z-broadcast", "(x, z)", (2, 4, 6), z=(1, 6, 3)),
    values("MatMul", "both-row", "(x, z)", (1, 6), z=(6, 1)),
    values("MatMul", "square", "(x, x)", (4, 4)),
]
SHAPES = [
    values("Flatten", "", "(x)"),
    values("Flatten", "negative", "<axis = -3> (x)"),
    values("Flatten", "1-axis", "(x)", (4,)),
    values("Reshape", "rest", "(x, to)", to=[0, -1]),
    values("Reshape", "batch-inferred", "(x, to)", to=[-1, 6, 10]),
    values("Reshape", "copied", "(x, to)", to=[0, 0, 2, -1, 5]),
    values("Squeeze", "axes", "(x, axes)", (3, 1, 4, 1), axes=[2, -1]),
    values("Squeeze", "one", "(x, axes)", (1, 3), axes=[1]),
    values("Unsqueeze", "", "(x, axes)", (3, 4), axes=[1, -1]),
    values("Identity", "", "(x)"),
    values("Dropout", "", "(x)"),
    values("Dropout", "ratio", "(x, ratio)", ratio=0.5),
    values("Dropout", "inference", "(x, ratio, training)", ratio=0.5, training=False),
    values("Transpose", "", "<perm = [0, 2, 3, 1]> (x)"),
    values("Transpose", "cycle", "<perm = [0, 3, 1, 4, 2]> (x)", (2, 3, 4, 5)),
    values("Transpose", "swap", "<perm = [0, 2, 1]> (x)", (3, 4)),
]
MOVEMENT = [
    values("Concat", "two", "<axis = 1> (x, z)", ROW, z=(2, 4, 5)),
    values("Concat", "negative-axis", "<axis = -1> (x, z)", ROW, z=(3, 4, 2)),
    values("Concat", "twice", "<axis = 2> (x, z, x)", ROW, z=(3, 1, 5)),
    values("Slice", "plain", "(x, s, e, a)", s=[1], e=[3], a=[2]),
    values("Slice", "step-2", "(x, s, e, a, t)", s=[1], e=[5], a=[3], t=[2]),
    values("Slice", "step-2-from-0", "(x, s, e, a, t)", s=[0], e=[ALL], a=[-1], t=[2]),
    values("Slice", "reversed", "(x, s, e, a, t)", s=[-1], e=[-ALL], a=[3], t=[-1]),
    values("Slice", "reversed-part", "(x, s, e, a, t)", s=[3], e=[0], a=[3], t=[-1]),
    values("Slice", "reversed-step-2", "(x, s, e, a, t)", s=[ALL], e=[-ALL], a=[3], t=[-2]),
    values("Slice", "negative", "(x, s, e, a)", s=[-3], e=[-1], a=[-1]),
    values("Slice", "huge-end", "(x, s, e, a)", s=[2], e=[ALL], a=[2]),
    values("Slice", "start-before", "(x, s, e, a)", s=[-100], e=[2], a=[2]),
    values("Slice", "everything", "(x, s, e, a)", s=[0], e=[ALL], a=[1]),
    values(
        "Slice", "axes", "(x, s, e, a, t)", s=[1, -1, 0], e=[3, -ALL, 2], a=[2, 3, 1], t=[1, -2, 1]
    ),
    values("Slice", "1-axis", "(x, s, e, a)", (7,), s=[2], e=[5], a=[1]),
    values("Slice", "one-cell", "(x, s, e, a)", s=[4], e=[5], a=[3]),
    values("Pad", "asymmetric", "(x, pads)", pads=[0, 0, 1, 2, 0, 3, 0, 1]),
    values("Pad", "value", "(x, pads, v)", pads=[0, 0, 1, 1, 0, 0, 1, 1], v=2.5),
    values("Pad", "axes", "(x, pads, v, axes)", pads=[1, 2, 0, 3], v=0.0, axes=[3, 1]),
    values("Pad", "axes-without-value", "(x, pads, , axes)", pads=[1, 2], axes=[-2]),
    values("Pad", "cropping", "(x, pads)", pads=[0, 0, -1, 0, 0, 0, -1, -2]),
    values("Pad", "padding-and-cropping", "(x, pads)", pads=[0, 1, -1, 2, 0, -1, 2, -2]),
    values("Pad", "attribute", '<mode = "constant"> (x, pads)', pads=[0, 1, 0, 0, 0, 0, 0, 0]),
]
REDUCTIONS = [
    values(op, name, call, **given)
    for op in ("ReduceMean", "ReduceSum")
    for name, call, given in (
        ("spatial", "(x, axes)", {"axes": [2, 3]}),
        ("spatial-dropped", "<keepdims = 0> (x, axes)", {"axes": [2, 3]}),
        ("negative", "(x, axes)", {"axes": [-1]}),
        ("negative-dropped", "<keepdims = 0> (x, axes)", {"axes": [-2, 1]}),
        ("unordered", "<keepdims = 0> (x, axes)", {"axes": [3, 1]}),
        ("all", "<keepdims = 0> (x, axes)", {"axes": [1, 2, 3]}),
        ("one", "<keepdims = 1> (x, axes)", {"axes": [1]}),
    )
]
NOTHING_REDUCED = [
    values(op, "none", "<noop_with_empty_axes = 1> (x)") for op in ("ReduceMean", "ReduceSum")
]
CASES = parametrized(
    [*ACTIVATIONS, *ARITHMETIC, *MATRICES, *SHAPES, *MOVEMENT, *REDUCTIONS, *NOTHING_REDUCED]
)


@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_differences(case, cotangents):
    check_differences(case, cotangents)


@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_oracle(case, cotangents):
    check_oracle(case, cotangents)
