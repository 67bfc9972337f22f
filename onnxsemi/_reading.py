"""Reading what others made: whatever is wrong with it is one line, and no reader waits or swells.

Libraries that parse raise what they like, and some of it only for bytes that nobody has tried yet.
So every reader works within :func:`reading`: what was read, what was found, what to do. Before it
begins, :func:`regular_file` has looked at what there is: a fifo would be waited for, a device has
no end, and a text may be larger than any that onnxsemi writes.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxsemi._errors import OnnxSemiError, one_line

MOST_TEXT = 64 * 2**20
"""Bytes of a text, at the most: a plan of a million channels has a quarter of that."""


@contextmanager
def reading(kind: type[OnnxSemiError], failure: str, remedy: str = "") -> Iterator[None]:
    """Whatever goes wrong in the block is an error of ``kind``; those that say more stay.

    Args:
        kind: What is raised.
        failure: What was read and cannot be used: the error's line begins with it.
        remedy: What to do; it ends with it.

    Raises:
        OnnxSemiError: Of this kind, with the reason in its middle.
    """
    try:
        yield
    except OnnxSemiError:
        raise
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else None
        said = f"{failure}: {reason or one_line(error)}"
        raise kind(f"{said}; {remedy}" if remedy else said) from error


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder; what no system has as a name is not there."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def regular_file(path: Path, kind: type[OnnxSemiError], most: int | None = None) -> None:
    """Refuse what is no file, or one of more than so many bytes, before it is opened.

    Raises:
        OnnxSemiError: Of this kind, with what there is.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise kind(f"{path}: cannot be read: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise kind(f"{path}: is {what}; name a file")
    if most is not None and found.st_size > most:
        have, room = found.st_size // 2**20, most // 2**20
        raise kind(f"{path}: has {have:,} MB, and no such file has more than {room:,}")


def bytes_of(path: Path, kind: type[OnnxSemiError]) -> bytes:
    """What a text file holds.

    Raises:
        OnnxSemiError: Of this kind, if there is none, or it is too large for a text.
    """
    regular_file(path, kind, MOST_TEXT)
    with reading(kind, f"{path}: cannot be read"):
        return path.read_bytes()
