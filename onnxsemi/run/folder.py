"""The folder of a run: who may work in it, and what it must have been made of to be taken up again.

run.json        what the run is made of: model, data, settings, versions; and what only judges
journal.jsonl   every measurement
rounding.npz    codes and scales of every channel at every bitwidth
crossed.npz     the same, rounded on other images; where images are few
moments.npz     sums of the backward passes so far
best.onnx, best.plan.json   the best found so far, verified
result.json, evidence.npz   what the run came to, for its report (:mod:`onnxsemi.run.kept`)
report.html     the report, where it is asked for
frontier.json   every point that could be written instead of the one that was chosen
finished.json   written last: what the run gave

The kinds of processors that parts were measured on stand in the run's head, too: kernels depend on
them (:mod:`onnxsemi.processor`), and a run is taken up on another one only if that is forced.

What only judges (the allowed drop, images that only the report looks at) may be another when a run
is taken up again: what was measured stays, and what was found by it gives way.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from onnxsemi.atomic import sweep, whole_file
from onnxsemi.errors import RunError
from onnxsemi.processor import Processor
from onnxsemi.run.journal import Journal

SCHEMA = 4
_HEAD, _END = "run.json", "finished.json"
FRONTIER = "frontier.json"
RESULT, EVIDENCE, REPORT = "result.json", "evidence.npz", "report.html"
_MEASURED = ("journal.jsonl", "rounding.npz", "crossed.npz", "moments.npz")
_FOUND = ("best.onnx", "best.plan.json", RESULT, EVIDENCE, REPORT, FRONTIER)
_JUDGED, _PROCESSORS = "judged by", "processors"
Identity = Mapping[str, Any]
"""Name of a part (``model``, ``--bits``, ``numpy``) -> its fingerprint or value, as JSON has it."""


@dataclass(frozen=True)
class MadeOf:
    """What a run is made of.

    Attributes:
        measured: What decides what is measured: with another value it is another run.
        judged: What decides which of the measured plans is taken, and what is said of it.
        processors: Kinds of processors that parts are measured on; empty if that is not known.
    """

    measured: Identity
    judged: Identity
    processors: tuple[Processor, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        whole = {"schema": SCHEMA, **self.measured, _JUDGED: dict(self.judged)}
        if self.processors:
            whole[_PROCESSORS] = msgspec.to_builtins(self.processors)
        document: dict[str, Any] = json.loads(json.dumps(whole))
        return document


class RunFolder:
    """A run's files.

    Attributes:
        path: The folder; None for a run that keeps nothing.
        journal: Its measurements.
        processors: Kinds of processors that parts of it were measured on, in their order.
    """

    def __init__(
        self, path: Path | None, journal: Journal, processors: tuple[Processor, ...] = ()
    ) -> None:
        """Made by :func:`open_run`, or by :func:`nowhere`."""
        self.path = path
        self.journal = journal
        self.processors = processors

    def file(self, name: str) -> Path | None:
        """Path of one of the run's files; None if the run keeps nothing."""
        return None if self.path is None else self.path / name

    def finish(self, output: str | None) -> None:
        """Mark the run as finished: a new one may take its place.

        Args:
            output: The file that it gave; None if nothing held what was asked.
        """
        path = self.file(_END)
        if path is not None:
            with whole_file(path) as scratch:
                scratch.write_text(json.dumps({"output": output}) + "\n", encoding="utf-8")


