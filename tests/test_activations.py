"""Activations in uint8: calibrated ranges, and the nodes that integer kernels need."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from residual_net import residual_net

from onnxsemi.calibration import Calibration, activation_ranges
from onnxsemi.emit.activations import Activation
from onnxsemi.emit.layout.merged import merged
from onnxsemi.emit.model import put_together
from onnxsemi.emit.profile import Form
from onnxsemi.emit.storage.planes import BitPlanes
from onnxsemi.emit.tail.dequantize import dequantize
from onnxsemi.errors import ModelError
from onnxsemi.model.read import ReadOptions, read_model
from onnxsemi.model.targets import TargetPolicy
from onnxsemi.plan import BitPlan
from onnxsemi.quantizer.affine import Scheme
from onnxsemi.runtime import Session

INTEGERS = Form(BitPlanes, merged, dequantize)


def noise(count):
    return np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)


def batches():
    return [{"image": part} for part in np.split(noise(12), 3)]


@pytest.fixture
def classifier(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(residual_net(), path)
    return read_model(path, ReadOptions(targets=TargetPolicy.CONV))


def test_minmax_is_the_smallest_and_the_largest_value(classifier):
    ranges = activation_ranges(classifier.proto, batches(), Calibration.MINMAX)
    proto = onnx.ModelProto()
    proto.CopyFrom(classifier.proto)
    names = ["a", "c1r", "s"]
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    values = Session(proto.SerializeToString(), optimize=False).run({"image": noise(12)})
    for name in names:
        expected = (float(values[name].min()), float(values[name].max()))
        assert ranges[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", [Calibration.ENTROPY, Calibration.PERCENTILE])
def test_histograms_never_go_beyond_the_extremes(method, classifier, capfd):
    extremes = activation_ranges(classifier.proto, batches(), Calibration.MINMAX)
    found = activation_ranges(classifier.proto, batches(), method)
    assert found["a"] != extremes["a"]
    assert 0 < found["a"][1] <= extremes["a"][1] * (1 + 1e-6)
    assert activation_ranges(classifier.proto, batches(), method) == found
    assert capfd.readouterr() == ("", "")


def test_images_that_the_model_cannot_take(classifier):
    with pytest.raises(ModelError, match="cannot calibrate"):
        activation_ranges(classifier.proto, [{"image": noise(2)[:, :1]}], Calibration.MINMAX)


@pytest.mark.parametrize(
    ("low", "high", "zero_point", "scale"),
    [(0, 2.55, 0, 0.01), (-1.275, 1.275, 128, 0.01), (1, 2.55, 0, 0.01), (-2.55, -1, 255, 0.01)],
)
def test_zero_is_on_the_grid(low, high, zero_point, scale):
    grid = Activation.of_range(low, high)
    assert grid.scale == pytest.approx(scale)
    assert abs(int(grid.zero_point) - zero_point) <= 1


def test_a_tensor_that_is_always_zero_has_a_scale():
    assert Activation.of_range(0, 0).scale > 0


def test_every_convolution_runs_on_integers(classifier, tmp_path):
    """Float outputs within the uint8 grids, and a QLinearConv for each target."""
    plan = BitPlan.uniform(classifier.layers, 8)
    plan = plan.with_bits("c1", [0, 2], 6).with_bits("c2", [1], 4)
    ranges = activation_ranges(classifier.proto, batches(), Calibration.MINMAX)
    model = put_together(classifier, plan, Scheme.SYMMETRIC, INTEGERS, ranges)
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    fused = [n for n in onnx.load(tmp_path / "fused.onnx").graph.node if n.op_type == "QLinearConv"]
    assert len(fused) == sum(len(site.nodes) for site in classifier.sites)
    found = session.run(None, {"image": noise(12)})[0]
    wanted = Session(classifier.proto.SerializeToString()).run({"image": noise(12)})["scores"]
    noise_of_grids = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert 0 < noise_of_grids < 0.1
