"""Models, images and settings as Python users have them: in memory; and what is refused by type."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data
from onnx_models import SEPARABLE

import onnxsemi
from onnxsemi import (
    ApplySettings,
    DataError,
    DataOptions,
    EvaluateSettings,
    ImageSet,
    ModelError,
    RunOptions,
    Settings,
)
from onnxsemi._data.load import load_images
from onnxsemi._search.settings import SearchSettings

SHAPE = (None, 3, 8, 8)
SETTINGS = Settings(search=SearchSettings(bits=(8, 4), max_drop=100), force=True, allow_loss=True)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(48, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.arange(48) % 4


class Feeds:
    """A loader of feeds."""

    def __init__(self, images):
        self.images = images

    def __iter__(self):
        return ({"image": self.images[i : i + 20]} for i in range(0, 48, 20))


class Dataset:
    """Single images with labels, by index, as PyTorch's datasets are."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __iter__(self):
        return ((image, int(label)) for image, label in zip(self.images, self.labels, strict=True))


class TestImages:
    def test_of_a_preset_mean_and_standard_deviation(self):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
        preset = DataOptions(preset="imagenet")
        found = load_images(pixels, "image", SHAPE, preset)
        named = DataOptions(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        expected = load_images(pixels, "image", SHAPE, named)
        assert found.batch(0, 6).tobytes() == expected.batch(0, 6).tobytes()
        with pytest.raises(DataError, match="`resize`: is for images in files"):
            load_images(pixels, "image", SHAPE, DataOptions(preset="imagenet", resize=256))

    def test_single_pictures_are_no_batches(self):
        pixels = np.zeros((6, 8, 8, 3), np.uint8)
        with pytest.raises(DataError, match=r"this one is \[8, 8, 3\]: single images become"):
            load_images(list(pixels), "image", SHAPE)

    def test_without_labels(self, images):
        batches = [images[:7], images[7:]]
        for given in (images, batches, iter(batches), (b for b in batches), Feeds(images)):
            found = load_images(given, "image", SHAPE)
            assert found.labels is None
            np.testing.assert_array_equal(found.batch(0, 48), images)

    def test_with_labels(self, images, labels):
        pairs = [(images[:7], labels[:7]), [images[7:].tolist(), labels[7:].tolist()]]
        for given in ((images, labels), (images, list(labels)), pairs, Dataset(images, labels)):
            found = load_images(given, "image", SHAPE)
            np.testing.assert_array_equal(found.labels, labels)
            np.testing.assert_array_equal(found.batch(0, 48), images)

    def test_pixels_are_normalized_as_the_options_say(self, labels):
        pixels = np.random.default_rng(1).integers(0, 256, (48, 8, 8, 3)).astype(np.uint8)
        options = DataOptions(mean=(0.5,), std=(0.25,), classes=("a", "b", "c", "d"))
        for given in ((pixels, labels), [(pixels, labels)]):
            found = load_images(given, "image", SHAPE, options)
            assert found.classes == ("a", "b", "c", "d")
            expected = (pixels.transpose(0, 3, 1, 2) / np.float32(255) - 0.5) / 0.25
            np.testing.assert_allclose(found.batch(0, 48), expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ({"mean": (0.5,), "std": (0.5,)}, "`mean`: is for images in files"),
            ({"crop": 8}, "`crop`: is for images in files"),
            ({"labels": "labels.csv"}, "`labels`: is for images in files"),
        ],
    )
    def test_options_that_would_do_nothing(self, images, option, words):
        with pytest.raises(DataError, match=words):
            load_images(ImageSet("mine", images), "image", SHAPE, DataOptions(**option))

    def test_float_images_and_a_mean(self, images):
        with pytest.raises(DataError, match="float images are taken as they are"):
            load_images(images, "image", SHAPE, DataOptions(mean=(0.5,)))

    @pytest.mark.parametrize(
        ("given", "error", "words"),
        [
            (None, TypeError, "an iterable of batches, not NoneType"),
            (3, TypeError, "an iterable of batches, not int"),
            (b"abc", TypeError, "an iterable of batches, not bytes"),
            ({"x": 1}, TypeError, "an iterable of batches, not dict"),
            ([None], TypeError, "a batch holds NoneType"),
            (
                (np.zeros((2, 3, 8, 8)), np.array(["a", "b"])),
                TypeError,
                "a batch holds <U1 entries",
            ),
            (["a.jpg", "b.jpg"], TypeError, "a batch holds str, which is no array of numbers"),
            ([(1, 2, 3)], TypeError, "a pair of images and labels, not 3 things"),
            ([], DataError, "no images"),
            ([{"other": np.zeros((1, 3, 8, 8))}], DataError, "but not the input 'image'"),
        ],
    )
    def test_refused(self, given, error, words):
        with pytest.raises(error, match=words):
            load_images(given, "image", SHAPE)

    def test_some_batches_with_labels(self, images, labels):
        with pytest.raises(DataError, match="some batches have labels, others have none"):
            load_images([(images[:9], labels[:9]), images[9:]], "image", SHAPE)


