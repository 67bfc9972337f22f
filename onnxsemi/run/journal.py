"""Everything that was measured, in order, one line each: a run that was killed goes on from here.

A run asks for its measurements in an order that follows from model, data and settings alone. The
journal answers from its lines as long as it has some, and measures and appends from then on. So a
run that is taken up again makes the same decisions from the same numbers. A line that was cut short
when the run was killed is dropped.

    {"ask": "trial", "of": "<digest of what was asked>", "reply": {...}, "seconds": 0.21, "crc": 12}

Floats are written so that they are read back bit for bit; arrays as base64 of their bytes. ``crc``
is the CRC-32 of the line without it: a damaged line is not taken for a measurement.
"""

import base64
import hashlib
import json
import os
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxsemi.errors import RunError

Reply = dict[str, Any]


class Journal:
    """Answers from the lines of a file, and appends to it.

    Attributes:
        recalled: Measurements that were answered from the file.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open a journal.

        Args:
            path: The file, read if it is there; None keeps nothing.

        Raises:
            RunError: If the file cannot be read, or a line of it is damaged.
        """
        self._path = path
        self._lines: deque[dict[str, Any]] = deque()
        self._seconds = 0.0
        self._closed = path is None
        self.recalled = 0
        if path is not None and path.exists():
            self._read(path)

    @property
    def seconds(self) -> float:
        """Time that all measurements took, those of earlier sessions included."""
        return self._seconds

    @property
    def recalling(self) -> bool:
        """Whether there are lines that no question was asked for yet."""
        return bool(self._lines)

    def ask(self, kind: str, question: object, measure: Callable[[], Reply]) -> Reply:
        """The answer to a question: the recorded one, or a new measurement.

        Args:
            kind: What is measured.
            question: What it is measured on; its ``repr`` tells questions apart.
            measure: Measures it; its reply can be written as JSON.

        Raises:
            RunError: If the next line answers another question.
        """
        asked = hashlib.sha256(repr(question).encode()).hexdigest()[:16]
        if self._lines:
            return self._recall(kind, asked)
        began = time.perf_counter()
        reply = measure()
        seconds = time.perf_counter() - began
        self._seconds += seconds
        if not self._closed:
            self._append({"ask": kind, "of": asked, "reply": reply, "seconds": round(seconds, 4)})
        return reply

    def close(self) -> None:
        """Append nothing more: what follows is not part of the run that may be taken up again."""
        self._closed = True

    def _recall(self, kind: str, asked: str) -> Reply:
        line = self._lines.popleft()
        if (line["ask"], line["of"]) != (kind, asked):
            raise RunError(
                f"{self._path}: was not written by this run, which asks for a {kind!r} where it "
                f"has a {line['ask']!r} of something else; delete the folder or choose another "
                "--run to start anew"
            )
        self.recalled += 1
        self._seconds += float(line["seconds"])
        reply: Reply = line["reply"]
        return reply

    def _read(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(path, len(whole))
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = dict(json.loads(line))
                intact = entry.pop("crc") == _checksum(entry)
            except (ValueError, KeyError, TypeError):
                intact = False
            if not intact:
                raise RunError(
                    f"{path}: line {number} is damaged; delete it and all lines behind it, and "
                    "--resume goes on from there"
                )
            self._lines.append(entry)

    def _append(self, line: dict[str, Any]) -> None:
        assert self._path is not None
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(line | {"crc": _checksum(line)}).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"{self._path}: cannot be written: {reason}") from None


def _checksum(line: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(line).encode())


def packed(array: NDArray[Any]) -> Reply:
    """An array as JSON, bit for bit.

    >>> unpacked(packed(np.array([0.1, 2.0]))).tolist()
    [0.1, 2.0]
    """
    little = np.asarray(array).astype(np.asarray(array).dtype.newbyteorder("<"))
    return {
        "dtype": little.dtype.str,
        "shape": list(little.shape),
        "base64": base64.b64encode(little.tobytes()).decode(),
    }


def unpacked(reply: Reply) -> NDArray[Any]:
    """What :func:`packed` was given."""
    values = np.frombuffer(base64.b64decode(reply["base64"]), np.dtype(reply["dtype"]))
    return values.reshape(reply["shape"]).copy()
