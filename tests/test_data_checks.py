"""Images and labels that cannot be the model's: each mistake is noticed, and named."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser
from PIL import Image
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi._data.checks import check_classes, once, order_doubts
from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.load import DataOptions, load_images
from onnxsemi._data.naming import read_class_names
from onnxsemi._errors import DataError, ModelError, SettingsError
from onnxsemi._model.head import find_ends
from onnxsemi._pipeline.preparation import prepare
from onnxsemi._pipeline.sanity_checks import LEAST_IMAGES
from onnxsemi._settings import EvaluateSettings, Settings
from onnxsemi._stats.guessing import Guessing, far_better
from onnxsemi._stats.relabelling import relabelled

MODELS = Path(__file__).parents[1] / "models"
MODEL = MODELS / "fashion_resnet20.onnx"
RIGHT = Normalization(mean=(0.286,), std=(0.353,))
IN_255 = Normalization(mean=(72.9,), std=(90.0,))
COUNT = 300
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4a59f75e\nsize 1095944\n"


@pytest.fixture(scope="module")
def pixels():
    with np.load(MODELS / "fashion_search.npz") as arrays:
        return arrays["x"][:COUNT]


@pytest.fixture(scope="module")
def labels():
    with np.load(MODELS / "fashion_search.npz") as arrays:
        return arrays["y"][:COUNT]


@pytest.fixture(scope="module")
def floats(pixels):
    """In the model's layout, on the scale 0 to 1."""
    return (pixels / 255).transpose(0, 3, 1, 2).astype(np.float32)


def evaluate(*images, force=False):
    settings = EvaluateSettings(force=force)
    return onnxsemi.evaluate(MODEL, ImageSet("mine", *images), settings=settings)


def refusal(*images):
    """What both commands say: neither measures anything."""
    with pytest.raises(DataError) as evaluated:
        evaluate(*images)
    with pytest.raises(DataError) as compressed:
        prepare(MODEL, ImageSet("mine", *images), None, Settings())
    assert str(evaluated.value) == str(compressed.value)
    return str(evaluated.value)