class TestModel:
    def test_the_same_bytes_from_path_bytes_and_proto(self, tmp_path, images, labels):
        proto = SEPARABLE.model()
        onnx.save(proto, tmp_path / "model.onnx")
        held = (tmp_path / "model.onnx").read_bytes()
        written = []
        for number, model in enumerate((str(tmp_path / "model.onnx"), held, proto)):
            out = tmp_path / f"{number}.onnx"
            onnxsemi.compress(model, (images, labels), output=out, settings=SETTINGS)
            written.append(out.read_bytes())
        assert written[0] == written[1] == written[2]
        assert proto.SerializeToString() == SEPARABLE.model().SerializeToString()
        for model in (held, proto):
            alone = onnxsemi.evaluate(
                model, (images, labels), reference=proto, settings=EvaluateSettings(force=True)
            )
            assert alone.comparison.same == 48
            assert onnxsemi.check(model, (images, labels), settings=SETTINGS).file_bytes

    def test_a_run_of_a_model_in_memory_asks_for_it(self, tmp_path, images, labels):
        proto, run, out = SEPARABLE.model(), tmp_path / "a.run", tmp_path / "again.onnx"
        settings = Settings(
            search=SETTINGS.search, force=True, allow_loss=True, run=RunOptions(folder=run)
        )
        first = tmp_path / "first.onnx"
        onnxsemi.compress(proto, (images, labels), output=first, settings=settings)
        given = {
            "output": out,
            "calibration_data": (images, labels),
            "settings": ApplySettings(allow_loss=True),
        }
        with pytest.raises(ModelError, match="the run's model was in memory: give it"):
            onnxsemi.apply(run, **given)
        onnxsemi.apply(run, proto, **given)
        assert out.read_bytes() == first.read_bytes()

    @pytest.mark.parametrize(
        ("model", "error", "words"),
        [
            (None, TypeError, "a model must be a path, bytes or an onnx.ModelProto, not NoneType"),
            (np.zeros(3), TypeError, "not ndarray"),
            (b"no model", ModelError, "the given bytes: not an ONNX model"),
            (b"", ModelError, "the given bytes: not an ONNX model"),
            (onnx.ModelProto(), ModelError, "the given ModelProto: not an ONNX model"),
        ],
    )
    def test_refused(self, tmp_path, images, model, error, words):
        with pytest.raises(error, match=words):
            onnxsemi.compress(model, images, output=tmp_path / "out.onnx")
        assert not [*tmp_path.iterdir()]

    def test_weights_in_files_beside_it(self, tmp_path, images):
        proto = SEPARABLE.model()
        convert_model_to_external_data(proto, location="w.bin", size_threshold=0)
        onnx.save(proto, tmp_path / "model.onnx")
        held = (tmp_path / "model.onnx").read_bytes()
        with pytest.raises(ModelError, match="its weights are in files beside it: give its path"):
            onnxsemi.evaluate(held, images)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"settings": {"seed": 1}}, "settings must be Settings, not dict"),
        ({"settings": SearchSettings()}, "settings must be Settings, not SearchSettings"),
        ({"progress": 3}, "progress must be a function"),
        ({"output": None}, "output must be a path, not NoneType"),
        ({"output": b"out.onnx"}, "output must be a path, not bytes"),
    ],
)
def test_arguments_of_another_type(tmp_path, images, given, words):
    arguments = {"output": tmp_path / "out.onnx", **given}
    with pytest.raises(TypeError, match=words):
        onnxsemi.compress(SEPARABLE.model(), images, **arguments)


@pytest.mark.parametrize(
    ("of", "given", "words"),
    [
        (Settings, {"search": {"bits": (8,)}}, "search must be SearchSettings, not dict"),
        (Settings, {"data": "imagenet"}, "data must be DataOptions, not str"),
        (Settings, {"seed": "0"}, "seed must be int, not str"),
        (Settings, {"search_samples": 2.5}, "search_samples must be int or None, not float"),
        (Settings, {"pins": "conv=8"}, "pins must be tuple, not str"),
        (SearchSettings, {"max_drop": "1"}, "max_drop must be a number, not str"),
        (SearchSettings, {"bits": 8}, "bits must be tuple, not int"),
        (RunOptions, {"time_budget": "10m"}, "time_budget must be a number or None, not str"),
        (DataOptions, {"mean": 0.5}, "mean must be tuple or None, not float"),
    ],
)
def test_settings_of_another_type(of, given, words):
    with pytest.raises(TypeError, match=words):
        of(**given)


def test_a_metric_of_another_type(images, labels):
    with pytest.raises(TypeError, match="metric must be a function of logits and labels, not str"):
        onnxsemi.evaluate(SEPARABLE.model(), (images, labels), metric="f1")


def test_a_path_may_be_a_path(tmp_path):
    assert RunOptions(folder=Path(tmp_path)).folder == tmp_path
