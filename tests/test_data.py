"""Images from files, folders and readers; preprocessing; samples."""

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader
from PIL import Image

from onnxsemi._data import source
from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.load import DataOptions, Preset, load_images
from onnxsemi._data.sample import refuse_overlap, split, stratified
from onnxsemi._errors import DataError

SHAPE = (None, 3, 4, 5)  # [N, C, H, W]


def pixels(count, shape=(4, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def save(folder, **arrays):
    np.savez(folder / "images.npz", **arrays)
    return folder / "images.npz"


def load(data, shape=SHAPE, **options):
    return load_images(data, "image", shape, DataOptions(**options))


@pytest.fixture(params=["held", "lazy"])
def storage(request, monkeypatch):
    """Images in memory, and images read when asked for, as if nothing fitted the memory."""
    if request.param == "lazy":
        monkeypatch.setattr(source, "MEMORY_LIMIT", 0)


@pytest.mark.usefixtures("storage")
class TestNpz:
    def test_uint8_is_normalized_and_laid_out(self, tmp_path):
        x = pixels(3)
        images = load(save(tmp_path, x=x, mean=np.float32([0.1, 0.2, 0.3]), std=np.float32(0.5)))
        expected = (x / 255 - [0.1, 0.2, 0.3]) / 0.5
        found = images.batch(0, 3)
        assert (found.dtype, found.shape) == (np.float32, (3, 3, 4, 5))
        assert np.abs(found.transpose(0, 2, 3, 1) - expected).max() < 1e-6

    def test_channels_last_models(self, tmp_path):
        images = load(save(tmp_path, x=pixels(3)), shape=(None, 4, 5, 3))
        assert images.batch(1, 3).shape == (2, 4, 5, 3)

    def test_flags_replace_what_the_file_says(self, tmp_path):
        path = save(tmp_path, x=pixels(1), mean=np.float32(0.9), std=np.float32(9))
        images = load(path, mean=(0.5,), std=(2.0,))
        assert images.normalization == Normalization(mean=(0.5,), std=(2.0,))

    @pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
    def test_floats_are_taken_as_they_are(self, tmp_path, kind):
        x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(kind)
        images = load(save(tmp_path, x=x, y=np.array([1, 0])))
        assert (images.batch(0, 2) == x.astype(np.float32)).all()
        assert images.labels.tolist() == [1, 0]

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"images": pixels(2)}, "no array 'x'"),
            ({"x": pixels(2).astype(np.int32)}, "int32"),
            ({"x": pixels(2)[..., 0]}, "uint8 images need shape"),
            ({"x": pixels(0)}, "no images"),
            ({"x": np.float32(3)}, "no images"),
            ({"x": pixels(2, (5, 4, 3))}, "[3, 4, 5], these have [3, 5, 4]"),
            ({"x": np.zeros((2, 3, 5, 4), np.float32)}, "[3, 4, 5], these have [3, 5, 4]"),
            ({"x": np.array([{}, {}], object)}, "not a readable .npz"),
            ({"x": pixels(2), "y": np.zeros(3, int)}, "2 images, but 'y' has shape [3]"),
            ({"x": pixels(2), "y": np.zeros((2, 1), int)}, "'y' has shape [2, 1]"),
            ({"x": pixels(2), "y": np.zeros(2)}, "'y' is float64"),
            ({"x": pixels(2), "mean": np.float32([1, 2])}, "3 colour channels"),
            ({"x": pixels(2), "std": np.float32(0)}, "`std`"),
            ({"x": pixels(2), "mean": np.float32(np.nan)}, "`mean`"),
        ],
        ids=str,
    )
    def test_what_cannot_be_used(self, tmp_path, arrays, words):
        with pytest.raises(DataError) as caught:
            load(save(tmp_path, **arrays))
        assert words in str(caught.value)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_first_bad_image_is_named(self, tmp_path, value):
        x = np.zeros((5, 3, 4, 5), np.float32)
        x[3, 1, 0, 0] = x[4, 0, 0, 0] = value
        with pytest.raises(DataError, match="image 3 holds NaN"):
            load(save(tmp_path, x=x))

    def test_mean_for_float_images_is_a_contradiction(self, tmp_path):
        with pytest.raises(DataError, match="for uint8 images"):
            load(save(tmp_path, x=np.zeros((1, 3, 4, 5), np.float32)), mean=(0.5,))

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + b"\x00" * 50])
    def test_files_that_are_no_archive(self, tmp_path, content):
        path = tmp_path / "images.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"images\.npz"):
            load(path)

    def test_truncated_archive(self, tmp_path):
        path = save(tmp_path, x=pixels(20))
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(DataError, match="not a readable"):
            load(path)

    def test_a_single_array_file(self, tmp_path):
        np.save(tmp_path / "x.npy", pixels(2))
        with pytest.raises(DataError, match=r"x\.npy"):
            load(tmp_path / "x.npy")

    def test_absent(self, tmp_path):
        with pytest.raises(DataError, match="no such file or folder"):
            load(tmp_path / "absent.npz")

    @pytest.mark.parametrize("labels", [[0, 5, 2], [0, -1, 2]])
    def test_label_that_is_no_class(self, labels):
        images = ImageSet("images", pixels(3), np.array(labels), Normalization())
        with pytest.raises(DataError, match=rf"label {labels[1]} of image 1 .* are 0 to 4"):
            images.check_labels(5)


