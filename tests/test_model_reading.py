"""Reading a model: what is accepted, what is refused and why, which layers are targets."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator
from residual_net import residual_net

from onnxsemi.errors import ModelError
from onnxsemi.model.cut import cut
from onnxsemi.model.layout import layout_of
from onnxsemi.model.read import ReadOptions, read_model
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.runtime import Session, load_session

HEAD = '<ir_version: 8, opset_import: ["" : %d]>'
NET = "g (float[N,2,4,4] x) => (float[N,3] y)"
# Two convolutions and a classifier, as ONNX text; weights are filled in by ``text_model``.
BODY = """{
    a = Conv (x, w1)
    r = Relu (a)
    b = Conv (r, w2)
    p = GlobalAveragePool (b)
    f = Flatten (p)
    y = Gemm (f, w3, b3)
}"""
SHAPES = {"w1": (4, 2, 3, 3), "w2": (5, 4, 1, 1), "w3": (5, 3), "b3": (3,)}


def text_model(body=BODY, shapes=None, *, head=HEAD % 17, net=NET, dtype=np.float32):
    """Parse ONNX text and add seeded weights as initializers."""
    model = parser.parse_model(f"{head}\n{net}\n{body}")
    rng = np.random.default_rng(0)
    for name, shape in (SHAPES if shapes is None else shapes).items():
        values = rng.normal(size=shape).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def read(model, folder, **options):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return read_model(path, ReadOptions(**options))


def refusal(model, folder, **options):
    with pytest.raises(ModelError) as caught:
        read(model, folder, **options)
    assert "\n" not in str(caught.value)
    assert "model.onnx" in str(caught.value)
    return str(caught.value)


def scores(model, images):
    session = Session(model.SerializeToString(), optimize=False)
    return session.run({model.graph.input[0].name: images})[model.graph.output[0].name]


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


class TestAccepted:
    @pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 15, 17, 18, 20, 21, 22])
    def test_opsets(self, opset, tmp_path):
        classifier = read(text_model(head=HEAD % opset), tmp_path, targets=TargetPolicy.ALL)
        assert [layer.channels for layer in classifier.layers] == [4, 5, 3]

    def test_batch_normalization_is_folded_exactly_enough(self, tmp_path):
        body = BODY.replace("a = Conv (x, w1)", "c = Conv (x, w1)\n" + "a = %s (c, s, o, m, v)")
        model = text_model(
            body % "BatchNormalization", SHAPES | dict.fromkeys(("s", "o", "m", "v"), (4,))
        )
        for tensor in model.graph.initializer:
            if tensor.name == "v":  # a variance is positive
                values = np.abs(numpy_helper.to_array(tensor)) + 0.1
                tensor.CopyFrom(numpy_helper.from_array(values, "v"))
        classifier = read(model, tmp_path)
        operators = [node.op_type for node in classifier.proto.graph.node]
        assert "BatchNormalization" not in operators
        wanted = ReferenceEvaluator(model).run(None, {"x": images(5, 2, 4, 4)})[0]
        found = scores(classifier.proto, images(5, 2, 4, 4))
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()

    def test_weights_as_constant_nodes(self, tmp_path):
        model = text_model()
        constants = [
            helper.make_node("Constant", [], [tensor.name], value=tensor)
            for tensor in model.graph.initializer
        ]
        nodes = [*constants, *model.graph.node]
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.node.extend(nodes)
        assert len(read(model, tmp_path, targets=TargetPolicy.ALL).sites) == 3

    def test_initializers_that_are_inputs_too(self, tmp_path):
        model = text_model(head='<ir_version: 3, opset_import: ["" : 8]>')
        for name, shape in SHAPES.items():
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            model.graph.input.append(value)
        classifier = read(model, tmp_path, targets=TargetPolicy.ALL)
        assert len(classifier.sites) == 3
        assert [value.name for value in classifier.proto.graph.input] == ["x"]

    def test_external_data(self, tmp_path):
        model = text_model()
        path = tmp_path / "model.onnx"
        onnx.save(model, path, save_as_external_data=True, location="model.bin", size_threshold=0)
        assert len(read_model(path, ReadOptions(targets=TargetPolicy.ALL)).sites) == 3
        (tmp_path / "model.bin").unlink()
        with pytest.raises(ModelError, match="external data"):
            read_model(path)

    def test_float16_is_widened_and_said(self, tmp_path):
        model = text_model(net=NET.replace("float", "float16"), dtype=np.float16)
        classifier = read(model, tmp_path, targets=TargetPolicy.ALL)
        assert "float16 was widened" in classifier.notes[0]
        half = images(3, 2, 4, 4).astype(np.float16)
        wanted = ReferenceEvaluator(model).run(None, {"x": half})[0].astype(np.float32)
        found = scores(classifier.proto, half.astype(np.float32))
        # float16 rounds each of the few sums to 11 bits
        assert np.abs(found - wanted).max() <= 2**-7 * np.abs(wanted).max()

    def test_local_functions_are_inlined(self, tmp_path):
        text = """<ir_version: 9, opset_import: ["" : 17, "local" : 1]>
            g (float[N,2,4,4] x) => (float[N,5] y)
            { a = local.block (x, w1)  b = local.block (a, w2)
              p = GlobalAveragePool (b)  y = Flatten (p) }
            <opset_import: ["" : 17], domain: "local">
            block (x, w) => (r) { c = Conv (x, w)  r = Relu (c) }"""
        model = parser.parse_model(text)
        for name in ("w1", "w2"):
            values = images(*SHAPES[name])
            model.graph.initializer.append(numpy_helper.from_array(values, name))
        assert len(read(model, tmp_path, targets=TargetPolicy.CONV).sites) == 2

    def test_weight_shared_by_several_convolutions_is_one_layer(self, tmp_path):
        classifier = read(residual_net(), tmp_path)
        shared = [site for site in classifier.sites if len(site.nodes) > 1]
        assert [site.nodes for site in shared] == [("tied1", "tied2")]

    @pytest.mark.parametrize(
        ("opset", "tail"),
        [
            (17, "l = Gemm (f, w3, b3)  y = Softmax <axis = 1> (l)"),
            (17, "l = Gemm (f, w3, b3)  s = Softmax (l)  y = Identity (s)"),
            (11, "l = Gemm (f, w3, b3)  y = Softmax (l)"),
            (17, "l = Gemm (f, w3, b3)  s = Softmax (l)  y = Reshape (s, shape)"),
        ],
    )
    def test_logits_before_a_final_softmax(self, opset, tail, tmp_path):
        body = BODY.replace("y = Gemm (f, w3, b3)", tail)
        model = text_model(body, head=HEAD % opset)
        shape = numpy_helper.from_array(np.array([-1, 3]), "shape")
        model.graph.initializer.append(shape)
        classifier = read(model, tmp_path)
        assert (classifier.ends.logits, classifier.ends.output) == ("l", "y")

    def test_no_softmax_no_search(self, tmp_path):
        assert read(text_model(), tmp_path).ends.logits == "y"

    def test_chosen_output(self, tmp_path):
        model = text_model()
        model.graph.output.append(helper.make_tensor_value_info("f", 1, ("N", 5)))
        assert read(model, tmp_path, output="y").ends.output == "y"


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("{ f = Flatten (x)  y = MatMul (f, m) }", ["no convolution"]),
            (BODY.replace("r = Relu (a)", "r = com.acme.Magic (a)"), ["com.acme.Magic", "'r'"]),
            (
                BODY.replace(
                    "a = Conv (x, w1)",
                    "q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) a = Conv (d, w1)",
                ),
                ["already quantized", "QuantizeLinear"],
            ),
            (
                BODY.replace(
                    "r = Relu (a)",
                    "k = ReduceMax <keepdims = 0> (a)  c = Cast <to = 9> (k)"
                    " r = If (c) <then_branch = t () => (float[N,4,2,2] u) { u = Relu (a) },"
                    " else_branch = e () => (float[N,4,2,2] v) { v = Neg (a) }>",
                ),
                ["control flow", "If"],
            ),
        ],
        ids=["no-convolution", "foreign-operator", "quantized", "control-flow"],
    )
    def test_graphs(self, body, words, tmp_path):
        domains = '<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>'
        model = text_model(body, SHAPES | {"m": (32, 3)}, head=domains)
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s"))
        model.graph.initializer.append(numpy_helper.from_array(np.uint8(0), "z"))
        message = refusal(model, tmp_path)
        assert all(word in message for word in words), message

    def test_old_opset(self, tmp_path):
        assert "opset 6" in refusal(text_model(head=HEAD % 6), tmp_path)

    @pytest.mark.parametrize("nodes", ["two", "none"])
    def test_inputs_that_are_not_one_image(self, nodes, tmp_path):
        model = text_model()
        if nodes == "two":
            model.graph.input.append(helper.make_tensor_value_info("age", 1, ("N",)))
            assert "'x', 'age'" in refusal(model, tmp_path)
        else:
            del model.graph.input[:]
            model.graph.initializer.append(numpy_helper.from_array(images(1, 2, 4, 4), "x"))
            assert "none" in refusal(model, tmp_path)

    def test_integer_images(self, tmp_path):
        body = BODY.replace("a = Conv (x, w1)", "i = Cast <to = 1> (x) a = Conv (i, w1)")
        message = refusal(text_model(body, net=NET.replace("float[N,2", "uint8[N,2")), tmp_path)
        assert "UINT8" in message

    def test_several_outputs_without_a_choice(self, tmp_path):
        model = text_model()
        model.graph.output.append(helper.make_tensor_value_info("f", 1, ("N", 5)))
        assert "--output from 'y', 'f'" in refusal(model, tmp_path)
        assert "'z' is not an output" in refusal(model, tmp_path, output="z")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_not_finite(self, value, tmp_path):
        model = text_model()
        weight = numpy_helper.to_array(model.graph.initializer[1]).copy()
        weight[0] = value
        model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "w2"))
        assert "NaN or infinite" in refusal(model, tmp_path, targets=TargetPolicy.CONV)

    def test_no_target_left(self, tmp_path):
        body = "{ a = Conv (x, w1)  p = GlobalAveragePool (a)  y = Flatten (p) }"
        model = text_model(body, {"w1": (3, 2, 3, 3)})
        assert "--targets all" in refusal(model, tmp_path)
        assert "--exclude" in refusal(model, tmp_path, exclude=("*",))

    @pytest.mark.parametrize("cut_at", [1, 10, 100, 300, -1])
    def test_truncated_files(self, cut_at, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(text_model().SerializeToString()[:cut_at])
        with pytest.raises(ModelError, match=r"model\.onnx: (not|damaged)"):
            read_model(path)

    @pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\x89PNG\r\n\x1a\n" * 9, b"text" * 99])
    def test_other_files(self, content, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not an ONNX"):
            read_model(path)


BOTTLENECK = """{
    st = Conv (x, stem)  a = Relu (st)
    c1 = Conv (a, w1)  r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)  r2 = Relu (c2)
    c3 = Conv (r2, w3)
    sc = Conv (a, ws)
    s1 = Add (c3, sc)  o1 = Relu (s1)
    d1 = Conv (o1, v1)  q1 = Relu (d1)
    dw = Conv <pads = [1,1,1,1], group = 2> (q1, dwise)  q2 = Relu (dw)
    d3 = Conv (q2, v3)
    s2 = Add (o1, d3)  o2 = Relu (s2)
    p = GlobalAveragePool (o2)
    head = Conv (p, wh)
    y = Flatten (head)
}"""
BOTTLENECK_SHAPES = {
    "stem": (3, 2, 1, 1),
    "w1": (2, 3, 1, 1),
    "w2": (2, 2, 3, 3),
    "w3": (4, 2, 1, 1),
    "ws": (4, 3, 1, 1),
    "v1": (2, 4, 1, 1),
    "dwise": (2, 1, 3, 3),
    "v3": (4, 2, 1, 1),
    "wh": (3, 4, 1, 1),
}


class TestTargets:
    @pytest.mark.parametrize(
        ("policy", "targets"),
        [
            (TargetPolicy.HIDDEN, "c1 c2 c3 d1 dw d3"),
            (TargetPolicy.CONV, "st c1 c2 c3 sc d1 dw d3 head"),
        ],
    )
    def test_bottleneck_with_projection_identity_and_convolutional_head(
        self, policy, targets, tmp_path
    ):
        classifier = read(text_model(BOTTLENECK, BOTTLENECK_SHAPES), tmp_path, targets=policy)
        assert sorted(layer.name for layer in classifier.layers) == sorted(targets.split())

    def test_reasons(self, tmp_path):
        classifier = read(text_model(BOTTLENECK, BOTTLENECK_SHAPES), tmp_path, exclude=("d*",))
        assert {skip.name: skip.reason.split(" (")[0] for skip in classifier.skipped} == {
            "st": "stem",
            "sc": "projection shortcut",
            "head": "classifier",
            "d1": "--exclude d*",
            "dw": "--exclude d*",
            "d3": "--exclude d*",
        }

    def test_weight_computed_at_run_time_is_skipped(self, tmp_path):
        body = BODY.replace(
            "b = Conv (r, w2)", "t = ReduceMean (x)  w = Mul (w2, t)  b = Conv (r, w)"
        )
        classifier = read(text_model(body), tmp_path, targets=TargetPolicy.ALL)
        assert "computed at run time" in {s.name: s.reason for s in classifier.skipped}["b"]

    def test_weight_used_for_something_else_is_skipped(self, tmp_path):
        """Replacing it would change more than the convolution."""
        more = "t = ReduceMean (x)  u = Mul (w2, t)  v = ReduceMean (u)  bv = Add (b, v)  p = Glob"
        body = BODY.replace("p = Glob", more).replace("Pool (b)", "Pool (bv)")
        classifier = read(text_model(body), tmp_path, targets=TargetPolicy.ALL)
        assert "something else" in {s.name: s.reason for s in classifier.skipped}["b"]

    @pytest.mark.shared
    @pytest.mark.parametrize(
        ("model", "policy", "layers", "channels"),
        [
            ("resnet18_cifar10", "hidden", 16, 3840),
            ("resnet18_cifar10", "conv", 20, 4800),
            ("resnet18_cifar10", "all", 21, 4810),
            ("resnet20_cifar10", "hidden", 18, 672),
            ("resnet20_cifar10", "all", 20, 698),
        ],
    )
    def test_real_networks(self, shared, model, policy, layers, channels):
        options = ReadOptions(targets=TargetPolicy(policy))
        found = read_model(shared / f"models/{model}.onnx", options).layers
        assert (len(found), sum(layer.channels for layer in found)) == (layers, channels)


LAYOUTS = [
    ("Conv", {}, (5, 4, 3, 3), (2, 4, 5, 5)),
    ("Conv", {"group": 2}, (6, 2, 3), (2, 4, 9)),
    ("Conv", {"group": 4}, (4, 1, 2, 2, 2), (2, 4, 4, 4, 4)),
    ("ConvTranspose", {}, (4, 5, 3, 3), (2, 4, 5, 5)),
    ("ConvTranspose", {"group": 2}, (4, 3, 2, 2), (2, 4, 5, 5)),
    ("Gemm", {"transB": 1}, (5, 4), (2, 4)),
    ("Gemm", {}, (4, 5), (2, 4)),
    ("MatMul", {}, (4, 5), (2, 4)),
]


@pytest.mark.parametrize(("op", "attributes", "shape", "data"), LAYOUTS, ids=str)
def test_channel_of_the_layout_is_the_channel_of_the_output(op, attributes, shape, data):
    """A channel set to zero gives an output channel of zeros, and no other."""
    node = helper.make_node(op, ["x", "w"], ["y"], "n", **attributes)
    layout = layout_of(node, shape)
    weight = images(*shape)
    first = layout.to_channel_first(weight)
    assert layout.to_stored(first).tobytes() == weight.tobytes()
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(name, 1, dims)
            for name, dims in (("x", data), ("w", shape))
        ],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = Session(model.SerializeToString(), optimize=False)
    for channel in range(len(first)):
        changed = first.copy()
        changed[channel] = 0
        output = session.run({"x": images(*data), "w": layout.to_stored(changed)})["y"]
        by_channel = np.moveaxis(output, layout.output_axis, 0)
        silent = [c for c in range(len(by_channel)) if not by_channel[c].any()]
        assert silent == [channel]


class TestCut:
    def nets(self):
        return {
            "residual": (residual_net(), (6, 3, 8, 8)),
            "bottleneck": (text_model(BOTTLENECK, BOTTLENECK_SHAPES), (6, 2, 4, 4)),
            "plain": (text_model(), (6, 2, 4, 4)),
            "matmul": (
                text_model(BODY.replace("y = Gemm (f, w3, b3)", "y = MatMul (f, w3)")),
                (6, 2, 4, 4),
            ),
        }

    @pytest.mark.parametrize("name", ["residual", "bottleneck", "plain", "matmul"])
    def test_prefix_and_suffix_are_the_model_at_every_layer(self, name, tmp_path):
        """Also with rows repeated across the cut, and with all filters replaced."""
        model, shape = self.nets()[name]
        classifier = read(model, tmp_path, targets=TargetPolicy.ALL)
        image = classifier.ends.image.name
        whole = scores(classifier.proto, images(*shape))
        for site in classifier.sites:
            if len(site.nodes) > 1:
                with pytest.raises(ValueError, match="shares its weight"):
                    cut(classifier, site, {})
                continue
            other = site.layer.weight * 0.5
            parts = cut(classifier, site, {4: other})
            tensors = Session(parts.prefix).run({image: images(*shape)})
            tensors[image] = images(*shape)
            changed = scores(classifier.with_weights({site.layer.name: other}), images(*shape))
            for source, wanted in ((parts.output, whole), (parts.quantized[4], changed)):
                feeds = {n: np.concatenate([tensors[n]] * 3) for n in parts.crossing}
                feeds[parts.output] = np.concatenate([tensors[source]] * 3)
                (found,) = Session(parts.suffix).run(feeds).values()
                expected = np.concatenate([wanted] * 3)
                assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()

    def test_only_shortcuts_cross(self, tmp_path):
        classifier = read(text_model(BOTTLENECK, BOTTLENECK_SHAPES), tmp_path)
        crossing = {
            site.layer.name: cut(classifier, site, {}).crossing for site in classifier.sites
        }
        first, second = dict.fromkeys(("c1", "c2", "c3"), ("sc",)), ("d1", "dw", "d3")
        assert crossing == first | dict.fromkeys(second, ("o1",))


class TestLoadSession:
    def test_refuses_what_is_no_model(self, tmp_path):
        with pytest.raises(ModelError, match="no such file"):
            load_session(tmp_path / "absent.onnx")
        (tmp_path / "text.onnx").write_text("no model")
        with pytest.raises(ModelError, match="refuses"):
            load_session(tmp_path / "text.onnx")

    def test_keeps_the_callers_options(self, tmp_path):
        onnx.save(text_model(), tmp_path / "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = load_session(tmp_path / "model.onnx", options, ["CPUExecutionProvider"])
        assert session.get_session_options().intra_op_num_threads == 1
        assert session.get_providers() == ["CPUExecutionProvider"]