def nothing_held(path: Path) -> bool:
    """Whether a run was finished without a result, since nothing held what was asked."""
    try:
        finished = json.loads((path / _END).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(finished, dict) and finished.get("output", "") is None


def nowhere(processors: tuple[Processor, ...] = ()) -> RunFolder:
    """A run that keeps nothing."""
    return RunFolder(None, Journal(), processors)


@contextmanager
def open_run(
    path: Path, made_of: MadeOf, *, resume: bool, force: bool = False
) -> Iterator[RunFolder]:
    """Begin a run in a folder, or take one up again.

    Args:
        path: The folder; made if it is not there.
        made_of: What the run is made of.
        resume: Go on with the run that is there, if there is one.
        force: Go on with it on another kind of processor, too.

    Raises:
        RunError: If an unfinished run would be lost, the one to go on with was made of something
            else or on another kind of processor, or another process is working on it.
    """
    _check_place(path)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{path}: another process is working on this run") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        for name in (_HEAD, *_MEASURED, *_FOUND, _END):
            sweep(path / name)
        if resume and (path / _HEAD).exists():
            processors = _go_on(path, made_of, force=force)
        else:
            processors = made_of.processors
            _begin(path, made_of)
        run = RunFolder(path, Journal(path / "journal.jsonl"), processors)
        (path / _END).unlink(missing_ok=True)
        yield run
    finally:
        lock.release()


def _check_place(path: Path) -> None:
    """Make the folder, or refuse one that belongs to something else before anything is put in it.

    Raises:
        RunError: With the reason.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is no folder; choose another `run`")
    try:
        if path.exists() and not (path / _HEAD).exists():
            ours = (".lock", f".{_HEAD}.")  # of a process that was killed, or has just begun
            if any(not entry.name.startswith(ours) for entry in path.iterdir()):
                raise RunError(f"{path}: is not empty and holds no run; choose another `run`")
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: cannot be made: {error.strerror or error}") from None


def _begin(path: Path, made_of: MadeOf) -> None:
    """Clear what a finished run left; an unfinished one is not touched.

    A process that is killed here leaves either the finished run, though without what it measured,
    or the new one.
    """
    head = path / _HEAD
    if head.exists() and not (path / _END).exists():
        raise RunError(
            f"{path}: holds a run that is not finished: go on with `resume`, choose another `run`, "
            "or delete the folder"
        )
    for name in (*_MEASURED, *_FOUND):
        (path / name).unlink(missing_ok=True)
    _write_head(path, made_of)


def _write_head(path: Path, made_of: MadeOf) -> None:
    with whole_file(path / _HEAD) as scratch:
        scratch.write_text(json.dumps(made_of.document(), indent=1) + "\n", encoding="utf-8")


def _go_on(path: Path, made_of: MadeOf, *, force: bool) -> tuple[Processor, ...]:
    """Take up the run that is there; what other judging settings led to is removed first.

    A process that is killed here leaves the head as it was: the next one removes the rest.

    Returns:
        Every kind of processor that parts of the run were, or will be, measured on.
    """
    before = _head(path)
    there = _processors(path, before.pop(_PROCESSORS, []))
    new = tuple(here for here in made_of.processors if here not in there)
    now = replace(made_of, processors=()).document()
    judged = (before.pop(_JUDGED, None), now.pop(_JUDGED))
    _check_same(path, before, now)
    if there and new and not force:
        one, other = there[-1].beside(new[0]), new[0].beside(there[-1])
        raise RunError(
            f"{path}: was measured on another kind of processor (there: {one}; here: {other}), "
            "whose kernels give other bits: go on there; or here, with `force`; or choose another "
            "`run` to start anew"
        )
    processors = (*there, *new)
    if judged[0] != judged[1]:
        for name in (_END, *_FOUND):
            (path / name).unlink(missing_ok=True)
    if judged[0] != judged[1] or new:
        _write_head(path, replace(made_of, processors=processors))
    return processors


def _processors(path: Path, entries: Any) -> tuple[Processor, ...]:
    """Those that stand in the head."""
    try:
        return msgspec.convert(entries, tuple[Processor, ...])
    except (TypeError, ValueError) as error:
        raise _unreadable(path / _HEAD) from error


def _head(path: Path) -> dict[str, Any]:
    head = path / _HEAD
    try:
        before = json.loads(head.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        raise _unreadable(head)
    return before


def _unreadable(head: Path) -> RunError:
    return RunError(
        f"{head}: cannot be read; delete the folder or choose another `run` to start anew"
    )


def _check_same(path: Path, before: Identity, now: Identity) -> None:
    """Refuse to go on with a run that was made of something else, and name what has changed."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if "schema" in changed:
        changed = ["schema"]  # what else differs is then a matter of form
    if changed:
        shown = "; ".join(_difference(name, before.get(name), now.get(name)) for name in changed)
        raise RunError(
            f"{path}: this run was made of something else: {shown}; "
            "delete the folder or choose another `run` to start anew"
        )


def _difference(name: str, before: object, now: object) -> str:
    if any(isinstance(value, str) and len(value) == 64 for value in (before, now)):
        return f"the {name} has changed"  # a fingerprint says nothing to a reader
    named = f"`{name[2:].replace('-', '_')}`" if name.startswith("--") else name
    return f"{named} was {_text(before)}, now {_text(now)}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
