"""Ranges of activations, by ONNX Runtime's own calibrators."""

import io
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from onnxsemi._atomic_file import temporary_folder
from onnxsemi._errors import ModelError, one_line
from onnxsemi._runtime.sessions import REFUSALS, single_threaded

ActivationRanges = dict[str, tuple[float, float]]
Feeds = dict[str, NDArray[Any]]


class Calibration(StrEnum):
    """How a tensor's range follows from its values on the calibration images."""

    MINMAX = "minmax"
    """From the smallest to the largest value."""
    ENTROPY = "entropy"
    """The range that loses least information (KL divergence of histograms)."""
    PERCENTILE = "percentile"
    """All but the outermost 0.001 % of the values."""


def activation_ranges(
    model: onnx.ModelProto, batches: Iterable[Feeds], method: Calibration
) -> ActivationRanges:
    """Smallest and largest value to represent, of every float tensor that a node gives or takes.

    Args:
        model: Float32 model.
        batches: Inputs by name; histograms depend on how images are batched.
        method: Which calibrator.

    Raises:
        ModelError: If ONNX Runtime cannot calibrate the model.
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator  # noqa: PLC0415 slow

    methods = {
        Calibration.MINMAX: CalibrationMethod.MinMax,
        Calibration.ENTROPY: CalibrationMethod.Entropy,
        Calibration.PERCENTILE: CalibrationMethod.Percentile,
    }
    said = redirect_stdout(io.StringIO())  # a calibrator prints a line for every batch
    with temporary_folder() as folder, said:
        path, augmented = Path(folder) / "model.onnx", Path(folder) / "augmented.onnx"
        onnx.save(model, path)
        try:
            calibrator = create_calibrator(
                path, augmented_model_path=str(augmented), calibrate_method=methods[method]
            )
            # one thread: the same bits on every machine
            options = single_threaded()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            calibrator.infer_session = ort.InferenceSession(
                str(augmented), options, ["CPUExecutionProvider"]
            )
            for feeds in batches:  # one at a time: a calibrator keeps all that it is given at once
                calibrator.collect_data(_One(feeds))
            data = calibrator.compute_data()
        except REFUSALS as error:
            raise ModelError(
                f"ONNX Runtime cannot calibrate the model: {one_line(error)}"
            ) from error
    ranges = {name: found.range_value for name, found in data.items()}  # of one value, any rank
    return {name: (float(np.min(low)), float(np.max(up))) for name, (low, up) in ranges.items()}


class _One:
    """A data reader of one batch; calibrators only ask for ``get_next``."""

    def __init__(self, feeds: Feeds) -> None:
        self._batches: Iterator[Feeds] = iter([feeds])

    def get_next(self) -> Feeds | None:
        return next(self._batches, None)
