"""Files that appear whole or not at all."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from onnxsemi._errors import OutputError


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written to, before hours are spent on what goes there.

    Raises:
        OutputError: If the folder is missing or not writable, or ``path`` is a folder.
    """
    folder = path.absolute().parent
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise OutputError(f"{path}: is {what}; name a file")
    if not folder.is_dir():
        raise OutputError(f"{path}: its folder does not exist")
    sweep(path)
    try:
        _scratch(path).touch()
        _scratch(path).unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if the block succeeds, else vanishes.

    Raises:
        OutputError: If the file cannot be written.
    """
    scratch = _scratch(path)
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Delete what processes that were killed left of a file that they were writing."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        process = scratch.suffixes[-2].removeprefix(".")
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            with suppress(OSError):
                scratch.unlink()


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