class TestImageSet:
    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ((np.full((2, 3, 4, 5), np.nan, np.float32),), "image 0 holds NaN"),
            ((pixels(3), np.zeros(2, int)), "3 images, but 'y'"),
            ((pixels(0),), "no images"),
        ],
        ids=["nan", "labels", "empty"],
    )
    def test_is_checked_like_a_file(self, arrays, words):
        with pytest.raises(DataError, match=words):
            ImageSet("mine", *arrays)

    def test_uint8_without_normalization_is_divided_by_255(self):
        found = load(ImageSet("mine", np.full((1, 4, 5, 3), 255, np.uint8))).batch(0, 1)
        assert (found == 1).all()


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for label, name in enumerate(("b_second", "a_first")):
            (tmp_path / name).mkdir()
            for number in range(2):
                shade = 50 * label + number
                Image.new("RGB", (12, 8), (shade, 0, 255)).save(tmp_path / name / f"{number}.png")
        return tmp_path

    def test_classes_in_the_order_of_their_names(self, folder):
        images = load(folder, shape=(None, 3, 4, 4))
        assert images.labels.tolist() == [0, 0, 1, 1]
        assert images.pixels[:, 0, 0, 0].tolist() == [50, 51, 0, 1]

    @pytest.mark.usefixtures("storage")
    def test_folder_without_classes_has_no_labels(self, folder):
        assert load(folder / "a_first", shape=(None, 3, 4, 4)).labels is None

    def test_shorter_side_then_centre(self, tmp_path):
        """Width 8 in bands of 2, height 4: the centre 4 x 4 has the two middle bands."""
        bands = np.repeat([0, 80, 160, 240], 2)[None, :, None].repeat(4, 0).repeat(3, 2)
        Image.fromarray(bands.astype(np.uint8)).save(tmp_path / "bands.png")
        images = load(tmp_path, shape=(None, 3, 4, 4))
        assert images.pixels[0, 0, :, 0].tolist() == [80, 80, 160, 160]

    @pytest.mark.usefixtures("storage")
    def test_grey_models(self, folder):
        assert load(folder, shape=(None, 1, 4, 4)).batch(0, 2).shape == (2, 1, 4, 4)

    def test_preset(self, folder):
        images = load(folder, shape=(None, 3, 224, 224), preset=Preset.IMAGENET)
        assert images.pixels.shape == (4, 224, 224, 3)
        assert images.normalization.mean == (0.485, 0.456, 0.406)

    def test_crop_larger_than_the_image(self, folder):
        with pytest.raises(DataError, match="`crop` 9"):
            load(folder, resize=8, crop=9)

    def test_open_input_needs_a_crop(self, folder):
        with pytest.raises(DataError, match="give `crop`"):
            load(folder, shape=(None, 3, None, None))
        assert load(folder, shape=(None, 3, None, None), crop=6).pixels.shape == (4, 6, 6, 3)

    @pytest.mark.usefixtures("storage")
    def test_no_images(self, tmp_path):
        with pytest.raises(DataError, match="no images"):
            load(tmp_path, shape=(None, 3, 4, 4))

    def test_hidden_folders_are_no_classes_and_empty_ones_are_refused(self, folder):
        (folder / ".cache").mkdir()
        assert load(folder, shape=(None, 3, 4, 4)).labels.tolist() == [0, 0, 1, 1]
        (folder / "a_zero").mkdir()
        with pytest.raises(DataError, match="'a_zero' has no images"):
            load(folder, shape=(None, 3, 4, 4))

    @pytest.mark.parametrize("option", ["resize", "crop"])
    def test_no_size_at_all(self, option):
        with pytest.raises(DataError, match=f"`{option}`: 0"):
            DataOptions(**{option: 0})

    @pytest.mark.usefixtures("storage")
    def test_broken_image_is_named(self, folder):
        (folder / "a_first" / "9.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"9\.png"):
            load(folder, shape=(None, 3, 4, 4))


class Reader(CalibrationDataReader):
    """Three batches of float32 images in the model's layout."""

    def __init__(self, name="image", shapes=((2, 3, 4, 5), (1, 3, 4, 5))):
        self.batches = iter([{name: np.ones(shape, np.float32)} for shape in shapes])

    def get_next(self):
        return next(self.batches, None)


@pytest.mark.usefixtures("storage")
class TestReader:
    def test_all_batches_without_labels(self):
        images = load(Reader())
        assert (len(images), images.labels) == (3, None)
        assert images.batch(0, 3).shape == (3, 3, 4, 5)

    @pytest.mark.parametrize(
        ("reader", "words"),
        [
            (lambda: Reader(shapes=()), "no images"),
            (lambda: Reader(name="other"), "not the input 'image'"),
            (lambda: Reader(shapes=((1, 3, 4, 5), (1, 3, 5, 4))), "differ in shape"),
            (lambda: Reader(shapes=((1, 4, 5, 3),)), "takes images of shape"),
        ],
        ids=["empty", "name", "shapes", "layout"],
    )
    def test_what_cannot_be_used(self, reader, words):
        with pytest.raises(DataError, match=words):
            load(reader())


class TestSamples:
    LABELS = np.repeat([0, 1, 2], [50, 30, 20])

    @pytest.mark.parametrize("count", [1, 7, 10, 50, 99])
    def test_every_class_keeps_its_share(self, count):
        chosen = stratified(self.LABELS, count, seed=3)
        assert len(chosen) == len(set(chosen.tolist())) == count
        assert chosen.tolist() == sorted(chosen.tolist())
        shares = np.bincount(self.LABELS[chosen], minlength=3)
        assert (np.abs(shares - count * np.array([0.5, 0.3, 0.2])) < 1).all()

    def test_seeded(self):
        one, same, other = (stratified(self.LABELS, 20, seed).tolist() for seed in (1, 1, 2))
        assert one == same != other

    def test_all_when_there_are_no_more(self):
        assert stratified(self.LABELS, 1000, seed=0).tolist() == list(range(100))

    def test_split_is_disjoint_and_complete(self):
        images = ImageSet("all", pixels(100), self.LABELS, Normalization())
        search, report = split(images, 0.3, seed=0)
        assert (len(search), len(report)) == (70, 30)
        assert sorted(search.digests() + report.digests()) == sorted(images.digests())
        refuse_overlap(search, report)

    def test_copies_of_an_image_stay_on_one_side(self):
        once = pixels(20)
        images = ImageSet("all", np.concatenate([once, once, once[:5]]), np.arange(45) % 2)
        search, report = split(images, 0.4, seed=0)
        assert len(search) + len(report) == 45
        refuse_overlap(search, report)

    @pytest.mark.parametrize("fraction", [0.001, 0.999])
    def test_too_few_to_split(self, fraction):
        images = ImageSet("all", pixels(10), self.LABELS[:10], Normalization())
        with pytest.raises(DataError, match="too few"):
            split(images, fraction, seed=0)

    def test_overlap_is_found_whatever_the_images_are_stored_as(self):
        one = ImageSet("one", pixels(4), None, Normalization(mean=(0.5,), std=(0.5,)))
        with pytest.raises(DataError, match="4 of its 4"):
            refuse_overlap(one, ImageSet("floats", one.batch(0, 4)))

    def test_overlap_is_refused_with_the_first_image(self):
        one = ImageSet("one", pixels(10), None, Normalization())
        two = ImageSet("two", np.concatenate([pixels(3, seed=9), pixels(10)[4:6]]), None)
        with pytest.raises(DataError, match=r"2 of its 5 images are in one .* image 3"):
            refuse_overlap(one, two)
