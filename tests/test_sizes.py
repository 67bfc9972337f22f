"""Sizes that a graph works out are written down, and only those that are the same for any batch."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnxsemi._data.images import ImageSet
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.head import ImageInput
from onnxsemi._model.reader import read_model
from onnxsemi._model.sizes import settle_sizes
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._runtime.sessions import Session
from onnxsemi._sensitivity.fast import FastMeasurement

IMAGE = ImageInput("image", (None, 3, 4, 4))
STEM = "stem = Conv <pads = [1,1,1,1]> (image, stem_w)\n a = Relu (stem)"
HEAD = "pooled = GlobalAveragePool (b)\n flat = Flatten (pooled)\n scores = Gemm (flat, fc_w)"
HALF = """
    size = Shape (a)
    one = Constant <value_ints = [1]> ()
    two = Constant <value_ints = [2]> ()
    zero = Constant <value_ints = [0]> ()
    channels = Gather (size, one)
    half = Div (channels, two)
    b = Slice (a, zero, half, one)
"""
LAID_OUT = """
    minus = Constant <value_ints = [-1]> ()
    long = Reshape (a, minus)
    size = Shape (a)
    count = ReduceProd <keepdims = 0> (size)
    first = Constant <value_int = 0> ()
    step = Constant <value_int = 1> ()
    row = Range (first, count, step)
    places = Reshape (row, size)
    b = Gather (long, places)
"""
TURNED = LAID_OUT.replace(
    "row = Range (first, count, step)",
    """
    up = Range (first, count, step)
    last = Sub (count, step)
    row = Sub (last, up)
""",
)
PER_IMAGE = """
    size = Shape (a)
    zero = Constant <value_ints = [0]> ()
    images = Gather (size, zero)
    b = Slice (a, zero, images, zero)
"""


def model(body, kept):
    """``image -> a -> body -> b -> scores``; ``kept`` of four channels are left in b."""
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,4,4] image) => (float[N,2] scores) {{ {STEM} {body} {HEAD} }}
    """
    rng, net = np.random.default_rng(0), parser.parse_model(text)
    for name, shape in {"stem_w": (4, 3, 3, 3), "fc_w": (kept, 2)}.items():
        values = rng.normal(size=shape).astype(np.float32)
        net.graph.initializer.append(numpy_helper.from_array(values, name))
    for node in net.graph.node:
        node.name = node.output[0]
    return net


def settled(net):
    """A copy, its constants among the initializers, its sizes written down."""
    copy = onnx.ModelProto()
    copy.CopyFrom(read_model(net).proto)
    settle_sizes(copy, IMAGE, (3, 4, 4))
    onnx.checker.check_model(copy, full_check=True)
    return copy


def kinds(net):
    return {node.op_type for node in net.graph.node}


@pytest.mark.parametrize(("body", "kept"), [(HALF, 2), (LAID_OUT, 4)], ids=["half", "laid-out"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_settled_model_gives_the_same(body, kept, count):
    images = np.random.default_rng(1).normal(size=(count, 3, 4, 4)).astype(np.float32)
    float_model, found = model(body, kept), settled(model(body, kept))
    (given,) = Session(found.SerializeToString(), optimize=False).run({"image": images}).values()
    (wanted,) = ReferenceEvaluator(float_model).run(None, {"image": images})
    assert np.allclose(given, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_size_that_no_batch_changes_becomes_a_constant():
    found = settled(model(HALF, 2))
    (cut,) = (node for node in found.graph.node if node.op_type == "Slice")
    constants = {t.name: numpy_helper.to_array(t).tolist() for t in found.graph.initializer}
    assert constants[cut.input[2]] == [2]


def test_a_gather_of_all_values_in_order_becomes_a_reshape():
    assert "Gather" in kinds(read_model(model(LAID_OUT, 4)).proto)
    assert "Gather" not in kinds(settled(model(LAID_OUT, 4)))


def test_a_gather_in_another_order_stays():
    assert "Gather" in kinds(settled(model(TURNED, 4)))


def test_a_size_that_follows_the_batch_stays_computed():
    found, images = settled(model(PER_IMAGE, 4)), np.ones((3, 3, 4, 4), np.float32)
    (cut,) = (node for node in found.graph.node if node.op_type == "Slice")
    assert cut.input[2] not in {tensor.name for tensor in found.graph.initializer}
    run = Session(found.SerializeToString(), optimize=False).run({"image": images})
    assert run["scores"].shape == (3, 2)


@pytest.mark.parametrize(("body", "kept"), [(HALF, 2), (LAID_OUT, 4)], ids=["half", "laid-out"])
def test_layers_above_have_a_gradient(body, kept):
    assert not missing(model(body, kept))


def test_names_that_exporters_give_to_shapes_are_free_for_them():
    net = model(LAID_OUT, 4)
    for node in net.graph.node:
        for names in (node.input, node.output):
            names[:] = ["b/shape" if name == "size" else name for name in names]
    assert not missing(net)


def missing(net):
    """Layers without a gradient."""
    classifier = read_model(net)
    noise = np.random.default_rng(2).normal(size=(4, 3, 4, 4)).astype(np.float32)
    images = ImageSet("noise", noise, np.array([0, 1, 0, 1]))
    workload = Workload(classifier, images, Nearest(Scheme.ASYMMETRIC), 1)
    measurement = FastMeasurement(workload, ["stem"], (8, 4), seed=0, products=False)
    return measurement.measure(Silent(), lambda: None).missing
