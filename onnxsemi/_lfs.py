"""Git LFS pointers: what a clone without ``git lfs pull`` has in the place of large files.

A pointer is a text of some 130 bytes that begins with the address of its specification
(https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
"""

from pathlib import Path

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def pointer_remedy(path: Path) -> str | None:
    """What to do about a file that is a pointer; None if it is none, or cannot be read."""
    try:
        with path.open("rb") as file:
            found = file.read(len(_BEGINNING)) == _BEGINNING
    except (OSError, ValueError):
        return None
    return f"{path}: is a Git LFS pointer, not the file: git lfs pull" if found else None
