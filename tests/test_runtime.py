"""ONNX Runtime behind one module: sessions, folding, rows that do not depend on their company."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser, version_converter
from onnx.reference import ReferenceEvaluator
from onnx_models import IDENTITY, NETS, NORMALIZED, Net, conv, images, weighted

from onnxsemi._data.images import ImageSet
from onnxsemi._errors import ModelError
from onnxsemi._evaluation.workload import Workload
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._runtime.sessions import Session, fold, load_session

FOLD = "session.disable_quant_qdq"
ALL = ReadOptions(targets=TargetPolicy.ALL)


def quantized_model():
    """A convolution whose weight is int8 codes behind a DequantizeLinear per channel."""
    rng = np.random.default_rng(0)
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[N,3,8,8] image) => (float[N,5] scores)
        {
            w = DequantizeLinear <axis = 0> (codes, scales, zeros)
            c = Conv <pads = [1,1,1,1]> (image, w)
            p = GlobalAveragePool (c)
            scores = Flatten (p)
        }
    """
    model = parser.parse_model(text)
    constants = {
        "codes": rng.integers(-128, 128, (5, 3, 3, 3), np.int8),
        "scales": rng.uniform(0.001, 0.01, 5).astype(np.float32),
        "zeros": np.zeros(5, np.int8),
    }
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    return model


@pytest.fixture
def quantized_path(tmp_path):
    path = tmp_path / "small.onnx"
    onnx.save(quantized_model(), path)
    return path


def test_quantized_file_answers_as_the_float_model_of_its_weights(quantized_path):
    """Bit for bit; a session without the option differs by the order of its sums only."""
    feed = {"image": images(3)}
    found = load_session(quantized_path).run(None, feed)[0]
    model = onnx.load(quantized_path)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    weight = constants["codes"].astype(np.float32) * constants["scales"].reshape(-1, 1, 1, 1)
    del model.graph.node[0], model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    assert found.tobytes() == session(model).run(feed)["scores"].tobytes()
    default = onnxruntime.InferenceSession(quantized_path, providers=["CPUExecutionProvider"])
    for other in (default.run(None, feed)[0], ReferenceEvaluator(model).run(None, feed)[0]):
        # float32 sums of 27 products, then a mean of 64
        assert np.abs(found - other).max() <= (27 + 64) * 2**-23 * np.abs(other).max()


