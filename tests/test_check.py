"""``check``: what ``compress`` will work with, in seconds."""

import json

import numpy as np
import onnx
import pytest
from command_line import assert_one_line, run
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import EvaluateSettings, ReadOptions, SearchSettings, Settings
from onnxsemi._search.few_images import images_to_show, least_tolerance

FORCED = Settings(force=True)  # a random net is right by chance only


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("check")
    save_residual_net(path / "net.onnx")
    for name, count, seed in (("search", 60, 3), ("report", 24, 4)):
        save_noise(path / f"{name}.npz", count=count, seed=seed)
    return path


@pytest.fixture(scope="module")
def found(folder):
    data = {"test_data": folder / "report.npz", "settings": FORCED}
    return onnxsemi.check(folder / "net.onnx", folder / "search.npz", **data)


def values(path):
    """Bytes of all weights and biases of a model, as float32."""
    tensors = onnx.load(path).graph.initializer
    return sum(4 * int(np.prod(tensor.dims)) for tensor in tensors)


def test_the_model_and_its_images(folder, found):
    assert (found.input_name, found.input_shape) == ("image", (None, 3, 8, 8))
    assert found.classes == 5
    assert (found.search_images, found.report_images, found.looked_at) == (60, 24, 60)
    evaluated = onnxsemi.evaluate(
        folder / "net.onnx", folder / "search.npz", settings=EvaluateSettings(force=True)
    )
    assert found.correct == evaluated.correct
    assert found.file_bytes == (folder / "net.onnx").stat().st_size


def test_every_byte_is_quantized_or_stays_float(folder, found):
    kept = sum(weights.bytes for weights in found.left_float)
    classifier_values = found.target_bytes + kept
    assert classifier_values <= values(folder / "net.onnx")
    hidden = onnxsemi.check(
        folder / "net.onnx",
        folder / "search.npz",
        settings=Settings(force=True, model=ReadOptions(targets="hidden")),
    )
    assert hidden.targets < found.targets
    more = sum(weights.bytes for weights in hidden.left_float)
    assert hidden.target_bytes + more == classifier_values
    sizes = [weights.bytes for weights in hidden.left_float[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    assert {"stem", "Gemm", "no"} <= {weights.reason.split()[0] for weights in hidden.left_float}


def test_sizes_are_those_of_such_files(folder, found, tmp_path):
    for bits, size in found.sizes.items():
        search = SearchSettings(method="semilayer", bits=(bits,), max_drop=100, split="none")
        written = onnxsemi.compress(
            folder / "net.onnx",
            folder / "search.npz",
            test_data=folder / "report.npz",
            output=tmp_path / f"{bits}.onnx",
            settings=Settings(search=search, force=True, allow_loss=True),
        )
        if written.plan.mean_bits == bits:
            assert written.sizes.bytes_after == size
    assert list(found.sizes.values()) == sorted(found.sizes.values(), reverse=True)


def test_what_the_images_can_show(found):
    assert found.asked == 0.5
    assert found.shown == least_tolerance(60)
    assert found.images_needed == images_to_show(0.5)
    assert any("cannot show a change of 0.5 points" in said for said in found.warnings)


def test_the_forecast(found):
    forecast = found.forecast
    low, high = SearchSettings().strategy.passes
    assert forecast.passes == (2 * low, 2 * high)  # few images: every plan is rounded twice
    assert forecast.seconds == tuple(n * forecast.pass_seconds for n in forecast.passes)
    assert forecast.image_forwards == (2 * low * 60, 2 * high * 60)
    assert "thousand image-forwards" in forecast.text
    assert forecast.least_memory > 0
    assert forecast.memory > 0


def test_nothing_is_written(folder):
    before = sorted(folder.iterdir())
    result = run("check", folder / "net.onnx", "--data", folder / "search.npz", "--force")
    assert result.exit_code == 0, result.output
    assert sorted(folder.iterdir()) == before
    for word in ("5 classes", "30 for calibration, 30 for the test", "one bitwidth", "passes"):
        assert word in " ".join(result.stdout.split())
    assert "warning: " in result.stderr


def test_json(folder):
    result = run("check", folder / "net.onnx", "--data", folder / "search.npz", "--force", "--json")
    document = json.loads(result.stdout)
    assert document["schema"] == 1
    assert document["input_shape"] == [None, 3, 8, 8]
    assert set(document["sizes"]) == {"8", "4", "2"}
    assert document["forecast"]["seconds"][0] < document["forecast"]["seconds"][1]
    assert document["warnings"]


def test_without_labels(folder, tmp_path):
    save_noise(tmp_path / "plain.npz", count=60, seed=5, labels=False)
    result = run("check", folder / "net.onnx", "--data", tmp_path / "plain.npz", "--json")
    assert json.loads(result.stdout)["correct"] is None


def test_what_compress_refuses_is_refused(folder, tmp_path):
    assert_one_line(run("check", tmp_path / "none.onnx", "--data", folder / "search.npz"), "none")
    few = run("check", folder / "net.onnx", "--data", folder / "search.npz", "--max-memory", "1MB")
    assert_one_line(few, "--max-memory", "MB whatever the number of images")
    save_noise(tmp_path / "ten.npz", count=10, seed=5)
    assert_one_line(run("check", folder / "net.onnx", "--data", tmp_path / "ten.npz"), "images")


@pytest.mark.parametrize("workers", [1, 4])
def test_what_a_cluster_takes(folder, workers):
    words = ("check", folder / "net.onnx", "--data", folder / "search.npz", "--force")
    found = json.loads(run(*words, "--workers", workers, "--json").stdout)["cluster"]
    assert found["workers"] == workers
    assert 0 < found["serial"] < found["seconds"]
    assert (found["efficiency"] == 1) == (workers == 1)
    assert (found["moved"] == 0) == (workers == 1)
    shown = " ".join(run(*words, "--workers", workers).stdout.split())
    assert f"with {workers} worker" in shown


def test_no_workers(folder):
    words = ("check", folder / "net.onnx", "--data", folder / "search.npz", "--force")
    assert_one_line(run(*words, "--workers", 0), "--workers: 0 must be 1 or more")
