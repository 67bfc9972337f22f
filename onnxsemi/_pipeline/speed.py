"""How fast the written file runs, beside the float model: what ``compress --bench`` adds."""

from dataclasses import replace
from pathlib import Path

from onnxsemi._errors import ModelError
from onnxsemi._pipeline.bench import bench
from onnxsemi._progress import Progress, warn
from onnxsemi._results.results import CompressResult
from onnxsemi._settings import BenchSettings

_TIMES = BenchSettings(batches=(1,), rounds=21, load_rounds=3)
"""Latency takes little and varies; loading takes a process each time. ``bench`` has more of it."""


def timed(result: CompressResult, model: Path | None, progress: Progress) -> CompressResult:
    """The result with the times of both models: one image at a time, on one thread.

    The file is there already, so that a model that cannot be timed is a warning and no error.

    Args:
        result: Of the written file.
        model: The float model; None if it was in memory.
        progress: Told where the work is.
    """
    try:
        if model is None:
            raise ModelError("the float model is in memory: give its path")
        speed = bench([model, result.output], settings=_TIMES, progress=progress)
    except ModelError as error:
        said = f"speed was not measured: {error}"
        warn(progress, (said,))
        return replace(result, warnings=(*result.warnings, said))
    return replace(result, speed=speed)
