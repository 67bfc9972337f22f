"""Fixtures and markers that all tests share."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("ONNXSEMI_SHARED", PROJECT.parent / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need the shared models and data where these are absent."""
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason=f"shared models and data are not at {SHARED}")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture
def shared() -> Path:
    """Folder of the shared models, data and reference tables."""
    return SHARED
