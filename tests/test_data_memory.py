"""Images that are not held in memory: the same values as those that are, in bounded memory."""

import io
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxsemi._data import source
from onnxsemi._data.images import ImageSet, Normalization
from onnxsemi._data.load import DataOptions, load_images
from onnxsemi._data.rowfile import PixelSpill
from onnxsemi._data.sample import split
from onnxsemi._data.source import PixelSource, Selection
from onnxsemi._errors import DataError

SHAPE = (None, 3, 4, 5)  # [N, C, H, W]
COUNT = 23


def pixels(kind, count=COUNT):
    rng = np.random.default_rng(0)
    if kind == "uint8":
        return rng.integers(0, 256, (count, 4, 5, 3), np.uint8)
    return rng.normal(size=(count, 3, 4, 5)).astype(kind)


def load(data, shape=SHAPE):
    return load_images(data, "image", shape, DataOptions())


class Reader:
    """Batches of 4 in the model's layout."""

    def __init__(self, *arrays):
        rows = [array[start : start + 4] for array in arrays for start in range(0, len(array), 4)]
        self.batches = iter([{"image": batch} for batch in rows])

    def get_next(self):
        return next(self.batches, None)


KINDS = ("uint8", "float32", "float64", ">f4")
ORIGINS = [(origin, kind) for origin in ("stored", "compressed", "reader") for kind in KINDS]


@pytest.fixture(params=[*ORIGINS, ("folder", "uint8")], ids="-".join)
def origin(request, tmp_path):
    """A function that gives what the same 23 images are read from, and the model's shape."""
    place, kind = request.param
    if place == "folder":
        for number, image in enumerate(pixels("uint8")):
            (tmp_path / str(number % 2)).mkdir(exist_ok=True)
            Image.fromarray(image[:, :4]).save(tmp_path / str(number % 2) / f"{number:02}.png")
        return lambda: (tmp_path, (None, 3, 4, 4))
    if place == "reader":
        return lambda: (Reader(pixels(kind)), SHAPE)
    save = np.savez if place == "stored" else np.savez_compressed
    extra = {"mean": np.float32([0.1, 0.2, 0.3])} if kind == "uint8" else {}
    save(tmp_path / "images.npz", y=np.arange(COUNT) % 3, x=pixels(kind), **extra)
    return lambda: (tmp_path / "images.npz", SHAPE)


