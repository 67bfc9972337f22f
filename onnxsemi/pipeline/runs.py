"""A run of ``compress``: where it is kept, what it is made of, and how long it may take."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnxsemi.errors import BudgetError, RunError
from onnxsemi.pipeline.prepare import Prepared
from onnxsemi.processor import Processor
from onnxsemi.progress import Progress
from onnxsemi.run.folder import Identity, MadeOf, RunFolder, nowhere, open_run
from onnxsemi.settings import RunOptions

# groups of settings, what the fingerprints of the images cover, and what changes no result
_LEFT_OUT = {
    *("search", "model", "data", "pins", "run", "rounding"),
    *("search_samples", "report_fraction", "delta_loss_samples", "calibration_samples"),
    *("rounding_samples",),
    *("threads", "max_memory", "report_labels", "allow_loss", "force", "bench"),
}
_JUDGES = ("--max-drop", "--tolerance", "--guarantee")
"""Settings that say which of the measured plans are good enough, and change no measurement."""

_ENGINES = ("onnxsemi", "onnx", "onnxruntime", "numpy", "scipy")


def check_folder(options: RunOptions, *outputs: Path) -> None:
    """Refuse a run's folder in which, or in whose place, an output is to be written.

    Raises:
        RunError: With the output.
    """
    if options.folder is None:
        return
    folder = Path(options.folder).absolute()
    for output in outputs:
        if folder in (output.absolute(), *output.absolute().parents):
            raise RunError(
                f"{options.folder}: is the run's folder, so {output} cannot be written there; "
                "choose another `run` or another output"
            )


def opened(
    options: RunOptions, made_of: MadeOf, *, force: bool = False
) -> AbstractContextManager[RunFolder]:
    """The run's folder, for as long as the run takes."""
    if options.folder is None:
        return nullcontext(nowhere(made_of.processors))
    return open_run(Path(options.folder), made_of, resume=options.resume, force=force)


def one_processor(run: RunFolder) -> Processor | None:
    """The kind of processor that all of a run was measured on; None if there were several."""
    return run.processors[0] if len(run.processors) == 1 else None


def mixed(run: RunFolder) -> tuple[str, ...]:
    """What is to be said of a run that was measured on several kinds of processors."""
    if len(run.processors) <= 1:
        return ()
    first, last = run.processors[0], run.processors[-1]
    return (
        "parts of this run were measured on another kind of processor, whose kernels give other "
        f"bits ({first.beside(last)}, then {last.beside(first)}): run anew on either kind, the "
        "same command may end in other bytes",
    )


class Clock:
    """Says when the time budget has ended."""

    def __init__(self, seconds: float | None) -> None:
        """Begin to count; None never ends."""
        self.budget = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def ended(self) -> bool:
        """Whether the time is over."""
        return self._end is not None and time.monotonic() >= self._end


class Limited:
    """Progress that breaks off when the time has ended: before a search there is no best so far."""

    def __init__(self, progress: Progress, clock: Clock) -> None:
        """Tell ``progress``, ask ``clock``."""
        self._progress, self._clock = progress, clock

    def start(self, phase: str, total: int) -> None:
        """Pass on the start of a phase."""
        self._progress.start(phase, total)

    def step(self, detail: str, amount: int = 1) -> None:
        """Pass on a step.

        Raises:
            BudgetError: If the time has ended; not within a step.
        """
        self._progress.step(detail, amount)
        if amount and self._clock.ended:
            raise BudgetError(
                f"the time budget of {self._clock.budget:g} seconds ended before the search began: "
                "go on with `resume`, or give more time"
            )

    def best(self, compression: float, share: float, measured: str) -> None:
        """Pass on a new best."""
        self._progress.best(compression, share, measured)


def made_of(prepared: Prepared) -> MadeOf:
    """Everything that decides what a run gives, and which part of it only judges."""
    parts = dict(identity(prepared))
    judged = {name: parts.pop(name) for name in (*_JUDGES, "test data", "metric") if name in parts}
    return MadeOf(parts, judged, (Processor.here(),))


def identity(prepared: Prepared) -> Identity:
    """Everything that decides what a run gives: model, images, settings, versions."""
    settings = prepared.settings
    chosen = _values(settings) | _values(settings.search) | _values(settings.model)
    chosen["--rounding"] = None  # from minimum to maximum, to the nearest level
    if settings.rounds is not None:
        how = _values(settings.rounds)
        chosen |= {"--rounding": how.pop("--method"), **how}
    parts: dict[str, Any] = {
        "model": prepared.classifier.fingerprint,
        "calibration data": prepared.search.fingerprint(),
        "test data": prepared.report.fingerprint(),
        "labels": "given" if prepared.has_labels else "the float model's own answers",
        "--delta-loss-samples": len(prepared.delta_loss),
        "--calibration-samples": len(prepared.calibration),
        "--rounding-samples": len(prepared.rounding),
        "--scheme": settings.grids.value,
        "--pin": [f"{pin.pattern}={pin.bits}" for pin in settings.pins],
    }
    if prepared.metric_id is not None:
        parts["metric"] = prepared.metric_id
    return chosen | parts | {engine: version(engine) for engine in _ENGINES}


def _values(settings: Any) -> dict[str, Any]:
    """Plain settings by the name of their flag; what changes no result is left out."""
    names = [item.name for item in fields(settings) if item.name not in _LEFT_OUT]
    return {f"--{name.replace('_', '-')}": _plain(getattr(settings, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
