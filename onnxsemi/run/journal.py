"""Everything that was measured, one line each: a run that was killed goes on from here.

What is measured follows from model, data, settings and the question alone. The journal answers a
question from the line that has it, wherever that stands, and measures and appends what no line has.
So a run that is taken up again makes the same decisions from the same numbers, and one that is
taken up with another allowed drop asks other questions in another order, but none of them twice.
A question that is asked several times has a line each time: the n-th answers the n-th asking. A
line that was cut short when the run was killed is dropped.

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
from collections import defaultdict, deque
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
        self._lines: defaultdict[tuple[str, str], deque[dict[str, Any]]] = defaultdict(deque)
        self._left = 0
        self._recalled_last = True
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
        """Whether the run is where it was before: its last answer was recorded, and more are."""
        return self._recalled_last and self._left > 0

    def ask(self, kind: str, question: object, measure: Callable[[], Reply]) -> Reply:
        """The answer to a question: the recorded one, or a new measurement.

        Args:
            kind: What is measured.
            question: What it is measured on; its ``repr`` tells questions apart.
            measure: Measures it; its reply can be written as JSON.

        Raises:
            RunError: If the reply cannot be written.
        """
        asked = hashlib.sha256(repr(question).encode()).hexdigest()[:16]
        lines = self._lines[kind, asked]
        self._recalled_last = bool(lines)
        if lines:
            return self._recall(lines.popleft())
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

    def _recall(self, line: dict[str, Any]) -> Reply:
        self.recalled += 1
        self._left -= 1
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
                    "`resume` goes on from there"
                )
            self._lines[entry["ask"], entry["of"]].append(entry)
            self._left += 1

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