@pytest.mark.slow
class TestPreprocessing:
    def test_right(self, pixels, labels, floats):
        assert evaluate(pixels, labels, RIGHT).warnings == ()
        assert evaluate((floats - np.float32(0.286)) / np.float32(0.353), labels).warnings == ()
        assert (
            prepare(MODEL, ImageSet("mine", pixels, labels, RIGHT), None, Settings()).warnings == ()
        )

    def test_mean_and_std_of_0_to_255(self, pixels, labels):
        said = refusal(pixels, labels, IN_255)
        for words in (
            "right on 30 of 300 images (10.00%), guessing gives 10.00%",
            "with mean 0.286 and std 0.353, 9",
            "mean 72.9 is outside 0 to 1 and std 90 is above 1",
            "`force`",
        ):
            assert words in said

    def test_force_makes_it_a_warning(self, pixels, labels):
        (scale, guessing) = evaluate(pixels, labels, IN_255, force=True).warnings
        assert "mean 72.9 is outside 0 to 1" in scale
        assert "guessing gives 10.00%" in guessing
        found = prepare(MODEL, ImageSet("mine", pixels, labels, IN_255), None, Settings(force=True))
        assert found.warnings == (scale, guessing)

    def test_forgotten(self, pixels, labels):
        """Half of the answers are right all the same."""
        (said,) = evaluate(pixels, labels).warnings
        assert "with mean 0.28" in said
        assert "are right, not 5" in said or "are right, not 4" in said

    def test_more_images_than_are_looked_at(self):
        with np.load(MODELS / "fashion_search.npz") as arrays:
            images = ImageSet("mine", arrays["x"][:700], arrays["y"][:700])
        (said,) = onnxsemi.evaluate(MODEL, images).warnings
        assert "with mean 0.29" in said

    def test_floats_from_0_to_1(self, floats, labels):
        found = " ".join(evaluate(floats, labels).warnings)
        assert "with mean 0.28" in found
        assert "look unnormalised (minimum 0, maximum 1)" in found

    def test_floats_from_0_to_255(self, floats, labels):
        said = refusal(floats * 255, labels)
        assert "with values / 255, mean 0.28" in said
        assert "look unnormalised (minimum 0, maximum 255)" in said

    def test_without_labels(self, pixels, floats):
        said = evaluate(pixels, None, IN_255).warnings
        assert "mean 72.9 is outside 0 to 1" in said[0]
        assert "of 300 images with class" in said[1]
        said = evaluate(floats * 255).warnings
        assert "look unnormalised (minimum 0, maximum 255)" in said[0]
        assert evaluate(pixels, None, RIGHT).warnings == ()

    def test_a_model_that_wants_them_so_gets_no_warning(self, pixels, labels, floats, tmp_path):
        """(x - mean) / std inside the model: images from 0 to 1 are right, as its answers say."""
        model = onnx.load(MODEL)
        name, inside = model.graph.input[0].name, "normalized"
        for node in model.graph.node:
            for place, given in enumerate(node.input):
                if given == name:
                    node.input[place] = inside
        for key, value in (("own_mean", 0.286), ("own_std", 0.353)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), key))
        make = onnx.helper.make_node
        model.graph.node.insert(0, make("Sub", [name, "own_mean"], ["centred"]))
        model.graph.node.insert(1, make("Div", ["centred", "own_std"], [inside]))
        onnx.save(model, tmp_path / "own.onnx")
        for images in (ImageSet("mine", pixels, labels), ImageSet("mine", floats, labels)):
            assert onnxsemi.evaluate(tmp_path / "own.onnx", images).warnings == ()

    def test_the_reference_is_what_must_be_better_than_guessing(self, pixels, labels, tmp_path):
        """A compressed model that answers nothing rightly is what one wants to find out."""
        model = onnx.load(MODEL)
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.ndim == 4:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), tensor.name))
        onnx.save(model, tmp_path / "broken.onnx")
        images = ImageSet("mine", pixels, labels, RIGHT)
        with pytest.raises(DataError, match="guessing"):
            onnxsemi.evaluate(tmp_path / "broken.onnx", images)
        found = onnxsemi.evaluate(tmp_path / "broken.onnx", images, reference=MODEL)
        assert (found.correct, found.warnings) == (30, ())

    def test_float_images_with_a_normalization(self, floats):
        with pytest.raises(DataError, match="float images are taken as they are"):
            ImageSet("mine", floats, None, RIGHT)


class TestLabels:
    @pytest.mark.slow
    def test_shifted_by_one(self, pixels, labels):
        for shift, words in ((1, "class k is labelled k+1"), (9, "class k is labelled k-1")):
            assert words in refusal(pixels, (labels + shift) % 10, RIGHT)

    def test_permuted(self, pixels, labels):
        order = np.array([3, 7, 0, 9, 1, 6, 8, 2, 4, 5])
        said = refusal(pixels, order[labels], RIGHT)
        assert "labels follow another order: 0->2, 1->4, 2->7, 3->0, ...: so read, 9" in said

    def test_permuted_so_that_some_stay(self, pixels, labels):
        """Better than guessing, but with another order three times as many are right."""
        order = np.array([7, 9, 2, 4, 0, 5, 6, 1, 8, 3])
        said = refusal(pixels, order[labels], RIGHT)
        assert "labels follow another order: 0->4, 1->7, 3->9, 4->3, ..." in said
        (warned,) = evaluate(pixels, order[labels], RIGHT, force=True).warnings
        assert said.startswith(warned)

    def test_two_classes_for_each_other(self, pixels, labels):
        order = np.array([0, 1, 5, 3, 4, 2, 6, 7, 8, 9])
        (said,) = evaluate(pixels, order[labels], RIGHT).warnings
        assert "labels follow another order: 2->5, 5->2: so read, 9" in said

    def test_folders_of_numbers_from_1_sorted_as_text(self, pixels, labels):
        """1, 10, 2, ...: class 9, called 10, comes second."""
        order = sorted(range(10), key=lambda number: str(number + 1))
        (said,) = evaluate(pixels, np.argsort(order)[labels], RIGHT, force=True).warnings
        assert "sorted as text (1, 10, 2, ...)" in said

    @pytest.mark.slow
    def test_drawn_by_lot(self, pixels):
        said = refusal(pixels, np.random.default_rng(0).integers(0, 10, COUNT), RIGHT)
        assert "guessing gives" in said
        assert "order of the classes" in said

    def test_that_count_from_one(self, pixels, labels):
        assert "these count from 1: give y - 1" in refusal(pixels, labels + 1, RIGHT)

    def test_of_one_class_tell_nothing(self, pixels, labels):
        images = pixels[labels == 4], labels[labels == 4], RIGHT
        assert "all labels are class 4" in evaluate(*images).warnings[0]

    @pytest.mark.parametrize(
        ("y", "words"),
        [
            (np.eye(3), "np.argmax(y, axis=1)"),
            (
                np.array([[1, 1], [0, 1], [0, 0]]),
                "one number an image is needed, and these are several",
            ),
            (np.zeros((3, 1), int), "y.ravel()"),
            (np.zeros(3), "y.astype(int)"),
        ],
        ids=["one-hot", "multi-hot", "column", "float"],
    )
    def test_of_another_shape_get_the_remedy(self, pixels, y, words):
        with pytest.raises(DataError) as caught:
            load_images(ImageSet("mine", pixels[:3], y), "x", (None, 1, 28, 28))
        assert words in str(caught.value)


