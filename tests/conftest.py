"""Fixtures and markers that all tests share."""

import os
from pathlib import Path

import pytest
from command_line import compress_command, run
from residual_net import save_noise, save_residual_net

PROJECT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("ONNXSEMI_SHARED", PROJECT.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs the tests of a file, as these share what takes long to make.

    Tests that need the shared models and data are skipped where these are absent.
    """
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.location[0]))
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason=f"shared models and data are not at {SHARED}")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the shared models, data and reference tables."""
    return SHARED


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, search and test images, and one compressed file with its plan."""
    folder = tmp_path_factory.mktemp("commands")
    save_residual_net(folder / "model.onnx")
    save_noise(folder / "search.npz", count=60, seed=1)
    save_noise(folder / "report.npz", count=40, seed=2)
    result = run(*compress_command(folder, "small.onnx"))
    assert result.exit_code == 0, result.output
    return folder
