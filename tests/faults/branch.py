"""A command that runs once, and off which a process branches before every fault that is asked for.

A branch has a copy of the folder, and the files that are open in it, with their locks, there; it
meets its fault and goes on to its end, as a process would that had come so far by itself. The
command waits for it, says how it ended, and goes on to its next operation.
"""

import ctypes
import os
import shutil
import stat
import sys
import threading
import traceback
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from inject import Faults, fcntl

_open, _listdir = os.open, os.listdir  # before operations are counted
_flock = getattr(fcntl, "flock", None)
APART = "apart"
_AT_OPENING = os.O_CREAT | os.O_EXCL | os.O_TRUNC


class Branches(Faults):
    """Faults, each of which is met in a branch.

    Attributes:
        branch: Whether this is one.
    """

    def __init__(self, folder: Path, chosen: Collection[tuple[int, str]], told: int) -> None:
        """Branch off for each number of an operation and kind, and write to ``told`` how it ended.

        A line is the number, the kind, and the exit code; the branch's folder is ``folder`` with
        number and kind appended, and what it printed lies beside it. Where there are threads there
        is no branch: ``APART`` instead of the exit code.
        """
        super().__init__(folder)
        self._chosen: dict[int, list[str]] = {}
        for at, kind in chosen:
            self._chosen.setdefault(at, []).append(kind)
        self._told, self._busy, self.branch = told, False, False
        self._whole = Path(self.folder)

    def meet(self, what: str, path: Any) -> str | None:
        """Branch off, and in a branch meet its fault."""
        if self._busy:
            return None
        place = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
        if not self.branch and self.below(place):
            for kind in self._chosen.get(len(self.seen), ()):
                if self._branched(kind):
                    place = place.replace(str(self._whole), self.folder)
                    break
        return super().meet(what, place)

    def moved(self, given: Any) -> Any:
        """In a branch, what was named by its whole path before lies in the copy."""
        if not self.branch or not isinstance(given, (str, os.PathLike)):
            return given
        place = os.fspath(given)
        if place != str(self._whole) and not place.startswith(f"{self._whole}/"):
            return given
        return self.folder + place[len(str(self._whole)) :]

    def _branched(self, kind: str) -> bool:
        """Go on as a branch, or wait for it; beside threads, which would be gone, neither."""
        at = len(self.seen)
        if threading.active_count() > 1:
            os.write(self._told, f"{at}\t{kind}\t{APART}\n".encode())
            return False
        copy = branch_of(self._whole, at, kind)
        self._busy = True
        try:
            sys.stderr.flush()
            shutil.copytree(self._whole, copy, symlinks=True)
            number = os.getpid()
            child = ctypes.PyDLL(None).fork()  # asks no library what it is to forget in a child
            if child:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                os.write(self._told, f"{at}\t{kind}\t{code}\n".encode())
                return False
            os.getpid = lambda: number  # what the process holds is the branch's, too
            self.branch, self.kind, self.at, self.folder = True, kind, at, str(copy)
            try:
                _move(self._whole, copy)
            except OSError:
                traceback.print_exc()
                os._exit(71)
            return True
        finally:
            self._busy = False


def branch_of(folder: Path, at: int, kind: str) -> Path:
    """Folder of a branch."""
    return folder.with_name(f"{folder.name}-{at}-{kind.replace(' ', '_')}")


def _move(folder: Path, copy: Path) -> None:
    """Have in the copy what is open in the folder, and be there."""
    said = _open(f"{copy}.said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(said, 2)
    for number in map(int, _listdir("/proc/self/fd")):
        try:
            place = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # of the list itself
            continue
        if place.startswith(f"{folder}/") or place == str(folder):
            _reopen(number, str(copy) + place[len(str(folder)) :])
    os.chdir(copy)


def _reopen(number: int, place: str) -> None:
    flags = fcntl.fcntl(number, fcntl.F_GETFL) & ~_AT_OPENING
    found = os.fstat(number)
    if found.st_nlink:
        new = _open(place, flags)
    else:  # deleted while open
        new = _open(os.path.dirname(place), os.O_TMPFILE | os.O_RDWR, 0o666)
        os.copy_file_range(number, new, found.st_size, 0, 0)
    if stat.S_ISREG(found.st_mode):
        os.lseek(new, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            with suppress(BlockingIOError):  # open twice, and locked already
                _flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.dup2(new, number)
    os.close(new)
