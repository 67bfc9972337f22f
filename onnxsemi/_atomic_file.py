"""Files that appear whole or not at all, several of them together.

A file is written beside the place that it is for, under a name that nobody could have taken, and is
synced before it takes its place; so is the folder, once it has. Where several belong together, all
are synced before the first takes its place, and if one cannot, those before it are put back.

A scratch file is locked for as long as its process lives, whatever the process's number is where
others see it: what is not locked was left by one that was killed, and is swept away.
"""

import errno
import glob
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from onnxsemi._errors import OutputError

if sys.platform != "win32":  # where a file that is open cannot be deleted: that is the lock
    import fcntl

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_PERMISSIONS = 0o777


def check_writable(path: Path) -> None:
    """Refuse a place that cannot be written to, before hours are spent on what goes there.

    Raises:
        OutputError: If the folder is missing or not writable, or ``path`` is a folder.
    """
    folder = path.absolute().parent
    if "\0" in str(path):
        raise OutputError(f"{path}: no file has such a name")
    with _said(path):
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise OutputError(f"{path}: is {what}; name a file")
        if not folder.is_dir():
            raise OutputError(f"{path}: its folder does not exist")
        sweep(path)
        with _Scratch(path):
            pass


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if the block succeeds, else vanishes.

    Raises:
        OutputError: If the file cannot be written.
    """
    with whole_files(path) as scratches:
        yield scratches[path]


@contextmanager
def whole_files(*paths: Path) -> Iterator[Mapping[Path, Path]]:
    """The same of files that belong together: none appears without the others.

    A process that is killed between two of them leaves the first new and the others as they were.

    Raises:
        OutputError: If one of them cannot be written.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_Scratch(path)) for path in paths]
        with _said(*paths):
            yield {file.path: file.scratch for file in files}
        for file in files:
            file.sync()
        _appear(files)


def sweep(path: Path) -> None:
    """Delete what processes that were killed left of a file that they were writing."""
    _sweep(path.parent, f".{glob.escape(path.name)}.*.part")


def sweep_folder(folder: Path) -> None:
    """The same of every file in a folder that is ours alone."""
    _sweep(folder, ".*.*.part")


def _sweep(folder: Path, pattern: str) -> None:
    with suppress(OSError):  # a folder that cannot be read now is swept another time
        for scratch in folder.glob(pattern):
            with suppress(OSError), open_own(scratch, os.O_RDONLY) as file:
                if _locks(file):
                    scratch.unlink()


def open_own(path: Path, flags: int) -> IO[bytes]:
    """Open a file that belongs to onnxsemi, unbuffered to write; it is made with ``O_CREAT``.

    Raises:
        OSError: Also if a link, a fifo or a device is in its place: what was planted there is not
            followed, and not waited for.
    """
    descriptor = os.open(path, flags | _NO_LINK | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        mode = "r+b" if flags & os.O_RDWR else "ab" if flags & os.O_WRONLY else "rb"
        return os.fdopen(descriptor, mode, buffering=-1 if mode == "rb" else 0)
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for files that are read at once, gone afterwards.

    Raises:
        OutputError: If there is no room for them.
    """
    try:
        with TemporaryDirectory(prefix="onnxsemi-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise OutputError(
            f"a temporary file cannot be written: {error.strerror or error}; set TMPDIR to a "
            "folder with room"
        ) from error


def sync_folder(folder: Path) -> None:
    """See to it that names in a folder outlive a power cut, as far as the system can."""
    with suppress(OSError):  # Windows has no such thing, and neither have some shares
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Scratch:
    """A file on its way: locked while it is written, gone if it does not take its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scratch = path
        self._before: Path | None = None
        self._replaced = False

    def __enter__(self) -> "_Scratch":
        with _said(self.path):
            while True:
                self.scratch = _beside(self.path)
                self._file = open_own(self.scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                _locks(self._file, wait=True)
                if os.fstat(self._file.fileno()).st_nlink:
                    break
                self._file.close()  # swept away before it was locked
            if hasattr(os, "fchmod") and self.path.exists():
                mode = stat.S_IMODE(self.path.stat().st_mode) & _PERMISSIONS
                with suppress(OSError):
                    os.fchmod(self._file.fileno(), mode)
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            for path in filter(None, (self.scratch, self._before)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def sync(self) -> None:
        """Have it on the disk."""
        with _said(self.path):
            os.fsync(self._file.fileno())

    def replace(self, *, keep: bool) -> None:
        """Take its place; what was there is kept until the end, to be put back."""
        self._replaced = self.path.exists()
        if keep and self._replaced:
            before = _beside(self.path)
            with suppress(OSError):  # a file system without links
                os.link(self.path, before, follow_symlinks=False)
                self._before = before
        if sys.platform == "win32":
            self._file.close()
        self.scratch.replace(self.path)

    def put_back(self) -> None:
        """Give its place to what was there before."""
        if self._before is not None:
            self._before.replace(self.path)
        elif not self._replaced:
            self.path.unlink()


def _appear(files: Sequence[_Scratch]) -> None:
    """Let all files take their places, or none."""
    done: list[_Scratch] = []
    try:
        for file in files:
            with _said(file.path):
                file.replace(keep=file is not files[-1])
            done.append(file)
    except OutputError:
        for file in reversed(done):
            with suppress(OSError):
                file.put_back()
        raise
    for folder in {file.path.absolute().parent for file in files}:
        sync_folder(folder)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def _locks(file: IO[bytes], *, wait: bool = False) -> bool:
    """Lock a file for as long as it is open, if no one else has."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: what is there is left alone
            return wait
    return True


@contextmanager
def _said(*paths: Path) -> Iterator[None]:
    """What the system refuses, as the one line of an error that names the file."""
    try:
        yield
    except OSError as error:
        where = next((p for p in paths if f".{p.name}." in str(error.filename)), paths[0])
        reason = error.strerror or error
        raise OutputError(f"{where}: cannot be written: {reason}") from error
