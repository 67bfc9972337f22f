"""Reading a model: what is accepted stays the same function, what is refused is told why."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser, version_converter
from onnx.reference import ReferenceEvaluator
from onnx_models import (
    HEAD,
    IDENTITY,
    IMAGE,
    NETS,
    NORMALIZED,
    SAME,
    STEM,
    STEM_SHAPES,
    TIED,
    Net,
    conv,
    head_shapes,
    images,
    in_float16,
    normalization,
    normalization_shapes,
    text_model,
    with_constant_nodes,
    with_local_function,
    with_weights_as_inputs,
)

from onnxsemi.errors import ModelError
from onnxsemi.model.load import default_opset, file_bytes, load_proto
from onnxsemi.model.read import ReadOptions, read_model
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.model.widen import is_float16, widen
from onnxsemi.runtime import Session

ALL = ReadOptions(targets=TargetPolicy.ALL)
# float32 noise of folding: each output is the sum of at most 72 products a layer, a few layers deep
FOLDING = 72 * 2**-23
BATCH = 4


def write(model, folder, name="model.onnx"):
    path = folder / name
    onnx.save(model, path)
    return path


def read(model, folder, options=ALL):
    return read_model(write(model, folder), options)


def answers(model, feed, name):
    """One output, with the graph as it is written: ONNX Runtime and the reference evaluator."""
    runtime = Session(model.SerializeToString(), optimize=False).run(feed)[name]
    names = [value.name for value in model.graph.output]
    # below opset 14 the reference evaluator's BatchNormalization takes statistics of the batch
    raised = model if default_opset(model) >= 14 else version_converter.convert_version(model, 17)
    reference = ReferenceEvaluator(raised).run(None, feed)[names.index(name)]
    return runtime, reference


def same_function(model, classifier):
    """The folded model against the file as it is written, with both oracles."""
    name = classifier.ends.output
    feed = {classifier.ends.image.name: images(BATCH)}
    found = Session(classifier.proto.SerializeToString()).run(feed)[name]
    for expected in answers(model, feed, name):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= FOLDING * np.abs(expected).max()


def weights_of(classifier):
    return [layer.weight.tobytes() for layer in classifier.layers]


def op_types(classifier):
    return [node.op_type for node in classifier.proto.graph.node]


OPSETS = (7, 9, 11, 13, 17, 18, 20, 21)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("net", [IDENTITY, NORMALIZED], ids=["plain", "normalized"])
def test_opsets(net, opset, tmp_path):
    model = net.model(opset)
    classifier = read(model, tmp_path, ReadOptions())
    assert tuple(layer.name for layer in classifier.layers) == net.hidden
    assert classifier.notes == ()
    same_function(model, classifier)


@pytest.mark.parametrize("opset", [1, 5, 6])
def test_older_opsets_are_refused(opset, tmp_path):
    """Gemm has ``broadcast`` there, so a model without it is used."""
    text = f"net ({IMAGE}) => (float[N,2,8,8] scores) {{ scores = Conv {{}} (image, w) }}"
    node = "<pads = [1,1,1,1]>"
    model = text_model(text.replace("{}", node), {"w": (2, 3, 3, 3)}, opset=7)
    model.opset_import[0].version = opset
    with pytest.raises(ModelError, match=f"opset {opset} is older than 7; export it anew"):
        read(model, tmp_path)


def test_batch_normalization_is_folded_into_the_convolution_before_it(tmp_path):
    model = NORMALIZED.model()
    classifier = read(model, tmp_path)
    assert "BatchNormalization" not in op_types(classifier)
    same_function(model, classifier)
    given = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    factor = given["c1_n_scale"] / np.sqrt(given["c1_n_var"] + 1e-5)
    folded = given["c1_w"] * factor[:, None, None, None]
    found = classifier.site("c1").layer.weight
    # a handful of float32 roundings, none of them amplified
    assert np.abs(found - folded).max() <= 8 * 2**-24 * np.abs(folded).max()


def test_batch_normalization_before_a_convolution_stays(tmp_path):
    """A pre-activation block: nothing before it can take it up."""
    net = Net(
        STEM
        + normalization("n", "a")
        + "r = Relu (n)\n"
        + conv("c1", "r", SAME)
        + "last = Add (c1, a)\n"
        + HEAD,
        {
            **STEM_SHAPES,
            **normalization_shapes("n", 6),
            "c1_w": (6, 6, 3, 3),
            **head_shapes(6),
        },
    )
    model = net.model()
    classifier = read(model, tmp_path)
    assert "BatchNormalization" in op_types(classifier)
    same_function(model, classifier)


def external_data(model, folder):
    path = folder / "external.onnx"
    changed = onnx.ModelProto()
    changed.CopyFrom(model)  # saving moves the weights out of the model that it is given
    onnx.save_model(
        changed, path, save_as_external_data=True, location="external.bin", size_threshold=0
    )
    return path


@dataclass(frozen=True)
class Form:
    """How a file may hold the weights of a model."""

    id: str
    written: Callable[[onnx.ModelProto, Path], Path]


def identities(model):
    """Every weight goes through an Identity, as exporters write weights that are shared."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    for tensor in changed.graph.initializer:
        changed.graph.node.append(
            helper.make_node("Identity", [f"{tensor.name}_kept"], [tensor.name])
        )
        tensor.name += "_kept"
    changed.graph.node.extend(model.graph.node)
    return changed