class TestCopies:
    def test_count_once(self, pixels, labels):
        found = evaluate(np.tile(pixels[:30], (10, 1, 1, 1)), np.tile(labels[:30], 10), RIGHT)
        assert found.total == 30
        assert "270 of the 300 images are copies of others" in found.warnings[0]
        assert "30 different ones" in found.warnings[0]

    def test_are_no_more_images_to_search_on(self, pixels, labels):
        data = ImageSet(
            "mine", np.tile(pixels[:20], (10, 1, 1, 1)), np.tile(labels[:20], 10), RIGHT
        )
        with pytest.raises(DataError, match="10 different images are too few"):
            prepare(MODEL, data, None, Settings())

    def test_with_other_labels_are_told(self, pixels, labels):
        doubled = np.concatenate([pixels, pixels[:5]])
        other = np.concatenate([labels, labels[:3], (labels[3:5] + 1) % 10])
        kept, (said,) = once(ImageSet("mine", doubled, other, RIGHT))
        assert "5 of the 305 images" in said
        assert "2 of the copies have another label" in said
        assert kept.labels.tolist() == labels.tolist()

    def test_without_any_the_images_are_the_same_object(self, pixels, labels):
        images = ImageSet("mine", pixels, labels, RIGHT)
        assert once(images) == (images, ())


class TestFew:
    def test_ten_images_are_refused_with_what_is_needed(self, pixels, labels):
        ten = ImageSet("mine", pixels[:10], labels[:10], RIGHT)
        with pytest.raises(DataError) as caught:
            prepare(MODEL, ten, None, Settings())
        assert "5 different images are too few" in str(caught.value)
        assert f"at least {LEAST_IMAGES} are needed" in str(caught.value)
        assert "5 more are kept for the test" in str(caught.value)

    def test_evaluate_warns_only(self, pixels, labels):
        (said,) = evaluate(pixels[:10], labels[:10], RIGHT).warnings
        assert "10 different images are too few" in said

    def test_force(self, pixels, labels):
        ten = ImageSet("mine", pixels[:10], labels[:10], RIGHT)
        found = prepare(MODEL, ten, None, Settings(force=True))
        assert len(found.warnings) == 2  # search and report

    def test_report_images(self, pixels, labels):
        search = ImageSet("mine", pixels[:40], labels[:40], RIGHT)
        report = ImageSet("others", pixels[40:50], labels[40:50], RIGHT)
        (said,) = prepare(MODEL, search, report, Settings()).warnings
        assert "others: 10 different images are too few" in said


