"""The folder of a run: who may work in it, and what it must have been made of to be taken up again.

run.json        what the run is made of: model, data, settings, versions; and what only judges
journal.jsonl   every measurement
rounding.npz    codes and scales of every channel at every bitwidth
crossed.npz     the same, rounded on other images; where images are few
moments.npz     sums of the backward passes so far
spent.json      time that went into the run after the last line of the journal
best.onnx, best.plan.json   the best found so far, verified
result.json, evidence.npz   what the run came to, for its report (:mod:`onnxsemi._report.record`)
report.html     the report, where it is asked for
frontier.json   every point that could be written instead of the one that was chosen
finished.json   written last: what the run gave

The kinds of processors that parts were measured on stand in the run's head, too: kernels depend on
them (:mod:`onnxsemi._runtime.processor`), and a run is taken up on another one only if forced.

What only judges (the allowed drop, images that only the report looks at) may be another when a run
is taken up again: what was measured stays, and what was found by it gives way. Each file says which
of the two it goes by: the digest of what is measured, or of that and of what judges.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from onnxsemi._atomic_file import sweep_folder, sync_folder
from onnxsemi._errors import RunError
from onnxsemi._reading import is_there
from onnxsemi._run.journal import Journal
from onnxsemi._run.spent import Spent
from onnxsemi._run.store import NO_RUN, digest_of, read, write
from onnxsemi._runtime.processor import Processor

_HEAD, _END, _LOCK = "run.json", "finished.json", ".lock"
FRONTIER, _SPENT = "frontier.json", "spent.json"
RESULT, EVIDENCE, REPORT = "result.json", "evidence.npz", "report.html"
_MEASURED = ("journal.jsonl", _SPENT, "rounding.npz", "crossed.npz", "moments.npz")
_FOUND = ("best.onnx", "best.plan.json", RESULT, EVIDENCE, REPORT, FRONTIER)
_ANEW = "delete the folder or choose another `run` to start anew"
_Plain = str | int | float | bool | None
Setting = _Plain | tuple[_Plain, ...]
Identity = Mapping[str, Setting]
"""Name of a part (``model``, ``--bits``, ``numpy``) -> its fingerprint or value."""


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

    @property
    def measured_digest(self) -> str:
        """What files of measurements say that they belong to."""
        return digest_of(self.measured)

    @property
    def judged_digest(self) -> str:
        """The same of files that say what was found."""
        return digest_of((self.measured, self.judged))


@dataclass(frozen=True)
class _End:
    """What a finished run came to.

    Attributes:
        held: Whether anything held what was asked, so that there is a result.
    """

    held: bool


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run's files.

    Attributes:
        path: The folder; None for a run that keeps nothing.
        made_of: What it is made of, with every kind of processor that it was measured on.
        journal: Its measurements.
    """

    path: Path | None
    made_of: MadeOf
    journal: Journal

    @property
    def processors(self) -> tuple[Processor, ...]:
        """Kinds of processors that parts of it were measured on, in their order."""
        return self.made_of.processors

    def file(self, name: str) -> Path | None:
        """Path of one of the run's files; None if the run keeps nothing."""
        return None if self.path is None else self.path / name

    def finish(self, *, held: bool) -> None:
        """Mark the run as finished: a new one may take its place.

        Args:
            held: Whether anything held what was asked.
        """
        path = self.file(_END)
        if path is not None:
            write(path, _End(held), self.made_of.judged_digest)


def nothing_held(path: Path) -> bool:
    """Whether a run was finished without a result, since nothing held what was asked.

    Raises:
        RunError: If the run cannot be read.
    """
    return (path / _END).exists() and not check_end(path).held


def check_end(path: Path) -> _End:
    """What a finished run came to.

    Raises:
        RunError: If it cannot be read.
    """
    remedy = "the command that made the run, with `resume`, writes it again"
    return read(path / _END, _End, made_of(path).judged_digest, remedy)


def made_of(path: Path) -> MadeOf:
    """What the run in a folder is made of.

    Raises:
        RunError: If the folder holds no run, or its head cannot be read.
    """
    if not (is_there(path) and path.is_dir()):
        what = "is no folder" if is_there(path) else "there is no such folder"
        raise RunError(f"{path}: {what}; name the folder of a run, such as small.run")
    if not (path / _HEAD).is_file():
        raise RunError(f"{path}: holds no run; name the folder of a run, such as small.run")
    return read(path / _HEAD, MadeOf, NO_RUN, _ANEW)


def nowhere(made_of: MadeOf | None = None, began: Spent | None = None) -> RunFolder:
    """A run that keeps nothing."""
    return RunFolder(None, made_of or MadeOf({}, {}), Journal(began=began))