def constant_branch(model):
    """The image goes through an If whose condition is a constant, which folds."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    value = helper.make_tensor_value_info("branch", TensorProto.FLOAT, None)
    taken, other = (
        helper.make_graph([helper.make_node(op, ["image"], ["branch"])], op, [], [value])
        for op in ("Identity", "Neg")
    )
    condition = numpy_helper.from_array(np.ones((), bool), "condition")
    changed.graph.initializer.append(condition)
    for node in changed.graph.node:
        node.input[:] = ["pixels" if name == "image" else name for name in node.input]
    branch = helper.make_node("If", ["condition"], ["pixels"], then_branch=taken, else_branch=other)
    nodes = [branch, *changed.graph.node]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


FORMS = [
    Form("constant nodes", lambda model, folder: write(with_constant_nodes(model), folder)),
    Form("inputs too, IR 3", lambda model, folder: write(with_weights_as_inputs(model), folder)),
    Form("external data", external_data),
    Form(
        "external data of constant nodes",
        lambda model, folder: external_data(with_constant_nodes(model), folder),
    ),
    Form("local function", lambda model, folder: write(with_local_function(model), folder)),
    Form("identities", lambda model, folder: write(identities(model), folder)),
    Form("constant condition", lambda model, folder: write(constant_branch(model), folder)),
]


@pytest.mark.parametrize("net", [IDENTITY, NORMALIZED, TIED], ids=["plain", "normalized", "tied"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.id)
def test_forms_of_the_weights(form, net, tmp_path):
    """Whatever the form, the same weights and the same answers, bit for bit."""
    model = net.model(opset=8)
    plain = read(model, tmp_path)
    found = read_model(form.written(model, tmp_path), ALL)
    assert weights_of(found) == weights_of(plain)
    feed = {"image": images(BATCH)}
    one, other = (Session(c.proto.SerializeToString()).run(feed)["scores"] for c in (plain, found))
    assert one.tobytes() == other.tobytes()
    assert [value.name for value in found.proto.graph.input] == ["image"]
    assert not found.proto.functions
    same_function(net.model(opset=8), found)


def test_shared_weight_stays_shared(tmp_path):
    model = TIED.model()
    classifier = read(model, tmp_path)
    assert classifier.site("t1").nodes == ("t1", "t2")
    same_function(model, classifier)


def test_shared_weight_with_two_normalizations_becomes_two(tmp_path):
    """Folding scales one weight in two ways."""
    body = TIED.body.replace(
        "t2 = Conv <pads = [1,1,1,1]> (t1,", "t2 = Conv <pads = [1,1,1,1]> (n1,"
    )
    body = body.replace("t2 = ", normalization("n1", "t1") + "t2 = ")
    body = body.replace("c3 = Conv", normalization("n2", "t2") + "c3 = Conv").replace(
        "(t2, c3_w", "(n2, c3_w"
    )
    shapes = {**TIED.shapes, **normalization_shapes("n1", 6), **normalization_shapes("n2", 6)}
    model = Net(body, shapes).model()
    classifier = read(model, tmp_path, ReadOptions())
    assert [layer.name for layer in classifier.layers] == ["t1", "t2", "c3"]
    same_function(model, classifier)


@pytest.mark.parametrize("damage", ["missing", "short", "empty", "folder", "outside"])
def test_external_data_that_cannot_be_read(damage, tmp_path):
    path = external_data(IDENTITY.model(), tmp_path)
    data = tmp_path / "external.bin"
    if damage == "outside":
        model = onnx.load_model(path, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../external.bin"
        path.write_bytes(model.SerializeToString())
    elif damage == "short":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "empty":
        data.write_bytes(b"")
    else:
        data.unlink()
        if damage == "folder":
            data.mkdir()
    with pytest.raises(
        ModelError, match=r"external\.onnx: its external data cannot be read: "
    ) as e:
        read_model(path)
    assert "\n" not in str(e.value)


def test_size_of_a_file_counts_its_external_data(tmp_path):
    model = IDENTITY.model()
    assert file_bytes(write(model, tmp_path)) == len(model.SerializeToString())
    path = external_data(model, tmp_path)
    together = path.stat().st_size + (tmp_path / "external.bin").stat().st_size
    assert file_bytes(path) == together


def test_float16_weights_are_widened_exactly(tmp_path):
    model = in_float16(IDENTITY.model())
    classifier = read(model, tmp_path)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for layer in classifier.layers:
        narrow = stored[f"{layer.name}_w"]
        assert layer.weight.dtype == np.float32
        assert layer.weight.tobytes() == narrow.astype(np.float32).tobytes()
    assert classifier.notes == ("float16 was widened to float32: input and output are float32 now",)
    ends = (*classifier.proto.graph.input, *classifier.proto.graph.output)
    assert {value.type.tensor_type.elem_type for value in ends} == {TensorProto.FLOAT}


def with_casts(model):
    """float16 inside, float32 outside, a Softmax before the last Cast."""
    changed = in_float16(model)
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in changed.graph.node:
        node.input[:] = ["narrow" if name == "image" else name for name in node.input]
    nodes = list(changed.graph.node)
    nodes[-1].output[0] = "raw"
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    del changed.graph.node[:]
    changed.graph.node.append(helper.make_node("Cast", ["image"], ["narrow"], to=half))
    changed.graph.node.extend(nodes)
    changed.graph.node.append(helper.make_node("Softmax", ["raw"], ["soft"], axis=1))
    changed.graph.node.append(helper.make_node("Cast", ["soft"], ["scores"], to=single))
    return changed


@pytest.mark.parametrize(
    ("change", "logits"),
    [
        (in_float16, "scores"),
        (lambda model: with_constant_nodes(in_float16(model)), "scores"),
        (with_casts, "raw"),
    ],
    ids=["float16 ends", "constant nodes", "float32 ends"],
)
def test_float16_model_gives_the_same_answers(change, logits, tmp_path):
    model = change(NORMALIZED.model())
    classifier = read(model, tmp_path)
    assert classifier.ends.logits == logits
    assert len(classifier.notes) == 1
    assert "Cast" not in op_types(classifier)[:-1]
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    rows = images(BATCH).astype(np.float16)
    feed = {"image": rows.astype(np.float32)}
    found = Session(classifier.proto.SerializeToString()).run(feed)["scores"]
    # every one of the 12 tensors on the way is rounded to 11 bits, in the oracles only
    for expected in answers(model, {"image": rows.astype(kind)}, "scores"):
        assert np.abs(found - expected).max() <= 12 * 2**-11 * np.abs(expected).max()


def test_widening_leaves_a_float32_model_alone():
    model = NORMALIZED.model()
    assert not is_float16(model)
    assert is_float16(in_float16(model))
    assert widen(model).SerializeToString() == model.SerializeToString()


SOFTMAX = "Softmax (raw)"


@dataclass(frozen=True)
class Ending:
    """The last nodes of a classifier, behind the tensor ``raw``, and its logits."""

    id: str
    body: str
    logits: str = "raw"
    opset: int = 17


FLAT = "k = Constant <value = int64[2] {-1, 5}> ()\n"
ENDINGS = [
    Ending("none", "scores = Identity (raw)", "scores"),
    Ending("softmax of opset 11", f"scores = {SOFTMAX}", opset=11),
    Ending("softmax of opset 13", f"scores = {SOFTMAX}", opset=13),
    Ending("axis 1", "scores = Softmax <axis = 1> (raw)"),
    Ending("identity", f"soft = {SOFTMAX}\n scores = Identity (soft)"),
    Ending("reshape", f"soft = {SOFTMAX}\n {FLAT} scores = Reshape (soft, k)"),
    Ending(
        "reshape of opset 11", f"soft = {SOFTMAX}\n {FLAT} scores = Reshape (soft, k)", "raw", 11
    ),
    Ending("flatten", f"soft = {SOFTMAX}\n scores = Flatten (soft)"),
    Ending("two", f"soft = {SOFTMAX}\n {FLAT} r = Reshape (soft, k)\n scores = Flatten (r)"),
    Ending("not the last", f"soft = {SOFTMAX}\n scores = Mul (soft, raw)", "scores"),
    Ending("scaled after", f"soft = {SOFTMAX}\n scores = Add (soft, soft)", "scores"),
    Ending("log-softmax", "scores = LogSoftmax <axis = 1> (raw)", "scores"),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.id)
def test_logits_before_a_final_softmax(ending, tmp_path):
    body = IDENTITY.body.replace("scores = Gemm", "raw = Gemm")
    model = Net(body + ending.body, IDENTITY.shapes).model(ending.opset)
    classifier = read(model, tmp_path)
    same_function(model, classifier)
    assert classifier.ends.output == "scores"
    made = {name for node in classifier.proto.graph.node for name in node.output}
    assert classifier.ends.logits in made
    expected = {ending.logits, "scores"} if ending.logits == "scores" else {ending.logits}
    assert classifier.ends.logits in expected


def test_softmax_of_the_logits_is_the_output(tmp_path):
    body = IDENTITY.body.replace("scores = Gemm", "raw = Gemm") + "scores = Softmax (raw)"
    classifier = read(Net(body, IDENTITY.shapes).model(), tmp_path)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(classifier.proto)
    exposed.graph.output.append(helper.make_tensor_value_info("raw", TensorProto.FLOAT, None))
    found = Session(exposed.SerializeToString()).run({"image": images(BATCH)})
    powers = np.exp(found[classifier.ends.logits].astype(np.float64))
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert np.abs(found["scores"] - expected).max() <= 8 * 2**-24


TWO = Net(
    IDENTITY.body + "features = Identity (flat)",
    IDENTITY.shapes,
    scores="float[N,5] scores, float[N,6] features",
)


@pytest.mark.parametrize("output", ["scores", "features"])
def test_output_of_several_is_chosen_by_name(output, tmp_path):
    options = ReadOptions(targets=TargetPolicy.ALL, output=output)
    classifier = read(TWO.model(), tmp_path, options)
    assert classifier.ends.output == output
    assert [value.name for value in classifier.proto.graph.output] == ["scores", "features"]
    assert ("scores" in [layer.name for layer in classifier.layers]) == (output == "scores")


@pytest.mark.parametrize(
    ("batch", "expected"), [("N", None), ("4", 4), (-1, None), (0, None)], ids=str
)
def test_batch_axis(batch, expected, tmp_path):
    """Some exporters write an axis of any size as -1 or 0."""
    model = IDENTITY.model()
    dimension = model.graph.input[0].type.tensor_type.shape.dim[0]
    if batch != "N":
        dimension.dim_value = int(batch)
    image = read(model, tmp_path).ends.image
    assert (image.name, image.shape) == ("image", (expected, 3, 8, 8))
    assert image.batch == expected


def test_tensors_that_are_only_declared_do_not_count(tmp_path):
    """value_info that contradicts the graph does not outlive the reading."""
    model = IDENTITY.model()
    model.graph.value_info.append(
        helper.make_tensor_value_info("c1", TensorProto.FLOAT, ("N", 8, 8, 8))
    )
    assert not read(model, tmp_path).proto.graph.value_info


def test_reading_twice_gives_the_same_fingerprint_and_another_weight_another(tmp_path):
    model = NORMALIZED.model()
    first, second = read(model, tmp_path), read(model, tmp_path)
    assert first.fingerprint == second.fingerprint
    assert first.proto.SerializeToString() == second.proto.SerializeToString()
    assert read(NORMALIZED.model(seed=1), tmp_path).fingerprint != first.fingerprint


def test_parameters_are_counted_after_folding(tmp_path):
    classifier = read(NORMALIZED.model(), tmp_path)
    # stem 6x3x3x3 and 6 biases that folding brought, c1 6x6x3x3 and 6, classifier 5x6 and 5
    assert classifier.parameters == 162 + 6 + 324 + 6 + 30 + 5


def no_convolution():
    return Net("f = Flatten (image)\n scores = Gemm (f, w)", {"w": (192, 5)}).model()


def quantized_weight():
    """A file as quantizing tools write it: DequantizeLinear of an int8 weight."""
    model = IDENTITY.model()
    rest = [tensor for tensor in model.graph.initializer if tensor.name != "c1_w"]
    codes = np.random.default_rng(0).integers(-128, 128, (8, 6, 3, 3), np.int8)
    del model.graph.initializer[:]
    model.graph.initializer.extend(rest)
    model.graph.initializer.append(numpy_helper.from_array(codes, "codes"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.01), "scale"))
    dequantize = helper.make_node("DequantizeLinear", ["codes", "scale"], ["c1_w"], "dequantize")
    model.graph.node.insert(0, dequantize)
    return model


QLINEAR = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,8,8] image) => (float[N,2,6,6] scores)
    <float s = {0.1}, uint8 z = {128}, uint8[2,3,3,3] w = {%s}>
    {
        q = %s (image, s, z)
        c = QLinearConv (q, s, z, w, s, z, s, z)
        scores = DequantizeLinear (c, s, z)
    }
"""