class TestGuessing:
    @pytest.mark.parametrize(
        ("case", "better", "told"),
        [
            (Guessing(10, 2, 0.1), False, False),  # nothing can be said of ten images
            (Guessing(10, 9, 0.1), True, False),
            (Guessing(60, 6, 0.1), False, True),
            (Guessing(250, 1, 0.001), False, True),
            (Guessing(250, 2, 0.001), True, True),
            (Guessing(250, 0, 0.001), False, True),
            (Guessing(30, 17, 0.5), False, False),
            (Guessing(200, 100, 0.5), False, True),
            (Guessing(1, 0, 0.0), False, False),
        ],
        ids=str,
    )
    def test_exact(self, case, better, told):
        assert (case.better, case.told) == (better, told)

    def test_a_model_of_rare_cases_is_no_guess(self):
        """95 % of the images are class 0, and the model finds 6 of 10 of the others."""
        labels = np.array([0] * 190 + [1] * 10)
        answers = np.array([0] * 188 + [1] * 2 + [1] * 6 + [0] * 4)
        assert Guessing.of(answers, labels).better
        assert not Guessing.of(np.zeros_like(labels), labels).better

    def test_legitimate_models_are_refused_once_in_a_thousand_at_the_most(self):
        """Half way between guessing and always right, where the test says that it can tell."""
        rng = np.random.default_rng(0)
        for total, chance in ((20, 0.1), (40, 0.2), (80, 0.5)):
            rights = rng.binomial(total, (1 + chance) / 2, 4000)
            if Guessing(total, 0, chance).told:
                refused = [not Guessing(total, int(n), chance).better for n in np.unique(rights)]
                share = np.isin(rights, np.unique(rights)[refused]).mean()
                assert share <= 0.003

    def test_far_better(self):
        labels = np.arange(100) // 50
        was, now = np.arange(100) % 2, labels
        assert far_better(was, now, labels)
        assert not far_better(now, was, labels)
        assert not far_better(was, was, labels)
        few = np.where(np.arange(100) < 96, labels, 0)
        assert not far_better(few, now, labels)  # by chance
        assert not far_better(
            1 - labels, np.zeros(100, int), labels
        )  # right more often, by guessing


