"""The ends of a classifier: image input, judged output, logits before a final Softmax."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import (
    IDENTITY,
    TWO,
    Net,
    images,
)
from reading import BATCH, read, same_function

from onnxsemi._model.reader import ReadOptions
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._runtime.sessions import Session

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


@pytest.mark.parametrize("output", ["scores", "features"])
def test_output_of_several_is_chosen_by_name(output, tmp_path):
    options = ReadOptions(targets=TargetPolicy.ALL, output=output)
    classifier = read(TWO.model(), tmp_path, options)
    assert classifier.ends.output == output
    assert [value.name for value in classifier.proto.graph.output] == [output]
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