@pytest.fixture
def lazily(monkeypatch):
    """Load as if nothing fitted the memory, in chunks of two images."""

    def read(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(source, "MEMORY_LIMIT", 0)
            patch.setattr(source, "_CHUNK", 500)
            return load(*arguments)

    return read


@pytest.fixture
def tight(monkeypatch):
    monkeypatch.setattr(source, "MEMORY_LIMIT", 0)


class TestSameAsInMemory:
    def test_batches_rows_and_digests(self, origin, lazily):
        held, lazy = load(*origin()), lazily(*origin())
        assert isinstance(held.pixels, np.ndarray)
        assert isinstance(lazy.pixels, PixelSource)
        assert (lazy.pixels.shape, lazy.pixels.dtype) == (held.pixels.shape, held.pixels.dtype)
        places = np.array([5, 6, 7, 0, 22, 22, -1, 3])
        pairs = [(held.rows(places), lazy.rows(places))]
        pairs += [(held.batch(*run), lazy.batch(*run)) for run in ((0, COUNT), (4, 9), (20, 99))]
        for one, other in pairs:
            assert one.dtype == other.dtype == np.float32
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()
        assert held.digests() == lazy.digests()
        assert held.fingerprint() == lazy.fingerprint()
        assert (held.labels is None) == (lazy.labels is None)

    def test_selection_of_a_selection(self, origin, lazily):
        held, lazy = load(*origin()), lazily(*origin())
        one, other = np.array([9, 8, 7, 2, 2, 20]), np.array([5, 0, 3, 3])
        held, lazy = held.select(one).select(other), lazy.select(one).select(other)
        assert isinstance(lazy.pixels, Selection)
        assert not isinstance(lazy.pixels.source, Selection)
        assert lazy.batch(0, 4).tobytes() == held.batch(0, 4).tobytes()
        assert lazy.batch(1, 3).tobytes() == held.rows(np.array([1, 2])).tobytes()
        assert lazy.fingerprint() == held.fingerprint()
        if held.labels is not None:
            assert lazy.labels.tolist() == held.labels.tolist()

    def test_threads_at_once(self, origin, lazily):
        images = lazily(*origin())
        rng = np.random.default_rng(1)
        draws = [rng.integers(0, COUNT, 9) for _ in range(100)]
        expected = images.batch(0, COUNT)
        with ThreadPoolExecutor(8) as pool:
            for draw, found in zip(draws, pool.map(images.rows, draws), strict=True):
                assert (found == expected[draw]).all()


class TestImageSet:
    def test_rows_are_batches_in_any_order(self):
        images = ImageSet("mine", pixels("uint8")).fit(SHAPE)
        assert (images.rows(np.arange(3, 8)) == images.batch(3, 8)).all()
        assert (images.rows(np.array([7, 3])) == images.batch(0, 9)[[7, 3]]).all()

    def test_fingerprint_tells_what_differs(self):
        x, y = pixels("uint8"), np.arange(COUNT)
        changed = x.copy()
        changed[22, 0, 0, 0] ^= 1
        sets = [
            ImageSet("one", x),
            ImageSet("one", changed),
            ImageSet("one", x, y),
            ImageSet("one", x, y[::-1]),
            ImageSet("one", x, None, Normalization(mean=(0.5,))),
            ImageSet("one", x, None, Normalization(std=(0.5,))),
            ImageSet("one", x).fit((None, 4, 5, 3)),
            ImageSet("one", x.reshape(COUNT, 5, 4, 3)),
            ImageSet("one", x[:-1]),
            ImageSet("one", pixels("float32")),
        ]
        prints = [images.fingerprint() for images in sets]
        assert len(set(prints)) == len(sets)
        assert {len(shown) for shown in prints} == {64}
        assert ImageSet("other name", x).fingerprint() == prints[0]

    @pytest.mark.usefixtures("tight")
    def test_large_arrays_are_selected_by_index(self):
        images = ImageSet("mine", pixels("float32"), np.arange(COUNT))
        chosen = images.select(np.array([4, 2]))
        assert isinstance(chosen.pixels, Selection)
        assert np.shares_memory(chosen.pixels.source, images.pixels)
        assert (chosen.batch(0, 2) == images.rows(np.array([4, 2]))).all()

    def test_float32_arrays_are_not_copied(self):
        x = pixels("float32")
        assert np.shares_memory(ImageSet("mine", x).fit(SHAPE).pixels, x)

    def test_split_reads_no_more_than_it_must(self, lazily, tmp_path):
        np.savez(tmp_path / "x.npz", x=pixels("uint8"), y=np.arange(COUNT) % 2)
        parts = split(lazily(tmp_path / "x.npz"), 0.3, seed=0)
        expected = split(load(tmp_path / "x.npz"), 0.3, seed=0)
        assert [one.fingerprint() for one in parts] == [one.fingerprint() for one in expected]
        assert all(isinstance(one.pixels, Selection) for one in parts)

    @pytest.mark.parametrize("index", [-24, 23])
    def test_no_such_image(self, origin, lazily, index):
        with pytest.raises(IndexError):
            lazily(*origin()).rows(np.array([index]))

    def test_empty_selection_is_refused(self, origin, lazily):
        with pytest.raises(DataError, match="no images"):
            lazily(*origin()).select(np.zeros(0, np.int64))

    def test_labels_are_checked(self, origin, lazily):
        images = lazily(*origin())
        assert images.with_labels(np.ones(COUNT, int)).labels.sum() == COUNT
        with pytest.raises(DataError, match="23 images, but 'y' has shape"):
            images.with_labels(np.ones(COUNT + 1, int))


class TestRefusals:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("kind", ["float32", "float64"])
    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_first_bad_image_is_named(self, tmp_path, lazily, save, value, kind):
        x = pixels(kind)
        x[17, 1, 0, 0] = x[21, 0, 0, 0] = value
        save(tmp_path / "x.npz", x=x)
        with pytest.raises(DataError, match=r"x\.npz: image 17 holds NaN or infinity"):
            lazily(tmp_path / "x.npz")
        with pytest.raises(DataError, match="Reader: image 17 holds NaN or infinity"):
            lazily(Reader(x))

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    @pytest.mark.parametrize("bad", [(-100, None), (1000, None), (600, 620)], ids=str)
    def test_damaged_archives_give_one_message(self, tmp_path, lazily, save, bad):
        path = tmp_path / "images.npz"
        save(path, x=pixels("uint8"), y=np.arange(COUNT))
        data = path.read_bytes()
        path.write_bytes(data[: bad[0]] + (bytes(20) + data[bad[1] :] if bad[1] else b""))
        messages = []
        for read in (load, lazily):
            with pytest.raises(DataError) as caught:
                read(path)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        assert messages[0].startswith(f"{path}: not a readable .npz archive of plain arrays: ")
        assert "\n" not in messages[0]

    @pytest.mark.parametrize("said", [(9999, 4, 5, 3), (2**40, 4, 5, 3)])
    @pytest.mark.usefixtures("tight")
    def test_shape_that_promises_more_than_there_is(self, tmp_path, said):
        member = io.BytesIO()
        header = {"shape": said, "fortran_order": False, "descr": "|u1"}
        np.lib.format.write_array_header_1_0(member, header)
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", member.getvalue() + bytes(600))
        with pytest.raises(DataError, match="not a readable"):
            load(tmp_path / "x.npz")

    def test_file_that_is_cut_while_in_use(self, tmp_path, lazily):
        np.savez(tmp_path / "x.npz", x=pixels("uint8"))
        images = lazily(tmp_path / "x.npz")
        with (tmp_path / "x.npz").open("r+b") as file:
            file.truncate(500)
        with pytest.raises(DataError, match=r"x\.npz: was cut short"):
            images.batch(0, COUNT)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    @pytest.mark.usefixtures("tight")
    def test_no_room_for_the_temporary_file(self, tmp_path, monkeypatch):
        full = partial(Path("/dev/full").open, "r+b")
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
        np.savez_compressed(tmp_path / "x.npz", x=pixels("uint8"))
        for data in (tmp_path / "x.npz", Reader(pixels("float32"))):
            with pytest.raises(DataError, match="No space left on device; set TMPDIR"):
                load(data)

    def test_room_is_looked_for_first(self, tmp_path, monkeypatch, lazily):
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        np.savez_compressed(tmp_path / "x.npz", x=pixels("uint8"))
        Image.fromarray(pixels("uint8")[0]).save(tmp_path / "0.png")
        square = (None, 3, 32, 32)
        for data, shape in ((tmp_path / "x.npz", SHAPE), (tmp_path, square)):
            with pytest.raises(DataError, match=r"it takes 1 MB, and .* has 0 MB free; set TMPDIR"):
                lazily(data, shape)

    @pytest.mark.parametrize(
        ("reader", "words"),
        [
            (lambda: Reader(np.ones((4, 3, 4, 5), np.int32)), "'x' is int32"),
            (lambda: Reader(np.full((4, 3, 4, 5), None)), "'x' is object"),
        ],
        ids=["whole", "objects"],
    )
    @pytest.mark.usefixtures("tight")
    def test_readers(self, reader, words):
        with pytest.raises(DataError, match=words):
            load(reader())


class TestOtherStorage:
    def test_columns_first_arrays(self, tmp_path, lazily):
        x = np.asfortranarray(pixels("uint8"))
        np.savez(tmp_path / "x.npz", x=x)
        found = lazily(tmp_path / "x.npz")
        assert found.fingerprint() == load(tmp_path / "x.npz").fingerprint()

    def test_other_header_and_padding(self, tmp_path, lazily):
        """What other writers do: a newer array header, and a zip field before the bytes."""
        np.savez(tmp_path / "x.npz", y=np.arange(COUNT), x=pixels("uint8"))
        expected = load(tmp_path / "x.npz").fingerprint()
        with zipfile.ZipFile(tmp_path / "aligned.npz", "w") as archive:
            for name, array in (("y", np.arange(COUNT)), ("x", pixels("uint8"))):
                info = zipfile.ZipInfo(f"{name}.npy")
                info.extra = b"\xfe\xca\x05\x00" + bytes(5)
                member = io.BytesIO()
                np.lib.format.write_array(member, array, version=(2, 0))
                archive.writestr(info, member.getvalue())
        assert lazily(tmp_path / "aligned.npz").fingerprint() == expected

    @pytest.mark.parametrize("limit", [0, 1000, 4000, 10**6])
    def test_readers_of_several_types(self, monkeypatch, limit):
        arrays = [pixels("float32", 9), pixels("float64", 9), pixels("float16", 5)]
        monkeypatch.setattr(source, "MEMORY_LIMIT", limit)
        images = load(Reader(*arrays))
        assert isinstance(images.pixels, np.ndarray) == (limit == 10**6)
        assert (images.batch(0, COUNT) == np.concatenate(arrays).astype(np.float32)).all()


class TestTemporaryFile:
    def test_leaves_no_name_and_is_closed(self, tmp_path, monkeypatch, lazily):
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
        opened, real = [], tempfile.TemporaryFile

        def watched(**options):
            opened.append(real(**options))
            return opened[-1]

        monkeypatch.setattr(tempfile, "TemporaryFile", watched)
        np.savez_compressed(tmp_path / "x.npz", x=pixels("uint8"))
        (tmp_path / "folder").mkdir()
        for number, image in enumerate(pixels("uint8", 4)):
            Image.fromarray(image).save(tmp_path / "folder" / f"{number}.png")
        for data, shape in (
            (tmp_path / "x.npz", SHAPE),
            (Reader(pixels("float32")), SHAPE),
            (tmp_path / "folder", (None, 3, 4, 4)),
        ):
            images = lazily(data, shape)
            part = images.select(np.array([3, 1]))
            expected = images.batch(0, 4)[[3, 1]]
            assert not any((tmp_path / "scratch").iterdir())
            del images
            assert (part.batch(0, 2) == expected).all()  # a selection keeps the file
            assert not opened[-1].closed
            del part
            assert opened[-1].closed
        assert len(opened) == 3

    def test_unfinished_file_is_closed(self):
        spill = PixelSpill("images")
        file = spill._file
        del spill
        assert file.closed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestPeakMemory:
    """Hundreds of megabytes of images, of which a process may hold a few."""

    SCRIPT = """
        import sys
        import numpy as np
        from onnxsemi._data import load
        from onnxsemi._data import source

        class Reader:
            left = 10
            def get_next(self):
                self.left -= 1
                batch = np.zeros((50, 3, 224, 224), np.float32)
                return {"image": batch} if self.left >= 0 else None

        def peak():  # not ru_maxrss, which begins with the peak of the parent process
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) / 1000 for line in status if "VmHWM" in line)

        path, limit = sys.argv[1:]
        source.MEMORY_LIMIT = int(limit)
        before = peak()
        data = Reader() if path == "reader" else path
        images = load.load_images(data, "image", (None, 3, 224, 224))
        for start in range(0, len(images), 32):
            images.batch(start, start + 32)
        half = images.select(np.arange(0, len(images), 2))
        half.rows(np.arange(32))
        print(peak() - before)
    """

    def grown(self, data, limit=source.MEMORY_LIMIT):
        """Megabytes by which the peak grew."""
        command = [sys.executable, "-c", textwrap.dedent(self.SCRIPT), str(data), str(limit)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def save(self, path, shape, kind, method=zipfile.ZIP_STORED):
        """Zeros, written a megabyte at a time."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        header = {"shape": shape, "fortran_order": False, "descr": np.dtype(kind).str}
        with (
            zipfile.ZipFile(path, "w", method, compresslevel=1) as archive,
            archive.open("x.npy", "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array_header_1_0(member, header)
            for start in range(0, size, 2**20):
                member.write(bytes(min(2**20, size - start)))
        return path

    def test_stored(self, tmp_path):
        path = self.save(tmp_path / "x.npz", (1000, 3, 224, 224), "float32")
        assert path.stat().st_size > 600e6
        assert self.grown(path) < 100

    def test_compressed(self, tmp_path):
        shape = (1000, 224, 224, 3)
        path = self.save(tmp_path / "x.npz", shape, "uint8", zipfile.ZIP_DEFLATED)
        assert self.grown(path, limit=10**7) < 100

    def test_reader(self):
        assert self.grown("reader", limit=10**7) < 100
        assert self.grown("reader", limit=10**10) > 280  # so this is how what is held shows
