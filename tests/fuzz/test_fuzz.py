"""Hostile files of every kind, made by Hypothesis and kept from before, are a line or a result."""

import json
import os
import shutil
from pathlib import Path
from random import Random

import pytest
from fuzz import changed, expected_of, place_of, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import KINDS, make

from onnxsemi import RunError
from onnxsemi._run.store import sealed

CORPUS = Path(__file__).with_name("corpus")
EXAMPLES = int(os.environ.get("ONNXSEMI_FUZZ_EXAMPLES", "15"))
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    make(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request, whole, tmp_path_factory):
    """A kind, a folder of its own with whole files, and what these give."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("kind") / "files")
    found = KINDS[request.param]
    return found, folder, expected_of(found, folder)


def test_whole_files_are_read(kind):
    found, folder, expected = kind
    for name in found.seeds:
        path = place_of(folder / name, folder)
        path.write_bytes((folder / name).read_bytes())
        assert found.read(path) == expected.get(folder / name) or not found.sealed


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(random=st.randoms(use_true_random=False))
def test_changed_files(kind, random):
    found, folder, expected = kind
    seed, path = changed(found, folder, random)
    assert verdict(found, path, expected.get(seed)) is None


def test_the_same_seed_gives_the_same_file(kind):
    found, folder, _ = kind
    texts = [changed(found, folder, Random("7"))[1].read_bytes() for _ in range(2)]
    assert texts[0] == texts[1]


def kept():
    """Every kept file, with its kind."""
    places = {name.replace(" ", "_"): name for name in KINDS}
    for folder in sorted(CORPUS.iterdir()):
        for file in sorted(folder.iterdir()):
            yield pytest.param(places[folder.name], file, id=f"{folder.name}/{file.name}")


@pytest.mark.parametrize(("name", "file"), list(kept()))
def test_kept_files(name, file, whole, tmp_path):
    """What went wrong once. Each is a few bytes, and refused."""
    folder = shutil.copytree(whole, tmp_path / "files")
    target = file.name.partition("-")[0] + file.suffix
    path = folder / (target if name.startswith("runs") else f"changed{file.suffix}")
    shutil.copy(file, path)
    assert verdict(KINDS[name], path, "refused") is None


def no_guard(content):
    content["guard"] = {}


def another_layer(content):
    moved = content["points"][0]["bits"]
    moved["\u202e"] = moved.pop(next(iter(moved)))


def no_points(content):
    content["points"] = []
    content["weights"] = {"a": -1}


def huge_channels(content):
    moved = content["points"][0]["bits"]
    moved[next(iter(moved))] = {"8": f"0-{10**11}"}


@pytest.mark.parametrize("change", [no_guard, another_layer, no_points, huge_channels])
def test_a_frontier_whose_digest_is_right(change, whole, tmp_path):
    """Each but the third was a traceback, or might have been."""
    folder = shutil.copytree(whole, tmp_path / "files")
    text = json.loads((folder / "small.run/frontier.json").read_bytes())
    change(text["content"])
    path = folder / "frontier.json"
    path.write_bytes(sealed(text["content"], text["run"]))
    assert verdict(KINDS["runs made to do harm"], path, None) is None
    with pytest.raises(RunError, match=r"frontier\.json: is of another version"):
        KINDS["runs made to do harm"].read(path)