class TestRelabelled:
    def test_one_image_a_class_fits_no_order(self):
        """Any order explains images of which there is one a class."""
        rng = np.random.default_rng(0)
        answers, labels = rng.permutation(500), np.arange(500)
        assert relabelled(answers, labels, 1000) is None

    def test_a_shift_of_many_classes_with_one_image_each(self):
        labels = np.arange(0, 1000, 2)
        found = relabelled(labels, labels + 1, 1000)
        assert "labelled k+1" in found.words
        assert found.right == 500

    def test_a_weak_model_has_no_other_order(self):
        """Right on 40 %, and otherwise often one class off."""
        rng = np.random.default_rng(1)
        labels = rng.integers(0, 10, 500)
        off = (labels + rng.choice([0, 1, 2], 500, p=[0.4, 0.35, 0.25])) % 10
        assert relabelled(off, labels, 10) is None


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path, pixels, labels):
        """Five of the ten classes, as numbers, with images whose names tell their place."""
        for place in np.flatnonzero(labels < 5)[:100]:
            into = tmp_path / "pictures" / f"class{labels[place]}"
            into.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[place, :, :, 0]).save(into / f"{place:03}.png")
        return tmp_path / "pictures"

    OPTIONS = DataOptions(mean=(0.286,), std=(0.353,))
    NAMES = tuple(f"class{number}" for number in range(10))

    def test_fewer_than_the_models_classes_are_refused(self, folder):
        with pytest.raises(DataError) as caught:
            onnxsemi.evaluate(MODEL, folder, settings=EvaluateSettings(data=self.OPTIONS))
        assert "5 classes are named" in str(caught.value)
        assert "`classes` names.txt, one name of the 10 a line" in str(caught.value)

    def test_names_say_which_they_are(self, folder):
        named = DataOptions(mean=(0.286,), std=(0.353,), classes=self.NAMES)
        found = onnxsemi.evaluate(MODEL, folder, settings=EvaluateSettings(data=named))
        assert found.correct > 80
        assert found.warnings == ()
        shuffled = (*self.NAMES[5:], *self.NAMES[:5])
        images = load_images(folder, "x", (None, 1, 28, 28), DataOptions(classes=shuffled))
        assert sorted(set(images.labels.tolist())) == [5, 6, 7, 8, 9]
        assert images.classes == shuffled

    def test_in_another_order_than_the_models(self, tmp_path, pixels, labels):
        """Sorted by name ankle boots come first, of which the model says class 9."""
        names = [
            "top",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankleboot",
        ]
        for place, label in enumerate(labels[:150]):
            into = tmp_path / names[label]
            into.mkdir(exist_ok=True)
            Image.fromarray(pixels[place, :, :, 0]).save(into / f"{place:03}.png")
        with pytest.raises(DataError) as caught:
            onnxsemi.evaluate(MODEL, tmp_path, settings=EvaluateSettings(data=self.OPTIONS))
        assert "labels follow another order: 0->9, 1->8, 2->4, " in str(caught.value)
        assert "in the model's order with `classes` names.txt; `force`" in str(caught.value)
        named = DataOptions(mean=(0.286,), std=(0.353,), classes=tuple(names))
        assert (
            onnxsemi.evaluate(MODEL, tmp_path, settings=EvaluateSettings(data=named)).warnings == ()
        )

    def test_a_folder_that_is_no_class(self, folder):
        options = DataOptions(classes=self.NAMES[1:])
        with pytest.raises(DataError, match="class folder 'class0' is none of the `classes`"):
            load_images(folder, "x", (None, 1, 28, 28), options)

    def test_numbers_that_sort_as_text(self, pixels):
        def doubts(*names):
            return order_doubts(ImageSet("mine", pixels[:1], classes=names))

        assert "order of their names as text (1, 10, 2, ...)" in doubts("1", "10", "2")[0]
        assert doubts("0", "1", "2") == doubts("01", "02", "10") == doubts("a", "b") == ()
        assert doubts("1", "2", "10") == ()  # as `classes` said

    def test_more_than_the_model_has(self, pixels):
        with pytest.raises(DataError, match="3 classes are named"):
            check_classes(ImageSet("mine", pixels[:1], classes=("a", "b", "c")), 2)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "is empty"),
            ("a\n\nb\n", "class 1 has no name"),
            ("a\nb\na\n", "'a' is class 0 and"),
        ],
        ids=["empty", "gap", "twice"],
    )
    def test_names_that_cannot_be_used(self, tmp_path, text, words):
        (tmp_path / "names.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            read_class_names(tmp_path / "names.txt")


class TestTable:
    @pytest.fixture
    def folder(self, tmp_path, pixels):
        for place in range(3):
            Image.fromarray(pixels[place, :, :, 0]).save(tmp_path / f"{place}.png")
        return tmp_path

    def load(self, folder, text, **options):
        (folder / "labels.csv").write_text(text)
        options = DataOptions(labels=folder / "labels.csv", **options)
        return load_images(folder, "x", (None, 1, 28, 28), options)

    def test_numbers(self, folder, pixels):
        images = self.load(folder, "file,label\n2.png,7\n0.png,1\n1.png,3\n")
        assert images.labels.tolist() == [1, 3, 7]  # in the order of the files' names
        assert (images.pixels == pixels[:3]).all()
        assert images.classes is None

    def test_names_and_other_columns(self, folder):
        text = "who,label,file\nme,dog,0.png\nme,cat,1.png\nyou,dog,2.png\n"
        images = self.load(folder, text, classes=("cat", "dog"))
        assert images.labels.tolist() == [1, 0, 1]
        assert images.classes == ("cat", "dog")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("name,y\n0.png,1\n", "needs the columns file,label"),
            ("", "needs the columns file,label"),
            ("file,label\n", "has no labels"),
            ("file,label\n9.png,1\n", "line 2: there is no image"),
            ("file,label\n0.png,1\n0.png,1\n", "line 3: 0.png has a label already"),
            ("file,label\n0.png,dog\n", "'dog' is no number: give `classes`"),
            ("file,label\n0.png\n", "line 2: label '' is no number"),
            ("file,label\n0.png,1\n", "1.png has no label in"),
        ],
        ids=["columns", "empty", "none", "absent", "twice", "name", "short", "missing"],
    )
    def test_what_cannot_be_used(self, folder, text, words):
        with pytest.raises(DataError) as caught:
            self.load(folder, text)
        assert words in str(caught.value)

    def test_a_name_that_is_no_class(self, folder):
        with pytest.raises(DataError, match="'1' is none of the `classes`"):
            self.load(folder, "file,label\n0.png,1\n", classes=("cat", "dog"))

    def test_is_for_folders(self, tmp_path):
        save_noise(tmp_path / "n.npz", count=2, seed=0)
        with pytest.raises(DataError, match="`labels` is for a folder"):
            load_images(tmp_path / "n.npz", "x", (None, 3, 8, 8), DataOptions(labels="l.csv"))

    def test_the_report_has_its_own(self, folder, tmp_path_factory):
        other = tmp_path_factory.mktemp("other")
        Image.new("L", (28, 28)).save(other / "a.png")
        (other / "labels.csv").write_text("file,label\na.png,3\n")
        (folder / "labels.csv").write_text("file,label\n0.png,9\n1.png,0\n2.png,0\n")
        options = DataOptions(mean=(0.286,), std=(0.353,), labels=folder / "labels.csv")
        settings = Settings(data=options, test_labels=other / "labels.csv", force=True)
        found = prepare(MODEL, folder, other, settings)
        assert found.search.labels.tolist() == [9, 0, 0]
        assert found.report.labels.tolist() == [3]

    def test_of_a_report_that_is_not_there(self, folder):
        with pytest.raises(SettingsError, match="`test_labels`: needs `test_data`"):
            prepare(MODEL, folder, None, Settings(test_labels="labels.csv"))

    @pytest.mark.shared
    def test_of_images_of_1000_classes(self, shared):
        folder = shared / "data/imagenet/report"
        options = DataOptions(crop=32, labels=folder / "labels.csv")
        images = load_images(folder, "x", (None, 3, 32, 32), options)
        assert len(images) == len(np.unique(images.labels)) == 250


