"""Reverse rules of Conv, ConvTranspose, the pools and BatchNormalization."""

import pytest
from gradient_cases import Case, check_differences, check_oracle, ids, parametrized

BIG = (4, 7, 6)
# Known from comparing onnx 1.23's reference evaluator with ONNX Runtime:
GROUPED = {"not_reference": "it gets ConvTranspose with groups wrong, here or in the reverse"}
INDICES = {"not_reference": "it gets Indices wrong without strides", "step32": 2.0**-6}


def conv(name, attributes, weight=(4, 4, 3, 3), x=BIG, **fields) -> Case:
    listed = f"<{attributes}>" if attributes else ""
    return Case(f"Conv-{name}", f"Conv {listed} (x, w)", x, weights={"w": weight}, **fields)


def transposed(name, attributes, weight=(4, 2, 3, 3), x=(4, 4, 5), **fields) -> Case:
    listed = f"<{attributes}>" if attributes else ""
    call = f"ConvTranspose {listed} (x, w)"
    return Case(f"ConvTranspose-{name}", call, x, weights={"w": weight}, **fields)


def pool(op, name, attributes, x=(2, 7, 6), **fields) -> Case:
    return Case(f"{op}-{name}", f"{op} <{attributes}> (x)", x, **fields)


CONVOLUTIONS = [
    conv("plain", ""),
    Case(
        "Conv-bias",
        "Conv <pads = [1,1,1,1], strides = [1,2]> (x, w, b)",
        BIG,
        weights={"w": (3, 4, 3, 3), "b": (3,)},
    ),
    Case(
        "ConvTranspose-bias",
        "ConvTranspose <strides = [2,1]> (x, w, b)",
        (4, 4, 5),
        weights={"w": (4, 2, 3, 3), "b": (2,)},
    ),
    conv("1x1", "", (3, 4, 1, 1)),
    conv("1x1-strided", "strides = [2,2]", (3, 4, 1, 1)),
    conv("1x1-strided-by-3", "strides = [3,3]", (3, 4, 1, 1)),
    conv("strided", "strides = [2,2]"),
    conv("strided-padded", "strides = [2,2], pads = [1,1,1,1]"),
    conv("strides-differ", "strides = [3,1], pads = [0,1,1,0]"),
    conv("stride-beyond-kernel", "strides = [4,3], pads = [1,0,0,1]", (4, 4, 2, 2)),
    conv("asymmetric", "pads = [0,2,1,0]"),
    conv("asymmetric-strided", "pads = [0,2,1,0], strides = [2,2]"),
    conv("padding-beyond-kernel", "pads = [3,0,1,4]"),
    conv("padding-beyond-kernel-strided", "pads = [3,0,1,4], strides = [2,3]"),
    conv("dilated", "dilations = [2,2]"),
    conv("dilated-padded", "dilations = [2,1], pads = [2,1,2,1]"),
    conv("dilated-strided", "dilations = [2,3], strides = [3,2], pads = [2,3,1,2]"),
    conv("groups", "group = 2, pads = [1,1,1,1]", (6, 2, 3, 3)),
    conv("groups-strided", "group = 2, strides = [2,2]", (6, 2, 3, 3), **GROUPED),
    conv("depthwise", "group = 4, pads = [1,1,1,1]", (4, 1, 3, 3)),
    conv("depthwise-strided", "group = 4, pads = [1,1,1,1], strides = [2,2]", (4, 1, 3, 3)),
    conv("depthwise-multiplied", "group = 4, dilations = [2,2]", (8, 1, 3, 3)),
    conv("kernel-as-large-as-input", "", (5, 4, 7, 6)),
    conv("even-kernel", "pads = [0,1,1,2]", (3, 4, 2, 4)),
    conv("same-upper", 'auto_pad = "SAME_UPPER"', (3, 4, 2, 3)),
    conv("same-upper-strided", 'auto_pad = "SAME_UPPER", strides = [2,2]'),
    conv("same-upper-nothing-to-pad", 'auto_pad = "SAME_UPPER", strides = [3,3]', (3, 4, 1, 2)),
    conv("same-lower", 'auto_pad = "SAME_LOWER"', (3, 4, 2, 4)),
    conv("same-lower-strided", 'auto_pad = "SAME_LOWER", strides = [2,3]', (3, 4, 4, 3)),
    conv("valid", 'auto_pad = "VALID", strides = [2,1]'),
    conv("1-axis", "pads = [2,1]", (3, 4, 3), (4, 9)),
    conv("1-axis-strided", "strides = [2], dilations = [2]", (3, 4, 3), (4, 10)),
    conv("3-axes", "pads = [1,0,1,0,1,1]", (3, 2, 2, 3, 2), (2, 3, 4, 4)),
    conv(
        "3-axes-strided", "strides = [1,2,2], group = 2", (4, 1, 2, 3, 2), (2, 3, 5, 4), **GROUPED
    ),
]
TRANSPOSED = [
    transposed("plain", ""),
    transposed("strided", "strides = [2,2]"),
    transposed("padded", "strides = [2,3], pads = [1,0,1,2]"),
    transposed("output-padding", "strides = [2,3], output_padding = [1,2], pads = [1,1,1,1]"),
    transposed("dilated", "dilations = [2,1], pads = [1,1,1,1]"),
    transposed("1-axis", "strides = [2]", (4, 3, 3), (4, 5)),
    transposed("3-axes", "strides = [1,2,1]", (2, 3, 2, 2, 3), (2, 2, 3, 2)),
    transposed("groups", "group = 2, strides = [2,2]", **GROUPED),
    transposed(
        "groups-output-padding", "group = 2, strides = [2,2], output_padding = [1,0]", **GROUPED
    ),
    transposed("depthwise", "group = 4, pads = [1,1,1,1]", (4, 1, 3, 3)),
]
MAX_POOLS = [
    pool("MaxPool", "plain", "kernel_shape = [2,2], strides = [2,2]"),
    pool("MaxPool", "overlapping", "kernel_shape = [3,3], strides = [2,2]"),
    pool("MaxPool", "stride-1", "kernel_shape = [3,2]", **INDICES),
    pool("MaxPool", "padded", "kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]"),
    pool("MaxPool", "asymmetric", "kernel_shape = [3,3], strides = [2,1], pads = [0,1,2,0]"),
    pool("MaxPool", "ceil", "kernel_shape = [2,3], strides = [2,2], ceil_mode = 1"),
    pool(
        "MaxPool",
        "ceil-padded",
        "kernel_shape = [3,3], strides = [2,2], pads = [1,0,1,0], ceil_mode = 1",
    ),
    pool("MaxPool", "dilated", "kernel_shape = [2,3], dilations = [3,2]"),
    pool("MaxPool", "dilated-strided", "kernel_shape = [2,2], dilations = [2,3], strides = [2,2]"),
    pool("MaxPool", "same-upper", 'kernel_shape = [2,3], strides = [2,2], auto_pad = "SAME_UPPER"'),
    pool("MaxPool", "same-lower", 'kernel_shape = [2,3], auto_pad = "SAME_LOWER"', **INDICES),
    pool("MaxPool", "column-major", "kernel_shape = [3,3], strides = [2,2], storage_order = 1"),
    pool("MaxPool", "1-axis", "kernel_shape = [3], strides = [2]", (3, 9)),
    pool(
        "MaxPool", "3-axes", "kernel_shape = [2,2,2], pads = [0,1,0,0,0,1]", (2, 3, 4, 3), **INDICES
    ),
    pool("MaxPool", "ties", "kernel_shape = [3,3], strides = [2,2]", ties=True),
    pool("MaxPool", "ties-padded", "kernel_shape = [3,3], pads = [1,1,1,1]", ties=True),
    pool("MaxPool", "ties-1-axis", "kernel_shape = [3], strides = [2]", (3, 9), ties=True),
]
AVERAGE_POOLS = [
    pool("AveragePool", "plain", "kernel_shape = [2,2], strides = [2,2]"),
    pool("AveragePool", "overlapping", "kernel_shape = [3,3], strides = [2,2]"),
    pool("AveragePool", "stride-1", "kernel_shape = [3,2]"),
    pool("AveragePool", "padded", "kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]"),
    pool("AveragePool", "asymmetric", "kernel_shape = [3,3], pads = [0,1,2,1]"),
    pool(
        "AveragePool",
        "padding-counts",
        "kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1], count_include_pad = 1",
    ),
    pool(
        "AveragePool",
        "asymmetric-padding-counts",
        "kernel_shape = [3,3], strides = [2,1], pads = [0,1,2,1], count_include_pad = 1",
    ),
    pool("AveragePool", "ceil", "kernel_shape = [2,3], strides = [2,2], ceil_mode = 1"),
    pool(
        "AveragePool",
        "ceil-padded",
        "kernel_shape = [3,3], strides = [2,2], pads = [1,0,1,0], ceil_mode = 1",
    ),
    pool("AveragePool", "same-upper", 'kernel_shape = [2,3], auto_pad = "SAME_UPPER"'),
    pool("AveragePool", "same-lower", 'kernel_shape = [2,4], auto_pad = "SAME_LOWER"'),
    pool("AveragePool", "1-axis", "kernel_shape = [3], strides = [2]", (3, 9)),
    pool("AveragePool", "3-axes", "kernel_shape = [2,2,2], pads = [0,1,0,0,0,1]", (2, 3, 4, 3)),
    pool(
        "AveragePool",
        "window-of-padding-only",
        "kernel_shape = [2], dilations = [3], pads = [1,1]",
        (2, 2),
        opset=19,
        not_reference="it warns of a mean of nothing",
    ),
    pool("AveragePool", "dilated", "kernel_shape = [2,3], dilations = [3,2]", opset=19),
    pool(
        "AveragePool",
        "ceil-padding-counts",
        "kernel_shape = [3,3], strides = [3,2], pads = [0,0,1,1], ceil_mode = 1, "
        "count_include_pad = 1",
    ),
    pool(
        "AveragePool",
        "ceil-window-in-padding",
        "kernel_shape = [3,3], strides = [4,4], pads = [0,0,2,2], ceil_mode = 1",
        (2, 7, 7),
    ),
    pool(
        "MaxPool",
        "ceil-window-in-padding",
        "kernel_shape = [3,3], strides = [4,4], pads = [0,0,2,2], ceil_mode = 1",
        (2, 7, 7),
    ),
]
PER_CHANNEL = [
    Case("GlobalAveragePool", "GlobalAveragePool (x)", (3, 4, 5)),
    Case("GlobalAveragePool-1-axis", "GlobalAveragePool (x)", (3, 5)),
    Case("GlobalAveragePool-3-axes", "GlobalAveragePool (x)", (3, 2, 3, 2)),
    *(
        Case(
            f"BatchNormalization-{name}",
            f"BatchNormalization <{attributes}> (x, scale, b, mean, var)",
            x,
            weights=dict.fromkeys(("scale", "b", "mean", "var"), x[:1]),
        )
        for name, attributes, x in (
            ("2-axes", "epsilon = 0.001", (3, 4, 5)),
            ("1-axis", "epsilon = 0.1", (3, 4)),
            ("no-axes", "momentum = 0.9", (5,)),
        )
    ),
]
CASES = parametrized([*CONVOLUTIONS, *TRANSPOSED, *MAX_POOLS, *AVERAGE_POOLS, *PER_CHANNEL])


@pytest.mark.slow
@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("case", [case for case in CASES if not case.ties], ids=ids)
def test_differences(case, cotangents):
    check_differences(case, cotangents)


@pytest.mark.parametrize("cotangents", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_oracle(case, cotangents):
    check_oracle(case, cotangents)
