"""Which layers are targets, and with what reason the others are not."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import NETS, STEM, STEM_SHAPES, TIED, Net, conv, head_shapes

from onnxsemi._errors import ModelError
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy

HIDDEN, CONV, ALL = TargetPolicy
CONVOLUTIONS = ("Conv", "ConvTranspose")


def read(model, folder, targets=HIDDEN, *exclude):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return read_model(path, ReadOptions(targets=targets, exclude=exclude))


def names(classifier):
    return tuple(layer.name for layer in classifier.layers)


def reasons(classifier):
    return {skipped.name: skipped.reason for skipped in classifier.skipped}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_hidden_are_the_papers_targets(net, tmp_path):
    classifier = read(net.model(), tmp_path)
    assert names(classifier) == net.hidden
    expected = {name: f"{part} (no target of policy hidden)" for name, part in net.others.items()}
    assert reasons(classifier) == expected


@pytest.mark.parametrize("policy", [CONV, ALL], ids=str)
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_wider_policies_follow_the_operator(net, policy, tmp_path):
    model = net.model()
    classifier = read(model, tmp_path, policy)
    ops = CONVOLUTIONS if policy is CONV else (*CONVOLUTIONS, "Gemm", "MatMul")
    weighted = {node.output[0]: node.op_type for node in model.graph.node if len(node.input) > 1}
    expected = tuple(name for name, op in weighted.items() if op in ops)
    assert names(classifier) == expected
    assert {s.name for s in classifier.skipped} == {*net.hidden, *net.others} - set(expected)
    assert all(s.reason.endswith(f"(no target of policy {policy})") for s in classifier.skipped)


def test_layers_hold_the_weights_channels_first_and_skipped_ones_their_shape(tmp_path):
    net = NETS["projection"]
    model = net.model()
    classifier = read(model, tmp_path, CONV)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for layer in classifier.layers:
        assert layer.weight.tobytes() == stored[f"{layer.name}_w"].tobytes()
        assert not layer.weight.flags.writeable
    assert [(s.name, s.shape) for s in classifier.skipped] == [("scores", (5, 8))]


@dataclass(frozen=True)
class Shortcut:
    """A block between the stem and the head of a network, and its projection shortcuts."""

    id: str
    body: str
    shapes: dict[str, tuple[int, ...]]
    shortcuts: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


BRANCH = {"c1_w": (8, 6, 3, 3)}
SHORTCUTS = [
    Shortcut(
        "main branch of one 3x3 convolution",
        conv("c1", "a", "pads = [1,1,1,1]") + conv("short", "a") + "last = Add (short, c1)\n",
        {**BRANCH, "short_w": (8, 6, 1, 1)},
        ("short",),
        ("c1",),
    ),
    Shortcut(
        "pooled before the projection",
        conv("c1", "a", "pads = [1,1,1,1]", "strides = [2,2]")
        + "half = AveragePool <kernel_shape = [2,2], strides = [2,2]> (a)\n"
        + conv("short", "half")
        + "last = Add (c1, short)\n",
        {**BRANCH, "short_w": (8, 6, 1, 1)},
        ("short",),
        ("c1",),
    ),
    Shortcut(
        "two branches of one 1x1 convolution each: neither is the shortcut",
        conv("c1", "a") + conv("c2", "a") + "last = Add (c1, c2)\n",
        {"c1_w": (8, 6, 1, 1), "c2_w": (8, 6, 1, 1)},
        hidden=("c1", "c2"),
    ),
    Shortcut(
        "3x3 beside two convolutions is no projection",
        conv("c1", "a", "pads = [1,1,1,1]")
        + conv("c2", "c1")
        + conv("c3", "a", "pads = [1,1,1,1]")
        + "last = Add (c2, c3)\n",
        {**BRANCH, "c2_w": (8, 8, 1, 1), "c3_w": (8, 6, 3, 3)},
        hidden=("c1", "c2", "c3"),
    ),
    Shortcut(
        "1x1 main branch beside an identity shortcut",
        conv("c1", "a") + "last = Add (c1, a)\n",
        {"c1_w": (6, 6, 1, 1)},
        hidden=("c1",),
    ),
    Shortcut(
        "sum of three branches",
        conv("c1", "a", "pads = [1,1,1,1]") + conv("short", "a") + "last = Sum (c1, short, c1)\n",
        {**BRANCH, "short_w": (8, 6, 1, 1)},
        ("short",),
        ("c1",),
    ),
    Shortcut(
        "an added constant is no branch",
        conv("c1", "a") + "r = Relu (c1)\n last = Add (r, offset)\n",
        {"c1_w": (8, 6, 1, 1), "offset": (1, 8, 1, 1)},
        hidden=("c1",),
    ),
]


@pytest.mark.parametrize("case", SHORTCUTS, ids=lambda case: case.id)
def test_projection_shortcuts(case, tmp_path):
    features = next(iter(case.shapes.values()))[0]
    head = "p = GlobalAveragePool (last)\n f = Flatten (p)\n scores = Gemm <transB = 1> "
    body = STEM + case.body + head + "(f, scores_w, scores_b)"
    model = Net(body, {**STEM_SHAPES, **case.shapes, **head_shapes(features)}).model()
    classifier = read(model, tmp_path)
    found = {name for name, reason in reasons(classifier).items() if "shortcut" in reason}
    assert (names(classifier), found) == (case.hidden, set(case.shortcuts))


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (("c1",), ("stem", "c2", "short", "scores")),
        (("c?",), ("stem", "short", "scores")),
        (("s*", "c2"), ("c1",)),
        (("C1",), ("stem", "c1", "c2", "short", "scores")),
        (("[!s]*",), ("stem", "short", "scores")),
    ],
    ids=str,
)
def test_exclude_patterns(patterns, left, tmp_path):
    classifier = read(NETS["projection"].model(), tmp_path, ALL, *patterns)
    assert names(classifier) == left
    assert set(reasons(classifier).values()) <= {f"excluded by {pattern!r}" for pattern in patterns}


def test_layer_that_is_no_target_anyway_keeps_the_reason_of_the_policy(tmp_path):
    classifier = read(NETS["projection"].model(), tmp_path, HIDDEN, "stem", "c1")
    assert reasons(classifier)["stem"] == "stem (no target of policy hidden)"
    assert reasons(classifier)["c1"] == "excluded by 'c1'"


def test_shared_weight_is_one_layer_of_several_nodes(tmp_path):
    classifier = read(TIED.model(), tmp_path)
    assert names(classifier) == ("t1", "c3")
    assert classifier.site("t1").nodes == ("t1", "t2")


@pytest.mark.parametrize("pattern", ["t1", "t2"])
def test_excluding_one_user_of_a_shared_weight_leaves_the_weight(pattern, tmp_path):
    classifier = read(TIED.model(), tmp_path, HIDDEN, pattern)
    assert names(classifier) == ("c3",)
    assert reasons(classifier)["t1"] == f"excluded by {pattern!r}"


def test_weight_shared_with_a_layer_that_is_no_target_is_none(tmp_path):
    """A stem cannot keep its weight while the hidden layer quantizes it."""
    body = (
        "stem = Conv <pads = [1,1,1,1]> (image, tied)\n a = Relu (stem)\n"
        "c1 = Conv <pads = [1,1,1,1]> (a, tied)\n"
        + conv("c2", "c1", "pads = [1,1,1,1]")
        + "p = GlobalAveragePool (c2)\n f = Flatten (p)\n scores = Gemm (f, scores_w)"
    )
    shapes = {"tied": (3, 3, 3, 3), "c2_w": (4, 3, 3, 3), "scores_w": (4, 5)}
    classifier = read(Net(body, shapes).model(), tmp_path)
    assert names(classifier) == ("c2",)
    assert reasons(classifier)["stem"] == "stem (no target of policy hidden)"


HEAD = "p = GlobalAveragePool (%s)\n f = Flatten (p)\n scores = Gemm <transB = 1> (f, g_w, g_b)\n"
ENDS = {**STEM_SHAPES, "c1_w": (6, 6, 3, 3), "g_w": (5, 6), "g_b": (5,)}
START = STEM + conv("c1", "a", "pads = [1,1,1,1]")


@pytest.mark.parametrize(
    ("body", "shapes", "skipped"),
    [
        pytest.param(
            "m = ReduceMean <axes = [0,2,3]> (a)\n k = Transpose <perm = [1,0,2,3]> (m)\n"
            "c2 = Conv <group = 6> (c1, k)\n" + HEAD % "c2",
            {},
            ("c2", "its weight is computed at run time", ()),
            id="computed",
        ),
        pytest.param(
            conv("c2", "c1")
            + "norm = ReduceMean <keepdims = 0> (c2_w)\n n = Mul (norm, a)\n s = Add (n, c2)\n"
            + HEAD % "s",
            {"c2_w": (6, 6, 1, 1)},
            None,
            id="folded-use",
        ),
        pytest.param(
            "c2 = Conv (c1, c2_w)\n n = Mul (c2_w, c2)\n" + HEAD % "n",
            {"c2_w": (6, 6, 1, 1)},
            ("c2", "its weight is used for something else too", (6, 6, 1, 1)),
            id="used-elsewhere",
        ),
        pytest.param(
            "c2 = Conv (c1, t)\n u = ConvTranspose (c2, t)\n" + HEAD % "u",
            {"t": (6, 6, 2, 2)},
            None,
            id="shared-differently",
        ),
        pytest.param(
            "m = MatMul (c1, t)\n" + HEAD % "m",
            {"t": (6, 8, 4)},
            ("m", "its weight has shape [6, 8, 4]: a batched MatMul", (6, 8, 4)),
            id="batched-matmul",
        ),
    ],
)
def test_reason_of_a_layer_that_cannot_be_quantized(body, shapes, skipped, tmp_path):
    graph = Net(START + body, {**ENDS, **shapes})
    path = tmp_path / "model.onnx"
    onnx.save(graph.model(), path)
    classifier = read_model(path, ReadOptions(targets=ALL, output="scores"))
    assert "c1" in names(classifier)
    found = [(s.name, s.reason, s.shape) for s in classifier.skipped]
    assert found == ([skipped] if skipped else [])


def test_weight_of_another_float_type_is_named(tmp_path):
    body = START + (
        "p = GlobalAveragePool (c1)\n f = Flatten (p)\n wide = Cast <to = 11> (f)\n"
        "double = Cast <to = 11> (g_w)\n m = MatMul (wide, double)\n scores = Cast <to = 1> (m)\n"
    )
    classifier = read(Net(body, {**ENDS, "g_w": (6, 5)}).model(), tmp_path, ALL)
    assert names(classifier) == ("stem", "c1")
    assert reasons(classifier) == {"m": "its weight is DOUBLE, not float32"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_weight_that_is_not_finite_is_refused_by_name(value, tmp_path):
    model = NETS["identity"].model()
    for tensor in model.graph.initializer:
        if tensor.name == "c2_w":
            weight = numpy_helper.to_array(tensor).copy()
            weight[3, 2, 1, 0] = value
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    with pytest.raises(ModelError, match="layer 'c2': a weight is NaN or infinite"):
        read(model, tmp_path)


@pytest.mark.parametrize(
    ("policy", "exclude", "advice"),
    [
        (HIDDEN, (), {"`targets` all"}),
        (HIDDEN, ("c*",), {"`targets` all", "`exclude`"}),
        (ALL, ("*",), {"`exclude`"}),
    ],
    ids=["policy", "excluded", "all excluded"],
)
def test_no_target_left(policy, exclude, advice, tmp_path):
    """What to do about it: another policy unless it is the widest, fewer patterns if any."""
    plain = Net(STEM + HEAD % "a", {**STEM_SHAPES, "g_w": (5, 6), "g_b": (5,)})
    model = NETS["identity"].model() if exclude else plain.model()
    lead = f"no layer is left to quantize with `targets` {policy}"
    with pytest.raises(ModelError, match=lead) as refused:
        read(model, tmp_path, policy, *exclude)
    rest = str(refused.value).partition(lead)[2]
    assert {word for word in ("`targets` all", "`exclude`") if word in rest} == advice


def test_pattern_may_be_a_name_with_brackets(tmp_path):
    model = NETS["identity"].model()
    for node in model.graph.node:
        if node.name == "c1":
            node.name = "block[0]/conv"
    classifier = read(model, tmp_path, HIDDEN, "block[0]/conv")
    assert names(classifier) == ("c2",)


def test_no_convolution(tmp_path):
    text = "f = Flatten (image)\n scores = Gemm (f, g_w)"
    with pytest.raises(ModelError, match=r"model\.onnx: the model has no convolution"):
        read(Net(text, {"g_w": (192, 5)}).model(), tmp_path, ALL)


def test_layers_have_names_of_their_own_whatever_the_file_calls_its_nodes(tmp_path):
    """Unnamed, and named like the output of another."""
    model = NETS["identity"].model()
    called = {"stem": "c1", "c1r": "c1_2", "scores": "c2"}
    for node in model.graph.node:
        node.name = called.get(node.output[0], "")
    classifier = read(model, tmp_path, ALL)
    assert names(classifier) == ("c1", "c1_3", "c2_2", "c2")
    every = [node.name for node in classifier.proto.graph.node]
    assert len(set(every)) == len(every)
    assert [classifier.site(layer.name).layer for layer in classifier.layers] == list(
        classifier.layers
    )


def test_fully_connected_classifier_behind_a_first_convolution_only(tmp_path):
    """With one convolution there is a stem and nothing hidden; the wider policies take it."""
    plain = Net(STEM + HEAD % "a", {**STEM_SHAPES, "g_w": (5, 6), "g_b": (5,)}).model()
    assert names(read(plain, tmp_path, CONV)) == ("stem",)
    assert names(read(plain, tmp_path, ALL)) == ("stem", "scores")


REAL = [
    ("resnet18_cifar10", HIDDEN, 16, 3840),
    ("resnet18_cifar10", CONV, 20, None),
    ("resnet18_cifar10", ALL, 21, None),
    ("resnet20_cifar10", HIDDEN, 18, 672),
]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "policy", "layers", "channels"), REAL, ids=str)
def test_real_networks(name, policy, layers, channels, shared):
    classifier = read_model(shared / f"models/{name}.onnx", ReadOptions(targets=policy))
    assert len(classifier.layers) == layers
    if channels:
        assert sum(layer.channels for layer in classifier.layers) == channels
    assert all(node.op_type != "BatchNormalization" for node in classifier.proto.graph.node)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("resnet18_cifar10", ["stem", *["projection shortcut"] * 3, "Gemm"]),
        ("resnet20_cifar10", ["stem", "Gemm"]),
    ],
)
def test_parts_of_real_networks_that_are_not_hidden(name, parts, shared):
    classifier = read_model(shared / f"models/{name}.onnx", ReadOptions(targets="hidden"))
    assert [s.reason for s in classifier.skipped] == [
        f"{part} (no target of policy hidden)" for part in parts
    ]


def test_a_graph_input_that_is_a_weight_counts_as_one_more_input(tmp_path):
    model = NETS["identity"].model()
    kept = [t for t in model.graph.initializer if t.name != "c1_w"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.append(helper.make_tensor_value_info("c1_w", TensorProto.FLOAT, (8, 6, 3, 3)))
    with pytest.raises(ModelError, match=r"one image input is needed.*'image', 'c1_w'"):
        read(model, tmp_path)
