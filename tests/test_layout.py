"""Channels-first weights against the operators' own layouts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnxsemi._model.layout import layout_of
from onnxsemi._runtime.sessions import Session

TENSOR = helper.make_tensor_value_info


@dataclass(frozen=True)
class Operator:
    """A weighted node, the shape of its stored weight, and the channels-first shape expected."""

    id: str
    op: str
    stored: tuple[int, ...]
    channel_first: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def spatial(self) -> int:
        """Number of spatial axes."""
        return len(self.stored) - 2

    @property
    def features(self) -> int:
        """Channels that the operator takes."""
        if self.op == "Conv":
            return self.stored[1] * self.attributes.get("group", 1)
        return self.stored[1] if self.attributes.get("transB") else self.stored[0]

    def node(self) -> onnx.NodeProto:
        """The node: x, w, b -> y; a MatMul takes no bias."""
        inputs = ["x", "w"] if self.op == "MatMul" else ["x", "w", "b"]
        return helper.make_node(self.op, inputs, ["y"], **self.attributes)


OPERATORS = [
    Operator("conv", "Conv", (5, 4, 3, 3), (5, 4, 3, 3)),
    Operator("conv-1x1", "Conv", (5, 4, 1, 1), (5, 4, 1, 1)),
    Operator("conv-oblong", "Conv", (5, 4, 1, 3), (5, 4, 1, 3)),
    Operator("conv-grouped", "Conv", (6, 2, 3, 3), (6, 2, 3, 3), {"group": 2}),
    Operator("conv-depthwise", "Conv", (4, 1, 3, 3), (4, 1, 3, 3), {"group": 4}),
    Operator("conv-depthwise-twice", "Conv", (8, 1, 3, 3), (8, 1, 3, 3), {"group": 4}),
    Operator("conv1d", "Conv", (5, 4, 3), (5, 4, 3)),
    Operator("conv3d", "Conv", (5, 4, 2, 2, 2), (5, 4, 2, 2, 2)),
    Operator("gemm", "Gemm", (4, 5), (5, 4)),
    Operator("gemm-transB-0", "Gemm", (4, 5), (5, 4), {"transB": 0}),
    Operator("gemm-transB-1", "Gemm", (5, 4), (5, 4), {"transB": 1}),
    Operator("matmul", "MatMul", (4, 5), (5, 4)),
    Operator("transposed", "ConvTranspose", (4, 5, 3, 3), (5, 4, 3, 3)),
    Operator("transposed-grouped", "ConvTranspose", (4, 3, 3, 3), (6, 2, 3, 3), {"group": 2}),
    Operator("transposed-depthwise", "ConvTranspose", (4, 1, 2, 2), (4, 1, 2, 2), {"group": 4}),
    Operator("transposed1d-grouped", "ConvTranspose", (6, 2, 3), (6, 2, 3), {"group": 3}),
    Operator("transposed3d", "ConvTranspose", (4, 3, 2, 2, 2), (3, 4, 2, 2, 2)),
]
each_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.id)


def layout(operator):
    return layout_of(operator.node(), operator.stored)


def one_node(node, size, weight, bias):
    constants = {"w": weight, "b": bias}
    graph = helper.make_graph(
        [node],
        "g",
        [TENSOR("x", TensorProto.FLOAT, size)],
        [TENSOR("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constants[name], name) for name in node.input if name != "x"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def reference(operator, images, weight, bias):
    """The reference evaluator; a grouped ConvTranspose, which it gets wrong, group by group."""
    group = operator.attributes.get("group", 1) if operator.op == "ConvTranspose" else 1
    whole = operator.node()
    node = helper.make_node(whole.op_type, whole.input, ["y"]) if group > 1 else whole
    parts = zip(
        np.split(images, group, axis=1), np.split(weight, group), np.split(bias, group), strict=True
    )
    outputs = [
        ReferenceEvaluator(one_node(node, x.shape, w, b)).run(None, {"x": x})[0]
        for x, w, b in parts
    ]
    return np.concatenate(outputs, axis=1) if group > 1 else outputs[0]


def run(operator, weight, bias):
    """Output of the one-node model, by the reference evaluator and by ONNX Runtime."""
    size = (3, operator.features, *[6] * operator.spatial)
    images = np.random.default_rng(1).normal(size=size).astype(np.float32)
    model = one_node(operator.node(), size, weight, bias)
    return (
        reference(operator, images, weight, bias),
        Session(model.SerializeToString(), optimize=False).run({"x": images})["y"],
    )


@each_operator
def test_shapes(operator):
    assert layout(operator).channel_first == operator.channel_first
    assert layout(operator).stored == operator.stored


@each_operator
def test_there_and_back_is_exact(operator):
    found = layout(operator)
    values = np.arange(np.prod(operator.stored), dtype=np.float32)
    stored, first = values.reshape(operator.stored), values.reshape(operator.channel_first)
    assert np.array_equal(found.to_stored(found.to_channel_first(stored)), stored)
    assert np.array_equal(found.to_channel_first(found.to_stored(first)), first)
    assert found.to_stored(first).flags.c_contiguous
    assert found.to_channel_first(stored).flags.c_contiguous
    assert not found.is_identity or np.array_equal(found.to_stored(first), first)
    assert found.is_identity == (operator.op == "Conv" or "transB-1" in operator.id)


@given(
    group=st.integers(1, 4),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel=st.lists(st.integers(1, 3), max_size=3),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_transposed_convolution_in_index_form(group, inputs, outputs, kernel):
    """stored[g I' + i, o] is the weight of output channel g O' + o for the group's input i."""
    shape = (group * inputs, outputs, *kernel)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=group)
    stored = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    first = layout_of(node, shape).to_channel_first(stored)
    for g, i, o in np.ndindex(group, inputs, outputs):
        assert np.array_equal(first[g * outputs + o, i], stored[g * inputs + i, o])


