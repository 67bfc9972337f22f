"""The five kinds of files that come from elsewhere: how one is made, changed and read.

What is read is given back as a digest, if the file says itself what was written: then a change must
be refused, or leave the digest as it is.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import mutations as change
import numpy as np
import onnx
from PIL import Image
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi._data.load import load_images
from onnxsemi._data.naming import read_class_names
from onnxsemi._emit.seal import content_digest
from onnxsemi._model.reader import read_model
from onnxsemi._report.page import Run, render
from onnxsemi._run.folder import made_of
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._run.integrity import check_files
from onnxsemi._run.plan_file import read_plan
from onnxsemi._run.store import digest_of, sealed

SHAPE = (None, 3, 8, 8)
_PICTURES = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "ppm": "PPM", "webp": "WEBP"}


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Attributes:
        seeds: The whole files, below the folder of all.
        mutations: Ways to change one.
        read: Reads the file at a path as commands do; a digest of what it says, if it is sealed.
        sealed: Whether one flipped bit must be refused, or change nothing.
    """

    seeds: tuple[str, ...]
    mutations: tuple[change.Mutation, ...]
    read: Callable[[Path], str | None]
    sealed: bool = False


def make(folder: Path) -> None:
    """Put whole files of every kind into a folder."""
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=40, seed=1)
    save_noise(folder / "report.npz", count=20, seed=2)
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)
    np.savez_compressed(folder / "float.npz", x=x, y=np.arange(4))
    settings = onnxsemi.Settings(
        search=onnxsemi.SearchSettings(bits=(8, 4), max_drop=90),
        rounding_samples=16,
        run=onnxsemi.RunOptions(folder=folder / "small.run"),
        force=True,
        allow_loss=True,
        threads=1,
    )
    files = (folder / name for name in ("model.onnx", "search.npz", "report.npz"))
    model, data, test_data = files
    onnxsemi.compress(
        model, data, output=folder / "small.onnx", test_data=test_data, settings=settings
    )
    _pictures(folder / "images")


def _pictures(folder: Path) -> None:
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    for suffix, kind in _PICTURES.items():
        Image.fromarray(pixels).save(folder / f"a.{suffix}", kind)
    Image.fromarray(pixels).convert("P").save(folder / "b.png", "PNG")
    files = [path.name for path in sorted(folder.iterdir())]
    for name, labels in (("labels.csv", "01"), ("named.csv", ("cat", "dog"))):
        lines = [f"{file},{labels[at % 2]}" for at, file in enumerate(files)]
        (folder.parent / name).write_text("\n".join(["file,label", *lines]))
    (folder.parent / "classes.txt").write_text("cat\ndog\n")


def _model(path: Path) -> None:
    onnxsemi.inspect(path)


def _written(path: Path) -> str:
    onnxsemi.verify(path)
    onnxsemi.inspect(path)
    return content_digest(onnx.load(path))


@functools.cache
def _layers(model: Path) -> tuple[object, ...]:
    return read_model(model).layers


def _plan(path: Path) -> None:
    document = read_plan(path)
    document.fit(_layers(path.parent / "model.onnx"))
    onnxsemi.compare(path, path.parent / "small.plan.json")


def _arrays(path: Path) -> None:
    load_images(path, "image", SHAPE)


def _images(path: Path) -> None:
    """A picture, a table or a list of names, each beside whole ones."""
    options = onnxsemi.DataOptions()
    folder = path.parent / "images"
    if path.suffix == ".txt":
        names, table = read_class_names(path), path.parent / "named.csv"
        options = onnxsemi.DataOptions(classes=names, labels=table)
    elif path.suffix == ".csv":
        options = onnxsemi.DataOptions(labels=path)
    else:
        folder = path.parent / "one"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(path, folder / path.name)
    load_images(folder, "image", SHAPE, options)


def _run(path: Path) -> str:
    """A file in its place, in a whole run."""
    whole, folder = path.parent / "small.run", path.parent / "changed.run"
    if not folder.exists():
        shutil.copytree(whole, folder)
    shutil.copy(path, folder / path.name)
    try:
        check_files(folder)
        kept, run = read_frontier(folder), Run.read(folder)
        page = ""
        if path.name in _SHOWN:
            page = hashlib.sha256(render(run).encode()).hexdigest()
        points = [(p.plan.sha256, p.correct, p.kl, p.predicted, p.file_bytes) for p in kept.points]
        return digest_of((points, page, made_of(folder).judged_digest))
    finally:
        shutil.copy(whole / path.name, folder / path.name)


def _json(data: bytes, random: Random) -> bytes:
    return change.as_text(change.value(json.loads(data), random), random)


def _resealed(data: bytes, random: Random) -> bytes:
    """Another content with right digests: only who makes files to do harm writes such."""
    if data[:2] == b"PK":
        return change.archive(data, random)
    lines = data.splitlines(keepends=True)
    at = random.randrange(len(lines))
    whole = json.loads(lines[at])
    try:
        lines[at] = sealed(change.value(whole["content"], random), whole["run"])
    except (RecursionError, ValueError, OverflowError):
        return data
    return b"".join(lines)


_NAMES = tuple(f"images/a.{suffix}" for suffix in _PICTURES)
_FILES = ("run.json", "journal.jsonl", "rounding.npz", "moments.npz", "result.json")
_FILES = (*_FILES, "evidence.npz", "frontier.json", "finished.json", "spent.json", "looks.json")
_SHOWN = ("run.json", "result.json", "evidence.npz")
_BYTES = (change.any_bytes, change.one_bit)
KINDS = {
    "models": Kind(("model.onnx",), (*_BYTES, change.message, change.message), _model),
    "written models": Kind(("small.onnx",), (*_BYTES, change.message), _written, sealed=True),
    "plans": Kind(("small.plan.json",), (change.any_bytes, _json, _json), _plan),
    "arrays": Kind(("search.npz", "float.npz"), (*_BYTES, change.archive, change.archive), _arrays),
    "images": Kind(
        (*_NAMES, "images/b.png", "labels.csv", "classes.txt"),
        _BYTES,
        _images,
    ),
    "runs": Kind(tuple(f"small.run/{name}" for name in _FILES), _BYTES, _run, sealed=True),
    "runs made to do harm": Kind(
        tuple(f"small.run/{name}" for name in _FILES if name.endswith("json")), (_resealed,), _run
    ),
}
