"""File operations that are counted, and one of which fails: in this process, from here on.

Whatever Python opens, reads, writes, syncs, renames, links, makes, locks or deletes below a folder
is an operation. The n-th is met by a fault:

    kill            the process gets SIGKILL before it
    kill within     a write is half done, and then the same
    ENOSPC, EIO, EACCES   it fails so, as far as such an operation may
    short           a write takes half of what it is given, and says so

What C++ code reads by itself (ONNX Runtime, onnx) is not seen; it writes nothing.
"""

import builtins
import errno
import io
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has neither these nor SIGKILL
    fcntl = None  # type: ignore[assignment]

WRITES = {"write", "fsync", "mkdir", "truncate", "replace", "rename", "link", "create"}
NAMES = {"open", "create", "mkdir", "replace", "rename", "link", "unlink", "scandir", "listdir"}
NAMES |= {"fchmod"}
KINDS: dict[str, Callable[[str], bool]] = {
    "kill": lambda _: True,
    "kill within": lambda what: what == "write",
    "ENOSPC": lambda what: what in WRITES,
    "EIO": lambda what: what in WRITES | {"read", "open", "unlink", "scandir", "listdir", "flock"},
    "EACCES": lambda what: what in NAMES,
    "short": lambda what: what == "write",
}


class Faults:
    """What happens to operations below a folder.

    Attributes:
        seen: Operations so far, each as what it is and its file.
    """

    def __init__(self, folder: Path, kind: str = "", at: int = -1) -> None:
        """Let the operation number ``at`` be met by a fault of a kind; none without one."""
        self.folder, self.kind, self.at = os.path.realpath(folder), kind, at
        self.seen: list[tuple[str, str]] = []

    def meet(self, what: str, path: Any) -> str | None:
        """Count an operation; give the kind of what a write is to do differently."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if not self.below(path):
            return None
        self.seen.append((what, os.path.basename(os.fspath(path))))
        if len(self.seen) - 1 != self.at:
            return None
        if self.kind == "kill":
            signal.raise_signal(signal.SIGKILL)
        if self.kind in ("kill within", "short"):
            return self.kind
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number), os.fspath(path))

    def moved(self, given: Any) -> Any:
        """What an operation is given, where its files are now."""
        return given

    def below(self, path: Any) -> bool:
        """Whether a file lies in the folder, or below it."""
        place = os.path.join(os.path.realpath(os.path.dirname(os.fspath(path)) or "."), "")
        return place.startswith(os.path.join(self.folder, ""))


def _file(faults: Faults) -> type[io.FileIO]:
    class File(io.FileIO):
        """A file whose operations are counted."""

        def __init__(self, file: Any, mode: str = "r", *more: Any, **named: Any) -> None:
            if not isinstance(file, int):
                made = "r" not in mode and not os.path.lexists(file)
                faults.meet("create" if made else "open", file)
            super().__init__(faults.moved(file), mode, *more, **named)
            self._path = os.readlink(f"/proc/self/fd/{self.fileno()}")

        def write(self, data: Any) -> int:
            said = faults.meet("write", self._path)
            if said is None or len(data) < 2:
                return super().write(data)
            done = super().write(memoryview(data)[: len(data) // 2])
            if said == "kill within":
                signal.raise_signal(signal.SIGKILL)
            return done

        def readinto(self, buffer: Any) -> int:
            faults.meet("read", self._path)
            return super().readinto(buffer)

        def read(self, size: int = -1) -> bytes:
            faults.meet("read", self._path)
            return super().read(size)

        def readall(self) -> bytes:
            faults.meet("read", self._path)
            return super().readall()

        def truncate(self, size: Any = None) -> int:
            faults.meet("truncate", self._path)
            return super().truncate(size)

    return File


def _opener(faults: Faults) -> Callable[..., Any]:
    kind = _file(faults)

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        plain = mode.replace("t", "").replace("b", "").replace("U", "")
        raw = kind(file, plain, closefd, opener)
        if buffering == 0:
            return raw
        if "+" in mode:
            buffered: Any = io.BufferedRandom(raw)
        elif "r" in mode:
            buffered = io.BufferedReader(raw)
        else:
            buffered = io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return opened


def inject(faults: Faults) -> None:
    """Let this process meet them, until it ends."""
    io.open = builtins.open = _opener(faults)  # type: ignore[assignment]
    real_open = os.open

    def os_open(path: Any, flags: int, *more: Any, **named: Any) -> int:
        faults.meet("create" if flags & os.O_CREAT else "open", path)
        return real_open(faults.moved(path), flags, *more, **named)

    os.open = os_open
    for name in ("fsync", "mkdir", "truncate", "unlink", "scandir", "listdir", "fchmod"):
        setattr(os, name, _met(faults, name, getattr(os, name), place=0))
    for name in ("replace", "rename", "link"):
        setattr(os, name, _met(faults, name, getattr(os, name), place=1))
    if fcntl is not None:
        fcntl.flock = _met(faults, "flock", fcntl.flock, place=0)


def _met(faults: Faults, name: str, real: Callable[..., Any], *, place: int) -> Callable[..., Any]:
    def called(*given: Any, **named: Any) -> Any:
        path = given[place] if len(given) > place else "."
        if named.get("dir_fd") is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{named['dir_fd']}"), path)
        faults.meet(name, path.fileno() if hasattr(path, "fileno") else path)
        return real(*map(faults.moved, given), **named)

    return called


def stand_still() -> None:
    """Let all clocks stand still: the same command on the same files leaves the same bytes."""
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, name, lambda: 1e9)
    time.time_ns = lambda: 10**18


def jump() -> None:
    """Let the wall clock jump by a year at every look at it, forward and back in turn."""
    real, years = time.time, itertools.cycle((0, 1, -1, 40, -30))
    time.time = lambda: real() + 365 * 24 * 3600 * next(years)
    time.time_ns = lambda: int(time.time() * 1e9)