def qlinear():
    return parser.parse_model(QLINEAR % (", ".join(["3"] * 54), "QuantizeLinear"))


def qlinear_alone():
    """Quantized input and output left out: only the name of the convolution tells."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N,3,8,8] image) => (float[N,2,6,6] scores)
        <float s = {0.1}, uint8 z = {128}, uint8[2,3,3,3] w = {%s}>
        {
            q = Cast <to = 2> (image)
            c = QLinearConv (q, s, z, w, s, z, s, z)
            scores = Cast <to = 1> (c)
        }
    """
    return parser.parse_model(text % ", ".join(["3"] * 54))


def foreign():
    model = IDENTITY.model()
    for node in model.graph.node:
        if node.output[0] == "c1r":
            node.op_type, node.domain = "FancyRelu", "com.vendor"
    model.opset_import.append(helper.make_opsetid("com.vendor", 1))
    return model


def runtimes_own():
    """As ONNX Runtime's extended optimisation writes it."""
    model = IDENTITY.model()
    for node in model.graph.node:
        if node.output[0] == "c1":
            node.op_type, node.domain = "FusedConv", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def two_inputs():
    body = IDENTITY.body.replace("(image,", "(both,")
    net = Net("both = Add (image, mask)\n" + body, IDENTITY.shapes)
    return Net(net.body, net.shapes, image=f"{IMAGE}, float[N,3,8,8] mask").model()


