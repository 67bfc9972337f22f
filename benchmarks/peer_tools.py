"""Quantize a model with one tool, in an environment that has that tool alone.

    python peer_tools.py METHOD MODEL IMAGES OUTPUT

Needs the tool, onnx, onnxruntime and numpy, not onnxsemi. ``IMAGES`` is an .npz file with ``x``,
float32[N, ...] as the model takes them, and ``y``, int64[N]. One JSON document on standard output:
the tool's version, CPU seconds, and the peak of memory in bytes.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter

CALIBRATED = 300
"""Images that ranges are calibrated on: NNCF's default, and of the order that all others name."""
DROP = 0.005
"""Top-1 that may be lost where a tool asks for that: half a point, as the default here."""


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be quantized.

    Attributes:
        model: The float file.
        x: float32[N, ...], images.
        y: int64[N], labels.
        output: Where to.
    """

    model: Path
    x: Any
    y: Any
    output: Path

    @property
    def name(self) -> str:
        """Name of the input."""
        return str(onnx.load(self.model).graph.input[0].name)

    def feeds(self, count: int = CALIBRATED, batch: int = 1) -> list[dict[str, Any]]:
        """Some images, a few at a time."""
        shown = self.x[:count]
        return [{self.name: shown[i : i + batch]} for i in range(0, len(shown), batch)]

    def accuracy(self, session: Any) -> float:
        """Top-1 of a session on all images."""
        right = 0
        for start in range(0, len(self.x), 50):
            part = {self.name: self.x[start : start + 50]}
            answers = session.run(None, part)[0].argmax(axis=1)
            right += int((answers == self.y[start : start + 50]).sum())
        return right / len(self.x)


def main() -> None:
    """Run one method."""
    method, model, images, output = sys.argv[1:]
    loaded = np.load(images)
    job = Job(Path(model), loaded["x"], loaded["y"], Path(output))
    package, run = METHODS[method]
    begun = time.process_time()
    run(job)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() - begun + children.ru_utime + children.ru_stime
    print(json.dumps({"version": version(package), "cpu_seconds": spent, "peak_bytes": used}))


class _Reader:
    """The images, as ONNX Runtime's calibrators and Quark's take them."""

    def __init__(self, job: Job) -> None:
        self._feeds = iter(job.feeds())

    def get_next(self) -> dict[str, Any] | None:
        """The next image; None after the last."""
        return next(self._feeds, None)


def _ort_static(job: Job) -> None:
    """QDQ, a scale a channel, weights on 7 bits as processors without VNNI need."""
    from onnxruntime.quantization import (  # noqa: PLC0415  only one tool is there
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    CalibrationDataReader.register(_Reader)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(job.model), str(prepared))
        quantize_static(
            prepared,
            job.output,
            _Reader(job),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _ort_dynamic(job: Job) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    quantize_dynamic(job.model, job.output, weight_type=QuantType.QUInt8)


def _nncf_ptq(job: Job) -> None:
    import nncf  # noqa: PLC0415

    quantized = nncf.quantize(
        onnx.load(job.model),
        nncf.Dataset(job.feeds()),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=CALIBRATED,
        fast_bias_correction=False,
    )
    onnx.save(quantized, job.output)


def _nncf_accuracy(job: Job) -> None:
    import nncf  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    def validate(model: onnx.ModelProto, items: Any) -> tuple[float, None]:
        del items  # all images at once
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return job.accuracy(session), None

    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(job.model),
        calibration_dataset=nncf.Dataset(job.feeds()),
        validation_dataset=nncf.Dataset(job.feeds()),
        validation_fn=validate,
        max_drop=DROP,
        preset=nncf.QuantizationPreset.MIXED,
    )
    onnx.save(quantized, job.output)


def _nncf_weights(job: Job) -> None:
    import nncf  # noqa: PLC0415

    onnx.save(nncf.compress_weights(onnx.load(job.model)), job.output)


def _simplified(job: Job) -> onnx.ModelProto:
    """The model in opset 21, which weights of 4 bits need, its constants computed."""
    import onnxsim  # noqa: PLC0415

    newer = onnx.version_converter.convert_version(onnx.load(job.model), 21)
    simplified: onnx.ModelProto = onnxsim.simplify(newer)[0]
    return simplified


def _sim(job: Job, weights: str) -> Any:
    from aimet_onnx import QuantizationSimModel  # noqa: PLC0415

    return QuantizationSimModel(
        _simplified(job), param_type=weights, activation_type="int8", config_file="htp_v73"
    )


def _exported(job: Job, sim: Any) -> None:
    sim.compute_encodings(job.feeds(batch=10))
    onnx.save(sim.to_onnx_qdq(prequantize_constants=True), job.output)


def _aimet_seq_mse(job: Job, weights: str = "int4") -> None:
    from aimet_onnx import apply_seq_mse  # noqa: PLC0415

    sim = _sim(job, weights)
    apply_seq_mse(sim, job.feeds(batch=50))
    _exported(job, sim)


def _aimet_adaround(job: Job) -> None:
    from aimet_onnx import apply_adaround  # noqa: PLC0415

    sim = _sim(job, "int4")
    apply_adaround(sim, job.feeds(batch=50), num_iterations=2000)
    _exported(job, sim)


def _aimet_mixed(job: Job) -> None:
    """Weights of 4 or 8 bits, as far as top-1 on the images holds."""
    import onnxruntime  # noqa: PLC0415
    from aimet_onnx import int4, int8  # noqa: PLC0415
    from aimet_onnx.mixed_precision import (  # noqa: PLC0415
        analyze_mixed_precision_sensitivity,
        apply_amp,
    )

    sim = _sim(job, "int8")
    few = Job(job.model, job.x[:CALIBRATED], job.y[:CALIBRATED], job.output)

    whole = job.accuracy(onnxruntime.InferenceSession(job.model))
    found = analyze_mixed_precision_sensitivity(
        sim, [(int8, int8), (int4, int8)], few.accuracy, job.feeds(batch=10)
    )
    apply_amp(sim, found, lambda session: job.accuracy(session) >= whole - DROP)
    _exported(job, sim)


def _quark(job: Job, config: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader  # noqa: PLC0415
    from quark.onnx import ModelQuantizer  # noqa: PLC0415
    from quark.onnx.quantization.config import Config, get_default_config  # noqa: PLC0415

    CalibrationDataReader.register(_Reader)
    settings = Config(global_quant_config=get_default_config(config))
    ModelQuantizer(settings).quantize_model(str(job.model), str(job.output), _Reader(job))


def _modelopt(job: Job) -> None:
    """Weights stored as int8: otherwise the file has them as float32, for TensorRT to round."""
    from modelopt.onnx.quantization import quantize  # noqa: PLC0415

    quantize(
        str(job.model),
        quantize_mode="int8",
        calibration_data={job.name: job.x[:CALIBRATED]},
        calibration_method="entropy",
        calibration_eps=["cpu"],
        output_path=str(job.output),
        high_precision_dtype="fp32",
        dq_only=True,
    )


def _onnxsim_static(job: Job) -> None:
    import onnxsim  # noqa: PLC0415

    onnx.save(onnxsim.quantize_static(_simplified(job), job.feeds(), full_graph=True), job.output)


def _onnxsim_weights(job: Job) -> None:
    """Simplified again: the tool leaves the float32 weights in the file."""
    import onnxsim  # noqa: PLC0415

    onnx.save(onnxsim.simplify(onnxsim.quantize_weight_only(_simplified(job)))[0], job.output)


def _onnxsim_int4(job: Job) -> None:
    """Blocks of 32 weights, rounded with GPTQ where the tool does that; int8 where none fit."""
    import onnxsim  # noqa: PLC0415

    model = _simplified(job)
    blocks = onnxsim.quantize_weight_only_int4(model)
    rounded = onnxsim.apply_gptq(model, blocks, job.feeds())
    onnx.save(onnxsim.simplify(onnxsim.quantize_weight_only(rounded))[0], job.output)


METHODS: dict[str, tuple[str, Callable[[Job], None]]] = {
    "ort-static": ("onnxruntime", _ort_static),
    "ort-dynamic": ("onnxruntime", _ort_dynamic),
    "nncf-ptq": ("nncf", _nncf_ptq),
    "nncf-accuracy": ("nncf", _nncf_accuracy),
    "nncf-weights": ("nncf", _nncf_weights),
    "aimet-int8": ("aimet-onnx", lambda job: _exported(job, _sim(job, "int8"))),
    "aimet-seqmse": ("aimet-onnx", _aimet_seq_mse),
    "aimet-adaround": ("aimet-onnx", _aimet_adaround),
    "aimet-mixed": ("aimet-onnx", _aimet_mixed),
    "quark-int8": ("amd-quark", lambda job: _quark(job, "XINT8")),
    "quark-adaround": ("amd-quark", lambda job: _quark(job, "XINT8_ADAROUND")),
    "modelopt-int8": ("nvidia-modelopt", _modelopt),
    "onnxsim-static": ("onnxsim", _onnxsim_static),
    "onnxsim-weights": ("onnxsim", _onnxsim_weights),
    "onnxsim-int4": ("onnxsim", _onnxsim_int4),
}

if __name__ == "__main__":
    main()