class TestKeys:
    def test_a_key_that_nothing_reads(self, tmp_path):
        np.savez(tmp_path / "i.npz", x=np.zeros((2, 8, 8, 3), np.uint8), labels=[0, 1])
        with pytest.raises(DataError, match="holds 'labels', which nothing reads: the keys are x"):
            load_images(tmp_path / "i.npz", "x", (None, 3, 8, 8))

    @pytest.mark.parametrize("key", ["mean", "std"])
    def test_mean_and_std_beside_floats(self, tmp_path, key):
        np.savez(tmp_path / "i.npz", x=np.zeros((2, 3, 8, 8), np.float32), **{key: np.float32(0.5)})
        with pytest.raises(DataError, match=f"holds {key}: mean and std are for uint8 images"):
            load_images(tmp_path / "i.npz", "x", (None, 3, 8, 8))


class TestPointers:
    def test_model(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(POINTER)
        with pytest.raises(ModelError, match=r"m\.onnx: is a Git LFS pointer.*: git lfs pull"):
            onnxsemi.inspect(tmp_path / "m.onnx")

    def test_external_data(self, tmp_path):
        save_residual_net(tmp_path / "m.onnx")
        options = {"save_as_external_data": True, "location": "m.bin", "size_threshold": 0}
        onnx.save(onnx.load(tmp_path / "m.onnx"), tmp_path / "m.onnx", **options)
        (tmp_path / "m.bin").write_bytes(POINTER)
        with pytest.raises(ModelError, match=r"m\.bin: is a Git LFS pointer"):
            onnxsemi.inspect(tmp_path / "m.onnx")

    def test_images(self, tmp_path):
        (tmp_path / "i.npz").write_bytes(POINTER)
        (tmp_path / "0.png").write_bytes(POINTER)
        for path, name in ((tmp_path / "i.npz", "i.npz"), (tmp_path, "0.png")):
            with pytest.raises(DataError, match=f"{name}: is a Git LFS pointer"):
                load_images(path, "x", (None, 3, 8, 8))


class TestHeads:
    def head(self, text, classes=4):
        return parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,{classes}] y)'
            f" <float[3,{classes}] w> {{ z = MatMul(x, w) {text} }}"
        )

    @pytest.mark.parametrize("text", ["y = HardSigmoid(z)", "s = HardSigmoid(z) y = Identity(s)"])
    def test_a_hard_sigmoid_gets_the_remedy(self, text):
        with pytest.raises(ModelError, match=r"comes from a HardSigmoid.* with a Sigmoid in its"):
            find_ends(self.head(text), None)

    def test_others_stay(self):
        assert find_ends(self.head("y = Softmax(z)"), None).logits == "z"
        assert find_ends(self.head("s = Sigmoid(z) y = Mul(z, s)"), None).logits == "y"
