"""What SECURITY.md promises of files that come from elsewhere, where no other test does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxsemi import ModelError
from onnxsemi._model.loader import load_proto

WEIGHTS = np.zeros((1, 1, 3, 3), np.float32)


def model_with_data_at(location: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]>
        net (float[n, 1, 8, 8] x) => (float[n, 1, 6, 6] y) { y = Conv(x, w) }
    """)
    weights = TensorProto(
        name="w",
        dims=WEIGHTS.shape,
        data_type=TensorProto.FLOAT,
        data_location=TensorProto.EXTERNAL,
    )
    weights.external_data.add(key="location", value=location)
    model.graph.initializer.append(weights)
    return model


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a model, beside a file that is none of its business."""
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "weights.bin").write_bytes(WEIGHTS.tobytes())
    return tmp_path / "own"


def test_external_data_lie_in_the_folder_of_the_model(place):
    onnx.save(model_with_data_at("weights.bin"), place / "net.onnx")
    (weights,) = load_proto(place / "net.onnx").graph.initializer
    assert weights.raw_data == WEIGHTS.tobytes()


@pytest.mark.parametrize("absolute", [False, True], ids=["parent", "absolute"])
def test_external_data_that_lie_elsewhere_are_refused(place, absolute):
    secret = place.parent / "secret.bin"
    location = str(secret) if absolute else "../secret.bin"
    (place / "net.onnx").write_bytes(model_with_data_at(location).SerializeToString())
    with pytest.raises(ModelError, match="external data cannot be read"):
        load_proto(place / "net.onnx")