def no_input():
    body = "image = RandomNormal <shape = [2,3,8,8]> ()\n" + IDENTITY.body
    return Net(body, IDENTITY.shapes, image="").model()


def input_of(kind):
    body = "real = Cast <to = 1> (image)\n" + IDENTITY.body.replace("(image,", "(real,")
    return Net(body, IDENTITY.shapes, image=f"{kind}[N,3,8,8] image").model()


def input_without_batch():
    body = (
        "k = Constant <value = int64[4] {1,3,8,8}> ()\n pixels = Reshape (image, k)\n"
        + IDENTITY.body.replace("(image,", "(pixels,")
    )
    return Net(body, IDENTITY.shapes, image="float[192] image").model()


def class_number():
    """Gives the class instead of its scores."""
    body = IDENTITY.body.replace("scores = Gemm", "raw = Gemm")
    ending = "scores = ArgMax <axis = 1, keepdims = 0> (raw)"
    return Net(body + ending, IDENTITY.shapes, scores="int64[N] scores").model()


BRANCHES = """
    mean = ReduceMean <keepdims = 0> (image)
    zero = Constant <value = float {0}> ()
    bright = Greater (mean, zero)
    a = If (bright) <
        then_branch = t () => (float[N,6,8,8] left) { left = Conv <pads = [1,1,1,1]> (image, w1) },
        else_branch = e () => (float[N,6,8,8] right) { right = Conv <pads = [1,1,1,1]> (image, w2) }
    >
"""