@contextmanager
def open_run(
    path: Path,
    made_of: MadeOf,
    *,
    resume: bool,
    force: bool = False,
    began: Spent | None = None,
) -> Iterator[RunFolder]:
    """Begin a run in a folder, or take one up again.

    Args:
        path: The folder; made if it is not there.
        made_of: What the run is made of.
        resume: Go on with the run that is there, if there is one.
        force: Go on with it on another kind of processor, too; and replace one of another model.
        began: When this session of it began; now unless given.

    Raises:
        RunError: If an unfinished run, or one of another model, would be lost, the one to go on
            with was made of something else or on another kind of processor, or another process is
            working on it.
    """
    _check_place(path)
    if (path / _LOCK).is_symlink():  # it would be followed
        raise RunError(f"{path / _LOCK}: is a link; {_ANEW}")
    lock = FileLock(path / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{path}: another process is working on this run") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        sweep_folder(path)
        if resume and (path / _HEAD).exists():
            made_of = _go_on(path, made_of, force=force)
        else:
            _begin(path, made_of, force=force)
        began = (began or Spent.so_far()) - check_spent(path, made_of)
        journal = Journal(path / "journal.jsonl", made_of.measured_digest, began)
        _remove(path, _END, _SPENT)
        try:
            yield RunFolder(path, made_of, journal)
        finally:
            with suppress(RunError):  # a full disk is told of by what failed to be measured
                write(path / _SPENT, journal.unrecorded, made_of.measured_digest)
    finally:
        with suppress(OSError):  # it ends with the process
            lock.release()


def check_spent(path: Path, made_of: MadeOf) -> Spent:
    """What earlier sessions took after the last line of the journal.

    Raises:
        RunError: If it cannot be read.
    """
    if not (path / _SPENT).exists():
        return Spent()
    remedy = "delete it, and the run's cost is counted without it"
    return read(path / _SPENT, Spent, made_of.measured_digest, remedy)


def _check_place(path: Path) -> None:
    """Make the folder, or refuse one that belongs to something else before anything is put in it.

    Raises:
        RunError: With the reason.
    """
    if is_there(path) and not path.is_dir():
        raise RunError(f"{path}: is no folder; choose another `run`")
    try:
        if is_there(path) and not (path / _HEAD).exists():
            ours = (_LOCK, f".{_HEAD}.")  # of a process that was killed, or has just begun
            if any(not entry.name.startswith(ours) for entry in path.iterdir()):
                raise RunError(f"{path}: is not empty and holds no run; choose another `run`")
        path.mkdir(exist_ok=True)
        sync_folder(path.absolute().parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be made: {error.strerror or error}") from None


def _begin(path: Path, made_of: MadeOf, *, force: bool) -> None:
    """Clear what a finished run left; an unfinished one is not touched, nor one of another model.

    A process that is killed here leaves either the finished run, though without what it measured,
    or the new one.
    """
    head = path / _HEAD
    if head.exists() and not (path / _END).exists():
        raise RunError(
            f"{path}: holds a run that is not finished: go on with `resume`, choose another `run`, "
            "or delete the folder"
        )
    if head.exists() and not force:
        _check_model(path, made_of)
    _remove(path, *_MEASURED, *_FOUND)
    write(path / _HEAD, made_of, NO_RUN)


def _check_model(path: Path, now: MadeOf) -> None:
    """Refuse to put a run in the place of one of another model: its name was taken by mistake."""
    before = _made_of_or_none(path)
    if before is not None and before.measured.get("model") != now.measured.get("model"):
        raise RunError(
            f"{path}: holds the finished run of another model: choose another `run`, or replace "
            "it with `force`"
        )


def _made_of_or_none(path: Path) -> MadeOf | None:
    """What a run is made of; None if its head cannot be read: there is nothing to keep, then."""
    try:
        return made_of(path)
    except RunError:
        return None


def _remove(path: Path, *names: str) -> None:
    try:
        for name in names:
            (path / name).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{path / name}: cannot be deleted: {reason}; {_ANEW}") from None


def _go_on(path: Path, now: MadeOf, *, force: bool) -> MadeOf:
    """Take up the run that is there; what other judging settings led to is removed first.

    A process that is killed here leaves the head as it was: the next one removes the rest.

    Returns:
        The same with every kind of processor that parts of the run were, or will be, measured on.
    """
    before = made_of(path)
    there = before.processors
    new = tuple(here for here in now.processors if here not in there)
    _check_same(path, before.measured, now.measured)
    if there and new and not force:
        one, other = there[-1].beside(new[0]), new[0].beside(there[-1])
        raise RunError(
            f"{path}: was measured on another kind of processor (there: {one}; here: {other}), "
            "whose kernels give other bits: go on there; or here, with `force`; or choose another "
            "`run` to start anew"
        )
    judged = before.judged if before.judged == now.judged else now.judged
    now = replace(before, judged=judged, processors=(*there, *new))
    if judged is not before.judged:
        _remove(path, _END, *_FOUND)
    if judged is not before.judged or new:
        write(path / _HEAD, now, NO_RUN)
    return now


def _check_same(path: Path, before: Identity, now: Identity) -> None:
    """Refuse to go on with a run that was made of something else, and name what has changed."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        shown = "; ".join(_difference(name, before.get(name), now.get(name)) for name in changed)
        raise RunError(f"{path}: this run was made of something else: {shown}; {_ANEW}")


def _difference(name: str, before: object, now: object) -> str:
    if any(isinstance(value, str) and len(value) == 64 for value in (before, now)):
        return f"the {name} has changed"  # a fingerprint says nothing to a reader
    named = f"`{name[2:].replace('-', '_')}`" if name.startswith("--") else name
    return f"{named} was {_text(before)}, now {_text(now)}"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
