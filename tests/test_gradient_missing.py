"""What has no reverse rule is named, with everything before it, and nothing else is lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from gradient_cases import (
    COTANGENTS,
    distinct,
    draw_cotangents,
    draw_weights,
    gradient_of,
    in_type,
    joined,
    row_shapes,
    runtime,
    tensor_shapes,
    text_model,
)

ALL = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Refusal:
    """A net ``x -> a = Relu -> ... -> b -> y``.

    Attributes:
        name: Its id.
        body: Nodes from ``a`` to ``b``; each is called after its first output.
        reason: How what is said of ``a`` begins, and a word that it contains.
        x: Shape of one row of the input.
        loses: Tensors without a gradient, besides ``a`` and ``x``.
        keeps: Tensors with a gradient, besides ``b``.
        weights: Constant -> shape.
        given: Constant -> its values.
        shapes: Rows of the tensors, where ONNX Runtime cannot be asked.
    """

    name: str
    body: str
    reason: tuple[str, str]
    x: tuple[int, ...] = (4, 4)
    loses: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] | None = None

    def model(self) -> onnx.ModelProto:
        constants = draw_weights(self.weights)
        constants |= {name: np.array(values) for name, values in self.given.items()}
        body = f"a = Relu (x)\n {self.body}\n y = Tanh (b)"
        return named(text_model(body, {"x": self.x}, constants))


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        node.name = node.output[0]
    return model


IMAGE, W = (4, 6, 6), {"w": (4, 4, 3, 3)}
COMPUTED, ACROSS = "computed at run time", "across the batch"
REFUSALS = [
    Refusal(
        "several-axes-follow-the-batch",
        """
        f = Flatten (a)
        t = Transpose (f)
        m = MatMul (f, t)
        b = MatMul (m, f)
        """,
        ("MatMul 'b'", "several axes of 'm'"),
        (4,),
        loses=("f", "t", "m"),
    ),
    Refusal(
        "indices-used",
        """
        p, i = MaxPool <kernel_shape = [3,3]> (a)
        j = Cast <to = 1> (i)
        k = Atan (j)
        e = Atan (p)
        b = Add (e, k)
        """,
        ("Atan 'e'", "no reverse rule"),
        IMAGE,
        loses=("p", "j"),
        keeps=("e", "k"),
    ),
    Refusal(
        "pow-computed",
        "t = Abs (a)\n b = Pow (t, t)",
        ("Pow 'b'", COMPUTED),
        loses=("t",),
    ),
    Refusal(
        "gather-batch",
        "s = Gather <axis = 0> (a, zero)\n b = Add (a, s)",
        ("Add 'b'", ACROSS),
        loses=("s",),
        given={"zero": [0]},
    ),
    Refusal(
        "gather-computed",
        "i = Abs (one)\n b = Gather <axis = 1> (a, i)",
        ("Gather 'b'", COMPUTED),
        given={"one": [1]},
    ),
    Refusal(
        "einsum-letter-twice",
        'b = Einsum <equation = "nii->ni"> (a)',
        ("Einsum 'b'", "a letter twice"),
    ),
    Refusal(
        "einsum-ellipsis",
        'b = Einsum <equation = "...i,ij->...j"> (a, w)',
        ("Einsum 'b'", "an ellipsis"),
        weights={"w": (4, 3)},
    ),
    Refusal(
        "resize-linear",
        'b = Resize <mode = "linear"> (a, , scales)',
        ("Resize 'b'", "whole number of times"),
        IMAGE,
        given={"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    Refusal(
        "max-over-batch",
        "m = ReduceMax (a, zero)\n b = Sub (a, m)",
        ("Sub 'b'", ACROSS),
        loses=("m",),
        given={"zero": [0]},
    ),
    Refusal("no-rule", "b = Atan (a)", ("Atan 'b'", "no reverse rule")),
    Refusal(
        "before-and-behind",
        "f = Sigmoid (a)\n e = Atan (f)\n b = Tanh (e)",
        ("Atan 'e'", "no reverse rule"),
        loses=("f",),
        keeps=("e",),
    ),
    Refusal(
        "one-of-two-paths",
        "f = Sigmoid (a)\n e = Atan (f)\n g = Tanh (a)\n b = Add (e, g)",
        ("Atan 'e'", "no reverse rule"),
        loses=("f",),
        keeps=("e", "g"),
    ),
    Refusal(
        "other-path-first",
        "g = Tanh (a)\n e = Atan (a)\n b = Sum (g, e, a)",
        ("Atan 'e'", "no reverse rule"),
        keeps=("e", "g"),
    ),
    *(
        Refusal(
            f"pad-{mode}",
            f'b = Pad <mode = "{mode}"> (a, pads)',
            ("Pad 'b'", "mode"),
            given={"pads": [0, 1, 0, 0, 1, 0]},
        )
        for mode in ("reflect", "edge")
    ),
    Refusal(
        "pad-computed",
        "p = Abs (pads)\n b = Pad (a, p)",
        ("Pad 'b'", COMPUTED),
        given={"pads": [0, 1, 0, 0, 1, 0]},
    ),
    Refusal(
        "conv-computed-weight",
        "v = Abs (w)\n b = Conv (a, v)",
        ("Conv 'b'", COMPUTED),
        IMAGE,
        weights=W,
    ),
    Refusal(
        "conv-varying-weight",
        "m = ReduceMean (a, axes)\n v = Reshape (m, to)\n b = Conv (a, v)",
        ("Conv 'b'", COMPUTED),
        IMAGE,
        loses=("m", "v"),
        given={"axes": [0, 2, 3], "to": [1, 4, 1, 1]},
    ),
    Refusal(
        "conv-transpose-auto-pad",
        'b = ConvTranspose <auto_pad = "SAME_UPPER", strides = [2,2]> (a, w)',
        ("ConvTranspose 'b'", "auto_pad"),
        IMAGE,
        weights=W,
    ),
    Refusal(
        "conv-transpose-output-shape",
        "b = ConvTranspose <output_shape = [12,12], strides = [2,2]> (a, w)",
        ("ConvTranspose 'b'", "output_shape"),
        IMAGE,
        weights=W,
    ),
    Refusal("softmax-batch", "b = Softmax <axis = 0> (a)", ("Softmax 'b'", ACROSS)),
    Refusal("softmax-batch-negative", "b = Softmax <axis = -3> (a)", ("Softmax 'b'", ACROSS)),
    Refusal(
        "slice-batch-whole",
        "b = Slice (a, zero, all, zero)",
        ("Slice 'b'", ACROSS),
        given={"zero": [0], "all": [ALL]},
    ),
    Refusal(
        "slice-batch-one",
        "s = Slice (a, zero, one, zero)\n b = Add (a, s)",
        ("Add 'b'", ACROSS),
        loses=("s",),
        given={"zero": [0], "one": [1]},
    ),
    Refusal(
        "slice-computed",
        "s = Abs (zero)\n b = Slice (a, s, all, axes)",
        ("Slice 'b'", COMPUTED),
        given={"zero": [1], "all": [ALL], "axes": [1]},
    ),
    Refusal(
        "mean-over-batch",
        "m = ReduceMean (a, zero)\n c = Sub (a, m)\n b = Tanh (c)",
        ("Sub 'c'", ACROSS),
        loses=("m",),
        keeps=("c",),
        given={"zero": [0]},
    ),
    Refusal(
        "sum-computed-axes",
        "s = Abs (one)\n b = ReduceSum (a, s)",
        ("ReduceSum 'b'", COMPUTED),
        given={"one": [1]},
    ),
    Refusal(
        "clip-computed",
        "l = Abs (low)\n b = Clip (a, l)",
        ("Clip 'b'", COMPUTED),
        weights={"low": ()},
    ),
    Refusal(
        "gemm-computed-weight",
        "v = Abs (w)\n b = Gemm (a, v)",
        ("Gemm 'b'", COMPUTED),
        (4,),
        weights={"w": (4, 3)},
    ),
    Refusal(
        "normalization-in-training",
        "b, m, v = BatchNormalization <training_mode = 1> (a, w, w, w, var)",
        ("BatchNormalization 'b'", "training_mode"),
        weights={"w": (4,), "var": (4,)},
        shapes={"x": (4, 4), "a": (4, 4), "b": (4, 4), "y": (4, 4)},
    ),
    Refusal(
        "other-domain",
        "b = other.Relu (a)",
        ("Relu 'b'", "no reverse rule"),
        shapes={"x": (4, 4), "a": (4, 4), "b": (4, 4), "y": (4, 4)},
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
@pytest.mark.parametrize("cotangents", [1, 3])
def test_what_has_no_rule_is_missing(refusal, cotangents):
    model = refusal.model()
    shapes = refusal.shapes or row_shapes(model, {"x": refusal.x})
    broken, kept = ("x", "a", *refusal.loses), ("b", "y", *refusal.keeps)
    others = {} if refusal.shapes else tensor_shapes(model, {"x": refusal.x})
    both = joined(model, shapes, (*broken, *kept), cotangents=cotangents, others=others)
    assert set(both.reverse.missing) == set(broken)
    assert set(both.reverse.gradients) == set(kept)
    start, word = refusal.reason
    for name in ("x", "a"):
        assert both.reverse.missing[name].startswith(f"{start}: ")
        assert word in both.reverse.missing[name]
    if refusal.shapes is None:
        feeds = {
            "x": distinct((2, *refusal.x)),
            COTANGENTS: draw_cotangents(cotangents, shapes["y"]),
        }
        values = runtime(both.model)(in_type(feeds, np.float32))
        assert {name: v.shape for name, v in values.items()} == {
            gradient_of(name): (2 * cotangents, *shapes[name]) for name in kept
        }


def test_tensor_beside_the_output_has_no_gradient():
    model = named(text_model("a = Relu (x)\n side = Tanh (a)\n y = Sigmoid (a)", {"x": (4,)}, {}))
    both = joined(model, row_shapes(model, {"x": (4,)}), ("a", "side"))
    assert both.reverse.missing == {"side": "the output does not depend on it"}
    assert set(both.reverse.gradients) == {"a"}


def test_cotangents_are_the_gradient_of_their_tensor():
    # What is behind the tensor of the seeds adds nothing.
    model = named(text_model("a = Relu (x)\n y = Sigmoid (a)\n z = Tanh (a)", {"x": (4,)}, {}))
    both = joined(model, {"x": (4,), "a": (4,), "y": (4,), "z": (4,)}, ("a",), tensor="a")
    (node,) = both.reverse.nodes  # one seed: no more than a reshape
    assert node.op_type == "Reshape"
    assert node.input[0] == COTANGENTS
    assert dict(both.reverse.gradients) == {"a": node.output[0]}
    assert not both.reverse.missing


def test_nothing_is_wanted():
    model = named(text_model("y = Relu (x)", {"x": (4,)}, {}))
    both = joined(model, {"x": (4,), "y": (4,)}, ())
    assert not both.reverse.gradients
    assert not both.reverse.missing


def test_nodes_need_no_names():
    body = """
        a = MaxPool <kernel_shape = [2,2]> (x)
        y = MaxPool <kernel_shape = [2,2]> (a)
    """
    model = text_model(body, {"x": (2, 5, 5)}, {})
    both = joined(model, row_shapes(model, {"x": (2, 5, 5)}), ("x", "a"))
    onnx.checker.check_model(both.model, full_check=True)
    feeds = {"x": distinct((2, 2, 5, 5)), COTANGENTS: np.ones((2, 2, 3, 3))}
    assert runtime(both.model)(in_type(feeds, np.float32))[gradient_of("x")].sum() == 36


@pytest.mark.parametrize("cotangents", [1, 3])
def test_concat_with_a_constant(cotangents):
    # A constant next to images has a batch axis itself: the batch is fixed.
    constants = {"c": distinct((2, 3, 4)), "d": distinct((2, 1, 4))}
    model = named(text_model("y = Concat <axis = 1> (c, x, d)", {"x": (2, 4)}, constants))
    both = joined(model, {"x": (2, 4), "y": (6, 4)}, ("x",), cotangents=cotangents)
    seed = draw_cotangents(cotangents, (6, 4))
    found = runtime(both.model)(in_type({"x": distinct((2, 2, 4)), COTANGENTS: seed}, np.float32))
    np.testing.assert_array_equal(found[gradient_of("x")], seed[:, 3:5])


def test_a_condition_has_no_gradient():
    # x * (x > 0) as exporters write it is Relu.
    body = "c = Greater (x, zero)\n m = Cast <to = 1> (c)\n y = Mul (x, m)"
    found = []
    for text in (body, "y = Relu (x)"):
        model = named(text_model(text, {"x": (4, 4)}, {"zero": np.array(0.0)}))
        both = joined(model, row_shapes(model, {"x": (4, 4)}), ("x",))
        feeds = in_type(
            {"x": distinct((2, 4, 4)), COTANGENTS: draw_cotangents(1, (4, 4))}, np.float32
        )
        found.append(runtime(both.model)(feeds)[gradient_of("x")])
    np.testing.assert_array_equal(*found)