def branches():
    shapes = {"w1": (6, 3, 3, 3), "w2": (6, 3, 3, 3), "c1_w": (6, 6, 3, 3), **head_shapes(6)}
    return Net(BRANCHES + conv("last", "a", SAME).replace("last_w", "c1_w") + HEAD, shapes).model()


LOOP = """
    size = Shape (image)
    zero = Constant <value = int64[1] {0}> ()
    axes = Constant <value = int64[1] {0}> ()
    batch = Gather (size, zero)
    times = Squeeze (batch, axes)
    go = Constant <value = bool {1}> ()
    a = Loop (times, go, stem) <
        body = b (int64 i, bool keep_in, float[N,6,8,8] state) => (bool keep, float[N,6,8,8] next) {
            keep = Identity (keep_in)
            next = Conv <pads = [1,1,1,1]> (state, c1_w)
        }
    >
    last = Relu (a)
"""


def loop():
    shapes = {**STEM_SHAPES, "c1_w": (6, 6, 3, 3), **head_shapes(6)}
    return Net(conv("stem", "image", SAME, bias=True) + LOOP + HEAD, shapes).model()


def nothing_hidden():
    return Net(STEM + "last = Relu (a)\n" + HEAD, {**STEM_SHAPES, **head_shapes(6)}).model()


