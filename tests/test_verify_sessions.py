"""The verifier's sessions: threads, batches, and what optimisation may change."""

import numpy as np
import onnx
import pytest
from emitting import edit
from onnx import numpy_helper, parser
from verify_cases import Case, gemm

from onnxsemi._errors import VerificationError
from onnxsemi._runtime.sessions import Session


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("verify"))


def test_a_default_session_has_its_threads_and_a_users_batch(case, tmp_path, monkeypatch):
    opened, ran = Session.__init__, Session.run
    batches = []
    assert case.workload.extents  # found by running, once

    def note(session, model, **options):
        session.threaded = options.get("threaded", False)
        opened(session, model, **options)

    def run(session, feeds):
        batches.extend((session.threaded, len(rows)) for rows in feeds.values())
        return ran(session, feeds)

    monkeypatch.setattr(Session, "__init__", note)
    monkeypatch.setattr(Session, "run", run)
    case.verify(case.model, tmp_path)
    assert {size for threaded, size in batches if threaded} == {len(case.workload.images)}
    assert {size for threaded, size in batches if not threaded} == {4}


DISTANCE = 300.0
FAR = """
<ir_version: 8, opset_import: ["" : 17]>
far (float[N,3,8,8] image) => (float[N,5] scores)
{
    stem = Conv <pads = [1,1,1,1]> (image, stem_w)
    a = Relu (stem)
    away = Add (a, distance)
    c1 = Conv (away, c1_w)
    mean = ReduceMean <axes = [2,3]> (c1)
    back = Sub (c1, mean)
    pooled = GlobalMaxPool (back)
    flat = Flatten (pooled)
    scores = Gemm <transB = 1> (flat, fc_w, fc_b)
}
"""
"""Sums far from zero, of which only the differences count: their last bits are enlarged."""


def far_net():
    rng, model = np.random.default_rng(0), parser.parse_model(FAR)
    shapes = {"stem_w": (16, 3, 3, 3), "c1_w": (16, 16, 3, 3), "fc_w": (5, 16), "fc_b": (5,)}
    for name, shape in shapes.items():
        values = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(DISTANCE), "distance"))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


@pytest.fixture(scope="module")
def noisy_case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    onnx.save(far_net(), folder / "far.onnx")
    return Case(folder, folder / "far.onnx")


def test_what_optimisation_changes_in_the_float_sums_speaks_against_no_file(noisy_case, tmp_path):
    noisy_case.verify(noisy_case.model, tmp_path)


@pytest.mark.parametrize("error", [0.06, np.nan])
def test_a_default_session_that_errs_is_found_in_a_noisy_model(
    noisy_case, tmp_path, monkeypatch, error
):
    original = Session.__init__

    def wrong(session, model, *, folded=True, **options):
        loaded = onnx.load_model_from_string(model)
        if not folded and any(node.op_type == "DequantizeLinear" for node in loaded.graph.node):
            edit(loaded, gemm(loaded).input[2], lambda bias: np.copyto(bias, bias + error))
        original(session, loaded.SerializeToString(), folded=folded, **options)

    monkeypatch.setattr(Session, "__init__", wrong)
    with pytest.raises(VerificationError, match="in a default session"):
        noisy_case.verify(noisy_case.model, tmp_path)
