"""``bench``: how fast models run and load, side by side.

Latencies are taken in turn: every round runs each model once, in an order that changes from round
to round, and a ratio is the median of the ratios within the rounds. So what else the machine does
falls on all of them alike. Load time and memory are taken in fresh processes, in turn too.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from onnxsemi._errors import ModelError, SettingsError, one_line
from onnxsemi._field_types import check_argument
from onnxsemi._model.loader import file_bytes
from onnxsemi._progress import Progress
from onnxsemi._progress_callback import Listener, listening
from onnxsemi._results.timings import BenchResult, BenchRow, TimeSpread
from onnxsemi._runtime.runner import worker_threads
from onnxsemi._runtime.sessions import REFUSALS, InferenceSession, noise_feeds, open_session
from onnxsemi._settings import BenchSettings

_WARM_UP = 2


@dataclass(frozen=True)
class _Contender:
    """A model, opened in one way."""

    path: Path
    fold: bool
    session: InferenceSession

    @classmethod
    def opened(cls, path: Path, threads: int, *, fold: bool) -> "_Contender":
        return cls(path, fold, open_session(path, threads=threads, fold=fold))

    def feeds(self, batch: int) -> dict[str, NDArray[Any]]:
        try:
            return noise_feeds(self.session, batch)
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None


def bench(
    models: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    settings: BenchSettings | None = None,
    progress: Listener | None = None,
) -> BenchResult:
    """Time models against the first, in default sessions and as ``load_session`` opens them.

    Args:
        models: ONNX files with one input of floating point numbers; the first is what the others
            are compared with. Or a single one.
        settings: What to time.
        progress: Told where the work is.

    Raises:
        ModelError: If a model cannot be loaded or run.
        SettingsError: If there is no model.
    """
    models = [models] if isinstance(models, str | os.PathLike) else models
    if not models:
        raise SettingsError("bench needs at least one model")
    settings, progress = settings or BenchSettings(), listening(progress)
    check_argument("settings", settings, BenchSettings)
    count, rounds, batches = worker_threads(settings.threads), settings.rounds, settings.batches
    loadings = settings.load_rounds or rounds
    contenders = [
        _Contender.opened(Path(model), count, fold=fold)
        for model in models
        for fold in (False, True)
    ]
    feeds = [[contender.feeds(batch) for contender in contenders] for batch in batches]
    latencies = []
    for batch, given in zip(batches, feeds, strict=True):
        progress.start(f"latency, batch {batch}", rounds)
        latencies.append(_latencies(contenders, given, rounds, progress))
    progress.start("load time and memory", loadings)
    loads, peaks = _loads(contenders, count, loadings, progress)
    rows = tuple(
        BenchRow(
            model=contender.path,
            folded=contender.fold,
            file_bytes=file_bytes(contender.path),
            load=_spread(loads, place),
            peak_bytes=int(np.median(peaks[:, place])),
            latency=tuple(_spread(times, place) for times in latencies),
        )
        for place, contender in enumerate(contenders)
    )
    return BenchResult(threads=count, rounds=rounds, batches=batches, rows=rows)


class _Load(msgspec.Struct, frozen=True):
    """What :mod:`onnxsemi._pipeline.load_probe` prints."""

    seconds: float
    peak_bytes: int


def _latencies(
    contenders: Sequence[_Contender],
    feeds: Sequence[dict[str, NDArray[Any]]],
    rounds: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """Seconds of a run: float64[rounds, contenders]."""
    seconds = np.zeros((rounds, len(contenders)))
    try:
        for number in range(-_WARM_UP, rounds):
            for place in _turn(len(contenders), number):
                began = time.perf_counter()
                contenders[place].session.run(None, feeds[place])
                if number >= 0:
                    seconds[number, place] = time.perf_counter() - began
            if number >= 0:
                progress.step(f"round {number + 1}")
    except REFUSALS as error:
        path = contenders[place].path
        raise ModelError(f"{path}: ONNX Runtime cannot run it: {one_line(error)}") from error
    return seconds


def _loads(
    contenders: Sequence[_Contender], threads: int, rounds: int, progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds to load, bytes at the peak of loading and one run: float64[rounds, contenders]."""
    seconds, peaks = np.zeros((2, rounds, len(contenders)))
    for number in range(rounds):
        for place in _turn(len(contenders), number):
            contender = contenders[place]
            arguments = [contender.path, threads, int(contender.fold)]
            command = [sys.executable, "-m", "onnxsemi._pipeline.load_probe", *map(str, arguments)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if ran.returncode:
                reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise ModelError(f"{contender.path}: loading it in a process failed: {reason}")
            found = msgspec.json.decode(ran.stdout, type=_Load)
            seconds[number, place], peaks[number, place] = found.seconds, found.peak_bytes
        progress.step(f"round {number + 1}")
    return seconds, peaks


def _turn(count: int, number: int) -> list[int]:
    """The order of a round: each begins with another, every second goes backwards."""
    order = [(place + number) % count for place in range(count)]
    return order[::-1] if number % 2 else order


def _spread(seconds: NDArray[np.float64], place: int) -> TimeSpread:
    low, median, high = np.quantile(seconds[:, place], (0.25, 0.5, 0.75))
    ratio_low, ratio, ratio_high = np.quantile(seconds[:, place] / seconds[:, 0], (0.25, 0.5, 0.75))
    return TimeSpread(
        seconds=float(median),
        quartiles=(float(low), float(high)),
        ratio=float(ratio),
        ratio_quartiles=(float(ratio_low), float(ratio_high)),
    )
