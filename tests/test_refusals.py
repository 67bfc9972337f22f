"""Reading a model: what is refused is told why, in one line."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser, version_converter
from onnx_models import (
    HEAD,
    IDENTITY,
    IMAGE,
    NETS,
    SAME,
    STEM,
    STEM_SHAPES,
    TWO,
    Net,
    conv,
    head_shapes,
    with_local_function,
)
from reading import ALL, write

from onnxsemi._errors import ModelError, one_line
from onnxsemi._model.loader import file_bytes, load_proto
from onnxsemi._model.opset import raised
from onnxsemi._model.reader import ReadOptions, read_model


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
    Refusal("int64 input", lambda: input_of("int64"), "'image' is INT64: export .* of floats"),
    Refusal("double input", lambda: input_of("double"), "'image' is DOUBLE: export"),
    Refusal("no batch", input_without_batch, r"'image' has no batch axis \(shape \[192\]\)"),
    Refusal("two outputs", TWO.model, "several outputs: choose one with `output`.*'scores', 'fe"),
    Refusal("no such output", TWO.model, "`output` 'x' is not an output.*'scores', 'fe", "x"),
    Refusal("wrong only output", IDENTITY.model, "`output` 'x' is not an output.*'scores'", "x"),
    Refusal("inner tensor", IDENTITY.model, "`output` 'c1' is not an output", "c1"),
    Refusal("class number", class_number, "'scores' is INT64.*without an ArgMax"),
    Refusal("If", branches, "node 'a' is If: control flow is not supported; export"),
    Refusal("Loop", loop, "node 'a' is Loop: control flow is not supported; export"),
    Refusal("nothing hidden", nothing_hidden, "no layer is left.*`targets` hidden: try"),
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
        read_model(path, ReadOptions(targets="hidden", output=case.output))
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        read_model(tmp_path / "none.onnx")


def test_folder(tmp_path):
    with pytest.raises(ModelError, match="is a folder; name a file"):
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
    with pytest.raises(ModelError, match=r"not an ONNX|is a Git LFS pointer") as refused:
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


INVALID = "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got 16\n index: 1\n Please fix it"
ASSERTION = "/onnx/version_converter/a.h:12: adapt: Assertion failed: no Upsample"


@pytest.mark.parametrize(
    ("message", "line"), [(INVALID, "Got 16; index: 1; "), (ASSERTION, "adapt: Assertion")]
)
def test_what_others_say_becomes_one_line_with_its_cause(message, line):
    said = one_line(RuntimeError(message))
    assert said.startswith(line)
    assert said.endswith(message.split()[-1])
    long = one_line(RuntimeError(message.replace(" ", " many words " * 40, 1)))
    assert len(long) < 320
    assert long.endswith(message.split()[-1])


def test_a_model_that_onnx_cannot_raise_is_refused_in_one_line(monkeypatch):
    def fails(*_):
        raise version_converter.ConvertError(ASSERTION)

    monkeypatch.setattr(version_converter, "convert_version", fails)
    with pytest.raises(ModelError) as seen:
        raised(IDENTITY.model(opset=12), 13)
    assert str(seen.value) == (
        "onnx cannot raise the model from opset 12 to 13: adapt: Assertion failed: no Upsample; "
        "export it at opset 13"
    )
