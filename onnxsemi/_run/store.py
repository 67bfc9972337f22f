"""Files of a run: typed, and sealed by digests that are checked before anything is decoded.

A JSON file is one line, and so is each measurement of the journal:

    {"run": "<SHA-256>", "sha256": "<SHA-256>", "content": {...}}

``run`` says which run it belongs to, ``sha256`` is the digest of that and of the bytes of the
content. A ``.npz`` file has both in the comment of its archive, of all bytes before the comment.
So a flipped bit, or a file of another run, is refused, and not taken for what was measured.

Content is what its type says: structs and dataclasses of plain values, and arrays as their bytes.
Floats come back bit for bit, those that are not finite, too.
"""

import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar
from zipfile import ZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from onnxsemi._atomic_file import open_own, whole_file
from onnxsemi._errors import PlanError, RunError
from onnxsemi._output_size import written_text
from onnxsemi._reading import MOST_TEXT, reading

Array = NDArray[Any]
T = TypeVar("T")

NO_RUN = "0" * 64
"""In place of the digest of a run, where a file belongs to none."""

_SEALED = re.compile(
    rb'\{"run": "([0-9a-f]{64})", "sha256": "([0-9a-f]{64})", "content": (.*)\}\n', re.DOTALL
)
_COMMENT = re.compile(rb"run ([0-9a-f]{64}) sha256 ([0-9a-f]{64})")
_COMMENT_BYTES = len(f"run {NO_RUN} sha256 {NO_RUN}")
_PIECE = 2**20
_UNSEALED = re.compile(rb'\{\s*"schema"')
_DAMAGED, _OF_ANOTHER_RUN = "is damaged, or was changed", "is of another run"
_OTHER = "is of another version"
_OLD = "was written by an older version of onnxsemi"


class DamagedError(RunError):
    """Bytes are not those that were written, or belong to another run; the message says which."""


def digest_of(content: object) -> str:
    """SHA-256 of something typed: of its values, whatever types they have.

    >>> digest_of((8, 6)) == digest_of([8, 6])
    True
    """
    return hashlib.sha256(_encoded(content)).hexdigest()


def sealed(content: object, run: str) -> bytes:
    """Content as a line that says which run it is of, and whether it is whole."""
    text = _encoded(content)
    head = f'{{"run": "{run}", "sha256": "{_seal(run, [text])}", "content": '
    return head.encode() + text + b"}\n"


def opened_file(line: bytes, kind: type[T], run: str) -> T:
    """What :func:`sealed` was given.

    Raises:
        DamagedError: If it was not sealed like this, or for another run.
    """
    found = _SEALED.fullmatch(line)
    if found is None:
        raise DamagedError(_OLD if _UNSEALED.match(line) else _DAMAGED)
    _check(found, [found[3]], run)
    try:
        with reading(DamagedError, _OTHER):
            return typed(json.loads(found[3]), kind)
    except PlanError as error:
        raise DamagedError(f"{_OTHER} ({error})") from None


def typed(value: object, kind: type[T]) -> T:
    """A value as JSON has it, as what it was before it was sealed."""
    return msgspec.convert(value, kind, dec_hook=_array, str_keys=True)


def write(path: Path, content: object, run: str) -> None:
    """Write a JSON file, whole or not at all.

    Args:
        path: The file.
        content: A struct or a dataclass.
        run: Digest of the run that it belongs to.

    Raises:
        OutputError: If it cannot be written.
    """
    data = written_text(sealed(content, run), path)
    with whole_file(path) as scratch:
        scratch.write_bytes(data)


def read(path: Path, kind: type[T], run: str, remedy: str) -> T:
    """Read what :func:`write` wrote.

    Args:
        path: The file.
        kind: Type of its content.
        run: Digest of the run that it has to belong to.
        remedy: What to do if it cannot be read.

    Raises:
        RunError: If it cannot be read, is damaged, or of another run.
    """
    with _opened(path, remedy) as file:
        if _size(file) > MOST_TEXT:
            raise DamagedError(_DAMAGED)  # ours are no larger
        return opened_file(file.read(), kind, run)


def write_arrays(path: Path, arrays: Mapping[str, Array], run: str) -> None:
    """Write arrays by their names as ``.npz``, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with whole_file(path) as scratch:
        with scratch.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # no name is an option
        with ZipFile(scratch, "a") as archive:
            if len(archive.namelist()) != len(arrays):  # begun anew where it could not be read
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            archive.comment = b" " * _COMMENT_BYTES
        with scratch.open("r+b") as file:
            seal = _seal(run, _without_comment(file))
            file.seek(-_COMMENT_BYTES, io.SEEK_END)
            file.write(f"run {run} sha256 {seal}".encode())


def read_arrays(path: Path, run: str, remedy: str) -> dict[str, Array]:
    """Read what :func:`write_arrays` wrote.

    Raises:
        RunError: If it cannot be read, is damaged, or of another run.
    """
    with _opened(path, remedy) as file:
        file.seek(max(0, _size(file) - _COMMENT_BYTES))
        found = _COMMENT.fullmatch(file.read())
        if found is None:
            raise DamagedError(_DAMAGED)
        _check(found, _without_comment(file), run)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            if any(member.compress_type for member in arrays.zip.infolist()):
                raise DamagedError(_DAMAGED)  # ours are as large as the file says
            return dict(arrays)


@contextmanager
def _opened(path: Path, remedy: str) -> Iterator[IO[bytes]]:
    """A file of a run; whatever is wrong with it is said with what to do.

    Raises:
        RunError: Likewise.
    """
    try:
        failure = f"{path}: cannot be read"
        with reading(RunError, failure, remedy), open_own(path, os.O_RDONLY) as file:
            yield file
    except DamagedError as error:
        raise RunError(f"{path}: {error}; {remedy}") from None


def _check(found: re.Match[bytes], pieces: Iterable[bytes], run: str) -> None:
    """Refuse bytes that are not those of a seal, its first two groups; or those of another run."""
    own, seal = found[1].decode(), found[2].decode()
    if _seal(own, pieces) != seal:
        raise DamagedError(_DAMAGED)
    if own != run:
        raise DamagedError(_OF_ANOTHER_RUN)


def _seal(run: str, pieces: Iterable[bytes]) -> str:
    """Digest of a run and of what belongs to it."""
    digest = hashlib.sha256(run.encode())
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _without_comment(file: IO[bytes]) -> Iterator[bytes]:
    """Bytes of an archive before its comment, piece by piece."""
    left = _size(file) - _COMMENT_BYTES
    file.seek(0)
    while left > 0:
        piece = file.read(min(left, _PIECE))
        if not piece:
            raise DamagedError(_DAMAGED)  # cut short meanwhile
        yield piece
        left -= len(piece)


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _encoded(content: object) -> bytes:
    return json.dumps(msgspec.to_builtins(content, enc_hook=_plain, str_keys=True)).encode()


def _plain(value: object) -> object:
    """What msgspec has no form for."""
    if isinstance(value, np.ndarray):
        little = value.astype(value.dtype.newbyteorder("<"))
        return _Array(little.dtype.str, little.shape, little.tobytes())
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"a run keeps no {type(value).__name__}")


class _Array(msgspec.Struct, frozen=True):
    """An array as JSON has it."""

    dtype: str
    shape: tuple[int, ...]
    base64: bytes


def _array(_: type, found: object) -> Array:
    """An array, of what :func:`_plain` made of it."""
    packed = msgspec.convert(found, _Array)
    return np.frombuffer(packed.base64, packed.dtype).reshape(packed.shape).copy()
