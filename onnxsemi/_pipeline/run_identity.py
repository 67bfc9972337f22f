"""A run of ``compress``: where it is kept, what it is made of, and how long it may take."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onnxsemi._atomic_file import check_writable
from onnxsemi._errors import BudgetError, RunError, SettingsError
from onnxsemi._field_types import check_argument
from onnxsemi._model.loader import Model
from onnxsemi._option import Decides, values_of
from onnxsemi._pipeline.companions import check_companion
from onnxsemi._pipeline.output import check_output, plan_path
from onnxsemi._pipeline.preparation import Prepared
from onnxsemi._plan.bitwidth import shown
from onnxsemi._progress import Progress, warn
from onnxsemi._run.folder import Identity, MadeOf, RunFolder, nowhere, open_run
from onnxsemi._run.spent import Spent
from onnxsemi._runtime.processor import Processor
from onnxsemi._runtime.providers import build
from onnxsemi._settings import Pin, RunOptions, Settings

_ENGINES = ("onnxsemi", "onnx", "onnxruntime", "numpy", "scipy")


def check_places(
    settings: Settings, output: str | os.PathLike[str], model: Model, *inputs: object
) -> Path:
    """Where to write: refuse a place that the output, its plan or the run's folder cannot have.

    Args:
        settings: What the user set.
        output: Where the model is to be.
        model: The float model.
        inputs: The images: neither they nor the model are written over.

    Raises:
        OnnxSemiError: With the place.
    """
    check_argument("settings", settings, Settings)
    check_argument("output", output, str, os.PathLike)
    target = Path(output)
    check_output(target, model, *inputs)
    check_writable(plan_path(target))
    check_companion(settings, target)
    check_folder(settings.run, target, plan_path(target))
    return target


def check_folder(options: RunOptions, *outputs: Path) -> None:
    """Refuse a run's folder in which, or in whose place, an output is to be written.

    Raises:
        RunError: With the output.
        SettingsError: If a run is to be taken up again that has no folder.
    """
    if options.folder is None:
        if options.resume:
            raise SettingsError("`resume` needs the folder of the run: `run`")
        return
    check_outside(Path(options.folder), *outputs)


def check_outside(run: Path, *outputs: Path) -> None:
    """Refuse an output that would be written in a run's folder, or in its place.

    Raises:
        RunError: With the output.
    """
    folder = run.absolute()
    for output in outputs:
        if folder in (output.absolute(), *output.absolute().parents):
            raise RunError(
                f"{run}: is the run's folder, so {output} cannot be written there; "
                "choose another `run` or another output"
            )


def open_run_of(
    options: RunOptions, made_of: MadeOf, *, force: bool = False, began: Spent | None = None
) -> AbstractContextManager[RunFolder]:
    """The run's folder, for as long as the run takes."""
    if options.folder is None:
        return nullcontext(nowhere(made_of, began))
    folder, resume = Path(options.folder), options.resume
    return open_run(folder, made_of, resume=resume, force=force, began=began)


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
    """Says when what is under way has to end, so that the result is there when the time is over.

    Attributes:
        budget: Seconds for everything; None for no limit.
        after: Seconds that what follows the search is likely to take.
        rounding: Seconds that rounding a plan is.
        rounds_again: Whether the best plan so far has to be rounded again to be written.
    """

    def __init__(self, budget: float | None, now: Callable[[], float] = time.monotonic) -> None:
        """Begin to count."""
        self.budget, self.after, self.rounding, self.rounds_again = budget, 0.0, 0.0, False
        self._now, self._began, self._stopped = now, now(), False

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._now() - self._began

    @property
    def ended(self) -> bool:
        """Whether it has to end."""
        if self.budget is None or self._stopped:
            return False
        return self.elapsed + self.after + self.rounds_again * self.rounding >= self.budget

    def stop(self) -> None:
        """Let what follows take its time: it was counted in."""
        self._stopped = True


class Limited:
    """Progress that breaks off what is under way when the time has ended: between any two steps.

    What is broken off is no answer, and is not recorded: a run that is taken up again measures it.
    """

    def __init__(self, progress: Progress, clock: Clock) -> None:
        """Tell ``progress``, ask ``clock``."""
        self._progress, self._clock = progress, clock

    def start(self, phase: str, total: int) -> None:
        """Pass on the start of a phase."""
        self._progress.start(phase, total)

    def step(self, detail: str, amount: int = 1) -> None:
        """Pass on a step, or what was done within one.

        Raises:
            BudgetError: If the time has ended.
        """
        self._progress.step(detail, amount)
        if self._clock.ended:
            raise BudgetError(
                f"the time budget of {self._clock.budget:g} seconds ended before anything could be "
                "compressed: go on with `resume`, or give more time"
            )

    def best(self, compression: float, share: float, measured: str) -> None:
        """Pass on a new best."""
        self._progress.best(compression, share, measured)

    def warn(self, warning: str) -> None:
        """Pass on a warning."""
        warn(self._progress, (warning,))


def made_of(prepared: Prepared) -> MadeOf:
    """Everything that decides what a run gives, and which part of it only judges."""
    settings = _as_measured(prepared)
    measured = {
        "model": prepared.classifier.fingerprint,
        "calibration data": prepared.search.fingerprint(),
        "labels": "given" if prepared.has_labels else "the float model's own answers",
        **_settings(settings, Decides.MEASUREMENTS),
        "--bits": tuple(map(shown, settings.search.bits)),
        **_kernels(settings),
        **{engine: _version(engine) for engine in _ENGINES},
    }
    judged = {"test data": prepared.report.fingerprint(), **_settings(settings, Decides.CHOICE)}
    if prepared.metric_id is not None:
        judged["metric"] = prepared.metric_id
    return MadeOf(measured, judged, (Processor.here(settings.runs_on),))


def identity(prepared: Prepared) -> Identity:
    """Everything that decides what a run gives: model, images, settings, versions."""
    made = made_of(prepared)
    return {**made.measured, **made.judged}


def _as_measured(prepared: Prepared) -> Settings:
    """The settings with what they came to in place of what follows from others."""
    settings = prepared.settings
    return replace(
        settings,
        search=replace(settings.search, tries=settings.search.most_tries),
        scheme=settings.grids,
        rounding=settings.rounds,
        delta_loss_samples=len(prepared.delta_loss),
        calibration_samples=len(prepared.calibration),
        rounding_samples=len(prepared.rounding),
    )


def _settings(settings: Settings, decides: Decides) -> Identity:
    """Flag -> value of the settings that decide one thing, as JSON has it."""
    return {
        each.flag: _plain(value) for each, value in values_of(settings) if each.decides is decides
    }


def _version(engine: str) -> str:
    return build() if engine == "onnxruntime" else version(engine)


def _kernels(settings: Settings) -> Identity:
    """The same of what decides which kernels run, where it is not the default."""
    return {
        each.flag: _plain(value)
        for each, value in values_of(settings)
        if each.decides is Decides.KERNELS and value != each.default
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(each) for each in value)
    if isinstance(value, StrEnum):
        return value.value
    return str(value) if isinstance(value, Pin) else value
