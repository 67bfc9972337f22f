"""Images on their way to another process: read there from the user's files, or sent."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxsemi._data import source
from onnxsemi._data.load import DataOptions, load_images
from onnxsemi._data.sent import SentImages, sight_of
from onnxsemi._errors import DataError, RunError

COUNT = 40
SIDE = 32
SHAPE = (None, 3, SIDE, SIDE)
SOME = np.array([3, 4, 5, 39, 0])
BYTES = len(SOME) * 3 * SIDE * SIDE  # of the pixels


def pixels():
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)


def stored(folder):
    np.savez(folder / "images.npz", y=np.arange(COUNT) % 3, x=pixels())
    return folder / "images.npz", DataOptions()


def floats(folder):
    values = pixels().transpose(0, 3, 1, 2).astype(np.float16)
    np.savez(folder / "images.npz", y=np.arange(COUNT) % 3, x=values)
    return folder / "images.npz", DataOptions()


def compressed(folder):
    np.savez_compressed(folder / "images.npz", y=np.arange(COUNT) % 3, x=pixels())
    return folder / "images.npz", DataOptions()


def class_folders(folder):
    for number, image in enumerate(pixels()):
        (folder / str(number % 3)).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / str(number % 3) / f"{number:02}.png")
    return folder, DataOptions()


def listed(folder):
    (folder / "pictures").mkdir()
    lines = ["file,label"]
    for number, image in enumerate(pixels()):
        Image.fromarray(image).save(folder / "pictures" / f"{number:02}.png")
        lines.append(f"{number:02}.png,{number % 3}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "pictures", DataOptions(labels=folder / "labels.csv")


def arrays(_):
    return (pixels(), np.arange(COUNT) % 3), DataOptions()


def batches(_):
    return [(pixels()[:25], np.arange(25) % 3), (pixels()[25:], np.arange(15) % 3)], DataOptions()


BY_FILES = (stored, floats, class_folders, listed)
ALONE = (compressed, arrays, batches)


def loaded(make, folder, monkeypatch):
    """As if nothing fitted the memory."""
    data, options = make(folder)
    monkeypatch.setattr(source, "MEMORY_LIMIT", 0)
    return load_images(data, "image", SHAPE, options)


def same(there, here):
    assert isinstance(there.pixels, np.ndarray)  # not read again
    assert there.batch(0, len(there)).tobytes() == here.batch(0, len(here)).tobytes()
    assert there.labels.tolist() == here.labels.tolist()
    assert there.places.tolist() == here.places.tolist()


@pytest.mark.parametrize("make", [*BY_FILES, *ALONE])
@pytest.mark.parametrize("by_files", [True, False])
def test_they_are_the_same_there(make, by_files, tmp_path, monkeypatch):
    here = loaded(make, tmp_path, monkeypatch).select(SOME)
    sent = pickle.dumps(SentImages.of(here, by_files=by_files))
    same(pickle.loads(sent), here)
    pixel_bytes = BYTES * (2 if make is floats else 1)
    assert (len(sent) < pixel_bytes) == (by_files and make in BY_FILES)


@pytest.mark.parametrize("make", BY_FILES)
def test_who_sees_the_files(make, tmp_path, monkeypatch):
    here = loaded(make, tmp_path, monkeypatch)
    sight = pickle.dumps(sight_of(here))
    assert len(pickle.loads(sight)()) == 32
    for file in tmp_path.rglob("*.*"):
        file.unlink()
    assert pickle.loads(sight)() == ""


@pytest.mark.parametrize("make", ALONE)
def test_nobody_sees_what_this_process_has_alone(make, tmp_path, monkeypatch):
    assert sight_of(loaded(make, tmp_path, monkeypatch)) is None


def test_files_that_are_others_there(tmp_path, monkeypatch):
    here = loaded(class_folders, tmp_path, monkeypatch).select(SOME)
    sent = pickle.dumps(SentImages.of(here, by_files=True))
    Image.fromarray(pixels()[1]).save(tmp_path / "0" / "00.png")
    with pytest.raises(RunError, match="reads other pixels there"):
        pickle.loads(sent)


def test_an_archive_that_is_another_there(tmp_path, monkeypatch):
    here = loaded(stored, tmp_path, monkeypatch).select(SOME)
    sent = pickle.dumps(SentImages.of(here, by_files=True))
    archive = tmp_path / "images.npz"
    offset = zipfile.ZipFile(archive).getinfo("x.npy").header_offset
    content = bytearray(archive.read_bytes())
    content[offset + 1000 :] = bytes(len(content) - offset - 1000)
    archive.write_bytes(content)
    with pytest.raises(RunError, match="reads other pixels there"):
        pickle.loads(sent)


@pytest.mark.parametrize("make", BY_FILES)
def test_files_that_are_gone(make, tmp_path, monkeypatch):
    here = loaded(make, tmp_path, monkeypatch).select(SOME)
    sent = pickle.dumps(SentImages.of(here, by_files=True))
    for file in Path(tmp_path).rglob("*.*"):
        file.unlink()
    with pytest.raises(DataError, match=r"cannot be read|not a readable"):
        pickle.loads(sent)
