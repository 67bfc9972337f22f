"""The bundled model and images are what the model card says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import onnxsemi
from onnxsemi._data.sample import refuse_overlap

MODELS = Path(__file__).parents[1] / "models"
MODEL, SEARCH, REPORT = (
    MODELS / name for name in ("fashion_resnet20.onnx", "fashion_search.npz", "fashion_report.npz")
)


def test_sizes():
    assert MODEL.stat().st_size <= 1_200_000
    assert SEARCH.stat().st_size + REPORT.stat().st_size <= 4_000_000


@pytest.mark.parametrize("path", [MODEL, SEARCH, REPORT], ids=lambda path: path.name)
def test_checksums_stand_in_the_model_card(path):
    card = (MODELS / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card


@pytest.mark.parametrize(("path", "count"), [(SEARCH, 2000), (REPORT, 4000)], ids=str)
def test_images_are_stratified(path, count):
    with np.load(path) as arrays:
        assert arrays["x"].shape == (count, 28, 28, 1)
        assert np.bincount(arrays["y"]).tolist() == [count // 10] * 10


def test_search_and_report_images_are_disjoint():
    shape = (None, 1, 28, 28)
    sets = [onnxsemi.load_images(path, "input", shape) for path in (SEARCH, REPORT)]
    refuse_overlap(*sets)
    with pytest.raises(onnxsemi.DataError, match="2000 of its 2000"):
        refuse_overlap(sets[0], sets[0])


def test_layers():
    hidden = onnxsemi.ReadOptions(targets="hidden")
    layers = onnxsemi.inspect(MODEL, options=hidden).layers
    assert sum(layer.status == "target" for layer in layers) == 18
    assert sum("shortcut" in layer.status for layer in layers) == 2
    assert sum("stem" in layer.status for layer in layers) == 1


def test_accuracy_on_a_part_of_the_report_images():
    """92.5 % is promised on all test images; the first 1,000 are within four standard errors."""
    with np.load(REPORT) as arrays:
        pixels, labels = arrays["x"][:1000], arrays["y"][:1000]
        normalization = onnxsemi.Normalization(
            mean=tuple(arrays["mean"].tolist()), std=tuple(arrays["std"].tolist())
        )
    images = onnxsemi.ImageSet("report", pixels, labels, normalization)
    found = onnxsemi.evaluate(MODEL, images)
    assert found.correct is not None
    assert found.correct / found.total > 0.925 - 4 * (0.925 * 0.075 / 1000) ** 0.5


@pytest.mark.slow
def test_compress_end_to_end_from_python(tmp_path):
    """The whole way on the bundled model, with few images: what comes out holds what is claimed."""
    settings = onnxsemi.Settings(
        search=onnxsemi.SearchSettings(
            method="semilayer", bits=(8, 5), split=onnxsemi.Split.NONE, max_drop=1.0
        ),
        search_samples=100,
    )
    result = onnxsemi.compress(
        MODEL, SEARCH, test_data=REPORT, output=tmp_path / "small.onnx", settings=settings
    )
    assert result.search.before - result.search.after <= 1
    assert result.sizes.targets > 0.7
    assert result.sizes.bytes_after == result.output.stat().st_size
    assert abs(result.sizes.file - result.sizes.model) < 0.05
    found = onnxsemi.evaluate(result.output, REPORT, reference=MODEL)
    assert found.comparison == result.report
