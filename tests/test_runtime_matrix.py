"""Matrix of runtimes: what is promised of each, and what happens where one cannot be brought."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def matrix():
    """``runtime_matrix.py`` and ``runtimes_table.py``."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import runtime_matrix
        import runtimes_table

        yield runtime_matrix, runtimes_table
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_eight_runtimes_have_versions(matrix):
    runtimes, _ = matrix
    everything = (*runtimes.OLDER, *runtimes.PRESENT, *runtimes.OTHERS)
    assert len({runtime.title for runtime in everything}) >= 8
    for runtime in (*runtimes.OLDER, *runtimes.OTHERS):
        assert runtime.packages
        assert all(any(mark in package for mark in ("==", "@")) for package in runtime.packages)


def test_profiles_that_a_runtime_takes_are_profiles(matrix):
    runtimes, tables = matrix
    names = {form.name for form in tables.FORMS}
    for runtime in runtimes.OTHERS:
        assert set(runtime.takes) <= names
        assert runtime.everything or (runtime.takes and runtime.because)


@pytest.mark.parametrize("npm", [False, True], ids=["pip", "npm"])
def test_what_cannot_be_brought_says_so_and_leaves_nothing(matrix, npm, tmp_path, monkeypatch):
    runtimes, _ = matrix
    nowhere = (tmp_path / "no-index").as_uri()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", nowhere.removeprefix("file://"))
    package = "onnxruntime-web@1.30.0" if npm else "tract==0.23.9"
    runtime = runtimes.Runtime("some", "runtime_probe.py", "tract", (package,), npm=npm)
    with pytest.raises(runtimes.MissingRuntimeError, match="cannot be brought"):
        runtimes.brought(runtime, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_node_that_is_not_there_is_named(matrix, tmp_path, monkeypatch):
    runtimes, _ = matrix
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(runtimes.MissingRuntimeError, match="npm or node is not installed"):
        runtimes.brought(runtimes.OTHERS[0], tmp_path / "work")


def test_faults_are_what_was_promised_and_failed(matrix):
    runtimes, tables = matrix
    opencv = next(runtime for runtime in runtimes.OTHERS if runtime.title == "OpenCV DNN")
    outcome = tables.Outcome
    found = {
        "fashion-three-fast": outcome("fails: no such operator"),
        "fashion-three-portable": outcome("differs by 1"),
        "fashion-three-fake": outcome("agrees", left=["BitShift"]),
        "fashion-three-float": outcome("agrees"),
    }
    assert tables.wrong([tables.Answers(opencv, "5", found)]) == [
        "OpenCV DNN 5: fashion-three-portable: differs by 1",
        "OpenCV DNN 5: fashion-three-fake: a default session leaves BitShift",
    ]
    web = next(runtime for runtime in runtimes.OTHERS if runtime.way == "web")
    faults = tables.wrong([tables.Answers(web, "1", found)])
    assert "onnxruntime-web in Node 1: fashion-three-fast: fails: no such operator" in faults