def weight_of_another_shape():
    """The classifier takes one feature more than there are."""
    model = IDENTITY.model()
    for tensor in model.graph.initializer:
        if tensor.name == "scores_w":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((5, 7), np.float32), "scores_w"))
    return model


def unknown_operator():
    model = IDENTITY.model()
    model.graph.node[1].op_type = "Rleu"
    return model


def unknown_element_type():
    model = IDENTITY.model()
    model.graph.input[0].type.tensor_type.elem_type = 99
    return model


def cycle():
    """A local function that calls itself."""
    model = with_local_function(IDENTITY.model())
    inner = model.functions[0].node[0]
    inner.op_type, inner.domain = "Convolve", "local"
    del inner.attribute[:]
    model.functions[0].opset_import.append(helper.make_opsetid("local", 1))
    return model


def newer_than_the_runtime():
    model = IDENTITY.model()
    model.ir_version = 1000
    return model


@dataclass(frozen=True)
class Refusal:
    """A model and what its refusal says: what was found, where, and what to do."""

    id: str
    model: Callable[[], onnx.ModelProto]
    message: str
    output: str | None = None


REFUSALS = [
    Refusal("no convolution", no_convolution, "no convolution: there is nothing"),
    Refusal(
        "weights quantized",
        quantized_weight,
        "already quantized .node 'dequantize' is DequantizeLinear.: give the float model",
    ),
    Refusal("QDQ", qlinear, "already quantized .node 'q' is QuantizeLinear"),
    Refusal("QLinearConv", qlinear_alone, "already quantized .node 'c' is QLinearConv"),
    Refusal("custom domain", foreign, "node 'c1r' is com.vendor.FancyRelu, which is no standard"),
    Refusal("runtime's own", runtimes_own, "node 'c1' is com.microsoft.FusedConv.*export"),
    Refusal("two inputs", two_inputs, "one image input is needed.*inputs: 'image', 'mask'"),
    Refusal("no input", no_input, "one image input is needed.*inputs: none"),
    Refusal("uint8 input", lambda: input_of("uint8"), "'image' is UINT8: export .* float input"),
    Refusal("int64 input", lambda: input_of("int64"), "'image' is INT64: export .* float input"),
    Refusal("double input", lambda: input_of("double"), "'image' is DOUBLE: export"),
    Refusal("no batch", input_without_batch, r"'image' has no batch axis \(shape \[192\]\)"),
    Refusal("two outputs", TWO.model, "several outputs: choose one with --output.*'scores', 'fe"),
    Refusal("no such output", TWO.model, "--output 'x' is not an output.*'scores', 'fe", "x"),
    Refusal("wrong only output", IDENTITY.model, "--output 'x' is not an output.*'scores'", "x"),
    Refusal("inner tensor", IDENTITY.model, "--output 'c1' is not an output", "c1"),
    Refusal("class number", class_number, "'scores' is INT64.*without an ArgMax"),
    Refusal("If", branches, "node 'a' is If: control flow is not supported; export"),
    Refusal("Loop", loop, "node 'a' is Loop: control flow is not supported; export"),
    Refusal("nothing hidden", nothing_hidden, "no layer is left.*--targets hidden: try"),
    Refusal("misfit weight", weight_of_another_shape, "ONNX Runtime refuses the model: "),
    Refusal("unknown operator", unknown_operator, "damaged or not valid ONNX: .*Rleu"),
    Refusal("unknown element type", unknown_element_type, "'image' is of unknown type 99"),
    Refusal("recursive function", cycle, "damaged or not valid ONNX: "),
    Refusal("IR of the future", newer_than_the_runtime, "damaged or not valid ONNX|refuses"),
]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.id)
def test_refusals(case, tmp_path, capfd):
    """One line that begins with the file's name; nothing is printed."""
    path = write(case.model(), tmp_path)
    with pytest.raises(ModelError, match=case.message) as refused:
        read_model(path, ReadOptions(output=case.output))
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        read_model(tmp_path / "none.onnx")


