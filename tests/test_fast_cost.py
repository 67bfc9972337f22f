"""What the backward passes spare: values that are not moved, threads that do not wait."""

import threading

import numpy as np
import onnx
import pytest
from onnx_models import NETS, images

from onnxsemi._data.images import ImageSet
from onnxsemi._evaluation.workload import Workload
from onnxsemi._gradient.backward import Cotangents, backward
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._model.targets import TargetPolicy
from onnxsemi._progress import Silent
from onnxsemi._quantizer.affine import Scheme
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._runtime.sessions import fused
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.probe import ForwardGraph, ProbeRequest, build_probe

BITS = (8, 2)


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    path = tmp_path_factory.mktemp("cost") / "model.onnx"
    onnx.save(NETS["identity"].model(), path)
    classifier = read_model(path, ReadOptions(targets=TargetPolicy.CONV))
    data = ImageSet("noise", images(96, seed=4), np.random.default_rng(3).integers(0, 5, 96))
    return Workload(classifier, data, Nearest(Scheme.ASYMMETRIC), threads=2)


def test_no_gradient_of_a_convolution_is_transposed(workload):
    classifier = workload.classifier
    request = ProbeRequest(
        layers=[layer.name for layer in classifier.layers],
        bits=BITS,
        rounding=workload.rounding,
        cotangents=5,
    )
    probe = build_probe(classifier, ForwardGraph.of(classifier, workload.image), request)
    nodes = onnx.load_model_from_string(fused(probe.model)).graph.node
    assert sum(node.op_type == "FusedMatMul" for node in nodes) == len(classifier.layers)
    moved = [node.output[0] for node in nodes if node.op_type == "Transpose"]
    assert not [name for name in moved if name.startswith("probe/")]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ("one, five, last", ["Pad"]),
        ("one, five, last, two", ["MatMul"]),
        ("one, five, second, two", ["Pad", "Gather"]),
    ],
)
def test_a_slice_is_put_back_at_once(bounds, expected):
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        net (float[N,6,6] x) => (float[N,5,5] y)
        <int64[1] one = {{1}}, int64[1] five = {{6}}, int64[1] last = {{2}},
         int64[1] second = {{1}}, int64[1] two = {{2}}> {{ y = Slice (x, {bounds}) }}"""
    )
    shape = {"one, five, last": (-1, 6, 5), "one, five, last, two": (-1, 6, 3)}
    shapes = {"x": (-1, 6, 6), "y": shape.get(bounds, (-1, 3, 6))}
    seeds = Cotangents(tensor="y", name="seeds", count=1)
    found = backward(model.graph, shapes, seeds, ["x"])
    assert [node.op_type for node in found.nodes if node.op_type != "Reshape"] == expected


def test_threads_run_the_next_block_while_one_is_summed(workload, monkeypatch):
    later, run, add = threading.Event(), FastMeasurement._run, FastMeasurement._add

    def running(self, runner, part, given):
        if given[0].start >= 32:
            later.set()
        return run(self, runner, part, given)

    def adding(self, moments, columns, effects, start):
        assert start or later.wait(10)
        add(self, moments, columns, effects, start)

    monkeypatch.setattr(FastMeasurement, "_run", running)
    monkeypatch.setattr(FastMeasurement, "_add", adding)
    names = [layer.name for layer in workload.classifier.layers]
    FastMeasurement(workload, names, BITS, 0).measure(Silent(), lambda: None)
    assert later.is_set()
