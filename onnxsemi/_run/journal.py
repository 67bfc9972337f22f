"""Everything that was measured, one line each: a run that was killed goes on from here.

What is measured follows from model, data, settings and the question alone. The journal answers a
question by its digest from the line that has it, wherever that stands, and measures and appends
what no line has. So a run that is taken up again makes the same decisions from the same numbers,
and one that is taken up with another allowed drop asks other questions in another order, but none
is measured twice. A line that was cut short when the run was killed is dropped; one that is damaged
or of another run (:mod:`onnxsemi._run.store`) is not taken for a measurement.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from msgspec import Struct

from onnxsemi._atomic_file import open_own, sync_folder
from onnxsemi._errors import RunError
from onnxsemi._reading import reading
from onnxsemi._run.spent import Spent
from onnxsemi._run.store import NO_RUN, DamagedError, digest_of, opened_file, sealed, typed

Reply = TypeVar("Reply")
_REMEDY = "delete the folder or choose another `run` to start anew"
MOST_BYTES = 256 * 2**20
"""Of a journal, at the most: runs of a million channels take a quarter of it."""


class Question(Struct, frozen=True, tag=True):
    """What is measured, and on what: the name of the class and its values tell questions apart."""


class _Line(Struct, frozen=True):
    """A measurement.

    Attributes:
        ask: Kind of the question.
        of: Digest of the question.
        spent: What the run took since the line before, or since its session began.
        reply: What came of it, as JSON has it.
    """

    ask: str
    of: str
    spent: Spent
    reply: Any


def check_lines(path: Path, run: str, *, cut: bool = False) -> list[_Line]:
    """The lines of a journal.

    Args:
        path: The file.
        run: Digest of the run.
        cut: Take away what was cut short at its end; else it is passed over.

    Raises:
        RunError: If the file cannot be read, or a line of it is damaged or of another run.
    """
    failure, flags = f"{path}: cannot be read", os.O_RDWR if cut else os.O_RDONLY
    with reading(RunError, failure), open_own(path, flags) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise RunError(f"{path}: is damaged: no journal is that large; {_REMEDY}")
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if cut and len(whole) < len(data):
            file.truncate(len(whole))
    return [_opened(path, at, text, run) for at, text in enumerate(_texts(whole), start=1)]


def _texts(whole: bytes) -> Iterator[bytes]:
    return (text + b"\n" for text in whole.split(b"\n")[:-1])


def _opened(path: Path, number: int, text: bytes, run: str) -> _Line:
    try:
        return opened_file(text, _Line, run)
    except DamagedError as error:
        raise RunError(
            f"{path}: line {number} {error}; delete it and all lines behind it, and `resume` goes "
            "on from there"
        ) from None


class Journal:
    """Answers from the lines of a file, and appends to it.

    Attributes:
        recalled: Measurements that were answered from the file.
    """

    def __init__(
        self, path: Path | None = None, run: str = NO_RUN, began: Spent | None = None
    ) -> None:
        """Open a journal.

        Args:
            path: The file, read if it is there; None keeps nothing.
            run: Digest of the run.
            began: When this session of the run began; now unless given.

        Raises:
            RunError: If the file cannot be read, or a line of it is damaged.
        """
        self._path = path
        self._run = run
        self._lines: dict[str, _Line] = {}
        self._answers: dict[str, object] = {}
        self._recalled_last = True
        self._recorded, self._last = Spent(), began or Spent.so_far()
        self._closed, self._synced = path is None, False
        self.recalled = 0
        if path is not None and os.path.lexists(path):
            self._read(path)

    @property
    def spent(self) -> Spent:
        """What the run took so far: earlier sessions as far as they were recorded, and this one."""
        return self._recorded + self.unrecorded

    @property
    def unrecorded(self) -> Spent:
        """That part of it that no line has."""
        return Spent.so_far() - self._last

    @property
    def recalling(self) -> bool:
        """Whether the run is where it was before: its last answer was recorded, and more are."""
        return self._recalled_last and bool(self._lines)

    def ask(self, question: Question, kind: type[Reply], measure: Callable[[], Reply]) -> Reply:
        """The answer to a question: the recorded one, or a new measurement.

        Args:
            question: What is measured.
            kind: Type of its answer.
            measure: Measures it.

        Raises:
            RunError: If the reply cannot be written.
        """
        asked = digest_of(question)
        line = self._lines.pop(asked, None)
        self._recalled_last = line is not None or asked in self._answers
        if line is not None:
            self.recalled += 1
            with reading(RunError, f"{self._path}: an answer is of another version", _REMEDY):
                self._answers[asked] = typed(line.reply, kind)
        elif asked not in self._answers:
            self._answers[asked] = reply = measure()
            if not self._closed:
                spent = self.unrecorded
                self._append(_Line(type(question).__name__, asked, spent, reply))
                self._recorded, self._last = self._recorded + spent, self._last + spent
        return cast(Reply, self._answers[asked])

    def apart(self) -> "Journal":
        """One that keeps nothing and recalls nothing, in which the run takes as long."""
        return Journal(began=self._last - self._recorded)

    def close(self) -> None:
        """Append nothing more: what follows is not part of the run that may be taken up again."""
        self._closed = True

    def _read(self, path: Path) -> None:
        for line in check_lines(path, self._run, cut=True):
            self._lines[line.of] = line
            self._recorded += line.spent

    def _append(self, line: _Line) -> None:
        assert self._path is not None
        with reading(RunError, f"{self._path}: cannot be written"):
            text = memoryview(sealed(line, self._run))
            with open_own(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
                if os.fstat(file.fileno()).st_size + len(text) > MOST_BYTES:
                    raise RunError(f"{self._path}: has no room for more: {_REMEDY}")
                while text:
                    text = text[file.write(text) :]
                os.fsync(file.fileno())
            if not self._synced:
                sync_folder(self._path.parent)
                self._synced = True