def test_folder(tmp_path):
    with pytest.raises(ModelError, match=": not a file"):
        read_model(tmp_path)


CONTENTS = {
    "empty": b"",
    "text": b"ResNet-18, exported on Friday\n",
    "json": b'{"graph": {"node": []}}',
    "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00",
    "zeros": bytes(64),
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model.textproto", "model.onnxtxt"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_file_that_is_no_model(content, name, tmp_path):
    """Whatever it is called: a plan given in the place of the model is no reason to fail."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX") as refused:
        read_model(path)
    assert "\n" not in str(refused.value)


def test_name_of_the_file_does_not_matter(tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(IDENTITY.model().SerializeToString())
    assert read_model(path).ends.output == "scores"
    assert file_bytes(path) == path.stat().st_size


def test_model_cut_short_anywhere_is_refused(tmp_path):
    content = nothing_hidden().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"model\.onnx: "):
            read_model(path, ALL)


def test_any_damaged_byte_is_refused_or_harmless(tmp_path):
    """Never an error of another kind: 300 seeded damages of one byte."""
    content = nothing_hidden().SerializeToString()
    rng = np.random.default_rng(0)
    path = tmp_path / "model.onnx"
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_model(path, ALL)
            outcomes.add("read")
        except ModelError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_loading_changes_nothing_in_a_plain_model(tmp_path):
    model = NETS["projection"].model()
    assert load_proto(write(model, tmp_path)).SerializeToString() == model.SerializeToString()


def test_reading_leaves_no_files_behind(tmp_path):
    path = write(IDENTITY.model(), tmp_path)
    content = path.read_bytes()
    read_model(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == content