@each_operator
def test_channel_c_of_the_weight_is_channel_c_of_the_output(operator):
    """With channel c zero, channel c of the output is the bias, and no other channel changes."""
    found = layout(operator)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=found.channel_first).astype(np.float32)
    channels = found.channel_first[0]
    bias = np.zeros(channels) if operator.op == "MatMul" else rng.normal(size=channels)
    bias = bias.astype(np.float32)
    whole = run(operator, found.to_stored(weight), bias)
    for channel in range(channels):
        pruned = weight.copy()
        pruned[channel] = 0
        for before, after in zip(whole, run(operator, found.to_stored(pruned), bias), strict=True):
            # [N, ..., O, ...] -> [O, N, ...]
            before_first = np.moveaxis(before, found.output_axis, 0)
            after_first = np.moveaxis(after, found.output_axis, 0)
            assert len(before_first) == channels
            assert (after_first[channel] == bias[channel]).all()
            assert (before_first[channel] != bias[channel]).any()
            others = np.arange(channels) != channel
            assert np.array_equal(before_first[others], after_first[others])
    # the oracles agree to float32 noise of sums of at most 36 products
    assert np.abs(whole[0] - whole[1]).max() <= 36 * 2**-23 * np.abs(whole[0]).max()


def test_output_axis_of_a_matmul_of_tokens_is_the_last():
    """[N, T, I] x [I, O]: channels are not axis 1."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert layout_of(node, (4, 5)).output_axis == -1


def test_layouts_compare_by_value():
    """Two nodes may share a weight only if they store it alike."""
    plain, transposed = (
        helper.make_node("Gemm", ["x", "w"], ["y"], transB=flag) for flag in (0, 1)
    )
    assert layout_of(plain, (4, 4)) == layout_of(plain, (4, 4))
    assert layout_of(plain, (4, 4)) != layout_of(transposed, (4, 4))