def test_weights_are_folded_when_the_file_loads(quantized_path, tmp_path):
    """What the option is for: no DequantizeLinear is left to run."""
    left = {}
    for name, opened in (("ours", load_session), ("default", onnxruntime.InferenceSession)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        opened(str(quantized_path), options, ["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
        left[name] = [node.op_type for node in graph.node].count("DequantizeLinear")
    assert left == {"ours": 0, "default": 1}


def test_session_option_is_set(quantized_path):
    options = load_session(quantized_path).get_session_options()
    assert options.get_session_config_entry(FOLD) == "1"


def test_callers_options_are_kept(quantized_path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.logid = "camera"
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    used = load_session(quantized_path, options).get_session_options()
    assert used.intra_op_num_threads == 1
    assert used.logid == "camera"
    assert used.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert used.get_session_config_entry(FOLD) == "1"


def test_providers_are_the_cpu_unless_told(quantized_path):
    assert load_session(quantized_path).get_providers() == ["CPUExecutionProvider"]
    told = load_session(quantized_path, providers=["CPUExecutionProvider"])
    assert told.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_path_of_either_type(kind, quantized_path):
    assert load_session(kind(quantized_path)).get_inputs()[0].name == "image"


CONTENTS = {"garbage": b"not a model at all", "empty": b"", "json": b'{"a": 1}', "zeros": bytes(99)}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_file_that_is_no_model(content, tmp_path):
    path = tmp_path / "garbage.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"garbage\.onnx: ONNX Runtime refuses it: ") as refused:
        load_session(path)
    assert "\n" not in str(refused.value)


def test_file_cut_short(quantized_path):
    quantized_path.write_bytes(quantized_path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"small\.onnx: ONNX Runtime refuses it: "):
        load_session(quantized_path)


@pytest.mark.parametrize("name", ["none.onnx", "."])
def test_path_of_no_file(name, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        load_session(tmp_path / name)


def session(model, *, optimize=True):
    return Session(model.SerializeToString(), optimize=optimize)


@pytest.mark.parametrize("optimize", [True, False])
def test_session_gives_every_output_by_name(optimize):
    model = IDENTITY.model()
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None))
    found = session(model, optimize=optimize).run({"image": images(2)})
    assert {name: values.shape for name, values in found.items()} == {
        "scores": (2, 5),
        "pooled": (2, 6, 1, 1),
    }


BAD_FEEDS = {
    "other name": {"picture": images(2)},
    "nothing": {},
    "other type": {"image": images(2).astype(np.float64)},
    "other rank": {"image": images(2)[0]},
    "other size": {"image": images(2)[:, :2]},
}


@pytest.mark.parametrize("feed", BAD_FEEDS.values(), ids=BAD_FEEDS)
def test_images_that_the_model_does_not_take(feed, capfd):
    opened = session(IDENTITY.model())
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the model: ") as refused:
        opened.run(feed)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_run_that_fails_inside_the_model_prints_nothing(capfd):
    """ONNX Runtime would log the failure of the node; the error says it."""
    net = Net(IDENTITY.body, IDENTITY.shapes, image="float[N,C,H,W] image")
    with pytest.raises(ModelError, match="ONNX Runtime cannot run the model: ") as refused:
        session(net.model()).run({"image": images(2)[:, :2]})
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opening", [Session, fold], ids=["Session", "fold"])
def test_model_that_the_runtime_refuses(opening, capfd):
    """The reason is in the error; nothing is printed beside it."""
    model = IDENTITY.model()
    model.graph.node[0].op_type = "Unheard"
    with pytest.raises(ModelError, match=r"refuses the model: .*Unheard") as refused:
        opening(model.SerializeToString())
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_fold_removes_batch_normalization_and_keeps_opset_and_names():
    model = NORMALIZED.model()
    folded = onnx.load_model_from_string(fold(model.SerializeToString()))
    assert "BatchNormalization" not in [node.op_type for node in folded.graph.node]
    assert {entry.version for entry in folded.opset_import if not entry.domain} == {17}
    assert [value.name for value in folded.graph.output] == ["scores"]
    assert {"stem", "c1", "scores"} <= {node.name for node in folded.graph.node}


def test_folding_what_is_folded_changes_nothing():
    once = onnx.load_model_from_string(fold(NORMALIZED.model().SerializeToString()))
    twice = onnx.load_model_from_string(fold(once.SerializeToString()))
    assert [n.op_type for n in twice.graph.node] == [n.op_type for n in once.graph.node]
    weights = [
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (once, twice)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][n].tobytes() == weights[1][n].tobytes() for n in weights[0])


@dataclass(frozen=True)
class Sized:
    """A network whose inner sizes make the kernels take other paths."""

    id: str
    net: Net
    side: int = 8


def wide(channels, classes):
    """A classifier of many features, where a batch of one row is a matrix-vector product."""
    body = (
        conv("stem", "image", "pads = [1,1,1,1]", bias=True)
        + "flat = Flatten (stem)\n"
        + weighted("Gemm", "scores", "flat", "transB = 1", bias=True)
    )
    shapes = {"stem_w": (channels, 3, 3, 3), "stem_b": (channels,)}
    head = {"scores_w": (classes, channels * 64), "scores_b": (classes,)}
    return Net(body, {**shapes, **head}, scores=f"float[N,{classes}] scores")


SIZED = [
    *(Sized(name, net) for name, net in NETS.items()),
    Sized("odd", wide(7, 3)),
    Sized("blocks", wide(16, 16)),
    Sized("wide", wide(32, 101)),
]
COUNT = 70  # batches of 32, 32 and 6 images


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Each network, noise for it, and its logits on one thread."""
    folder = tmp_path_factory.mktemp("sized")
    found = {}
    for case in SIZED:
        path = folder / f"{case.id}.onnx"
        onnx.save(case.net.model(), path)
        classifier = read_model(path, ALL)
        noise = ImageSet("noise", images(COUNT))
        found[case.id] = (classifier, noise, logits(classifier, noise))
    return found


def logits(classifier, noise, threads=1):
    return Workload(classifier, noise, Nearest(Scheme.ASYMMETRIC), threads).forward(
        classifier.proto
    )


each_size = pytest.mark.parametrize("name", [case.id for case in SIZED])


@each_size
@pytest.mark.parametrize("threads", [2, 3])
def test_logits_do_not_depend_on_the_threads(name, threads, measured):
    classifier, noise, expected = measured[name]
    assert logits(classifier, noise, threads).tobytes() == expected.tobytes()


@each_size
@pytest.mark.parametrize("count", [1, 2, 3, 7, 31, 32, 33, 65])
def test_logits_do_not_depend_on_how_many_images_there_are(name, count, measured):
    classifier, noise, expected = measured[name]
    found = logits(classifier, noise.select(np.arange(count)))
    assert found.tobytes() == expected[:count].tobytes()


@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_logits_of_an_image_do_not_depend_on_its_company(data, measured):
    """Any choice of images, in any order, some of them twice."""
    classifier, noise, expected = measured[data.draw(st.sampled_from(sorted(measured)))]
    chosen = np.array(data.draw(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=90)))
    found = logits(classifier, noise.select(chosen), threads=data.draw(st.sampled_from([1, 2])))
    assert found.tobytes() == expected[chosen].tobytes()


@each_size
def test_logits_are_those_of_the_reference_evaluator(name, measured):
    classifier, noise, expected = measured[name]
    batch = classifier.ends.image.batch or 6
    raised = version_converter.convert_version(classifier.proto, 20)
    found = ReferenceEvaluator(raised).run(None, {"image": noise.batch(0, batch)})[0]
    # float32 noise of sums of at most 2,048 products in another order; their errors partly cancel
    error = np.abs(found.reshape(batch, -1) - expected[:batch]).max()
    assert error <= 2e-5 * np.abs(expected[:batch]).max()


@pytest.mark.shared
def test_logits_of_a_real_network_do_not_depend_on_threads_and_company(shared):
    classifier = read_model(shared / "models/resnet20_cifar10.onnx", ReadOptions(targets="hidden"))
    size = tuple(axis or 32 for axis in classifier.ends.image.shape[1:])
    noise = ImageSet("noise", images(40, size))
    expected = logits(classifier, noise)
    assert logits(classifier, noise, threads=3).tobytes() == expected.tobytes()
    chosen = np.random.default_rng(0).permutation(40)[:33]
    assert logits(classifier, noise.select(chosen), 2).tobytes() == expected[chosen].tobytes()


def test_without_optimisation_a_weight_may_be_stored_or_computed():
    """Bit for bit: rows of a packed weight would be added up in another order."""
    rng = np.random.default_rng(0)
    rows, inputs, outputs = 17, 192, 576
    weight = rng.normal(size=(inputs, outputs)).astype(np.float32)
    image = rng.normal(size=(rows, inputs)).astype(np.float32)
    found = []
    for body in ("y = MatMul (x, w)", "u = Identity (w) v = Mul (u, one) y = MatMul (x, v)"):
        model = parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            product (float[{rows},{inputs}] x) => (float[{rows},{outputs}] y)
            <float one = {{1.0}}> {{ {body} }}"""
        )
        model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
        found.append(Session(model.SerializeToString(), optimize=False).run({"x": image})["y"])
    assert found[0].tobytes() == found[1].tobytes()
