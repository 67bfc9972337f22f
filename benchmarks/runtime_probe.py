"""Run emitted files in one runtime and compare them with what they must give.

    python runtime_probe.py FOLDER onnxruntime|openvino|reference

Needs the runtime, onnx and numpy, not onnxsemi: older runtimes know nothing of it. The folder
holds ``*.onnx``, and for each ``<stem>.npz`` with ``images``, ``wanted`` (logits that the file must
give) and ``allowed`` (root mean square that they may differ by). One JSON document on standard
output: version, for each file "agrees" or what is wrong, and, of ONNX Runtime, how many layers of a
file became integer kernels, and which operators that only unpack a default session leaves.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
UNPACKING = {"BitShift", "BitwiseAnd", "BitwiseOr", "CumSum", "ScatterElements"}
Run = Callable[[Path, Any], Any]


def main() -> None:
    """Compare every file of a folder."""
    folder, runtime = Path(sys.argv[1]), sys.argv[2]
    version, run = RUNTIMES[runtime]()
    files = sorted(folder.glob("*.onnx"))
    found = {path.stem: _outcome(path, run) for path in files}
    ours = [path for path in files if runtime == "onnxruntime" and found[path.stem] == "agrees"]
    fused = {path.stem: _count(path) for path in ours}
    left = {path.stem: _left(path) for path in ours}
    print(json.dumps({"version": version, "found": found, "fused": fused, "left": left}))


def _outcome(path: Path, run: Run) -> str:
    case = np.load(path.with_suffix(".npz"))
    try:
        logits = run(path, case["images"])
    except Exception as error:  # noqa: BLE001  whatever the runtime has against it
        return f"fails: {str(error).splitlines()[0][:200]}"
    difference = float(np.sqrt(np.mean(np.square(logits - case["wanted"], dtype=np.float64))))
    if not difference <= float(case["allowed"]):
        return (
            f"differs by {difference:.3g} (root mean square), {float(case['allowed']):.3g} may be"
        )
    return "agrees"


def _onnxruntime() -> tuple[str, Run]:
    import onnxruntime  # noqa: PLC0415  only one of them is there

    def run(path: Path, images: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: images})[0]

    return onnxruntime.__version__, run


def _count(path: Path) -> int:
    """Layers that run on integer kernels, in a session before its layout is fitted."""
    return sum(operator in KERNELS for operator in _operators(path, extended_only=True))


def _left(path: Path) -> list[str]:
    """Operators of a default session that only unpack weights."""
    return sorted(UNPACKING.intersection(_operators(path, extended_only=False)))


def _operators(path: Path, *, extended_only: bool) -> list[str]:
    """What a session runs, by what it writes of itself."""
    import onnx  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if extended_only:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath).graph
    return [str(node.op_type) for node in graph.node]


def _openvino() -> tuple[str, Run]:
    import openvino  # noqa: PLC0415

    core = openvino.Core()

    def run(path: Path, images: Any) -> Any:
        compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return compiled([images])[0]

    return openvino.__version__.split("-")[0], run


def _reference() -> tuple[str, Run]:
    import onnx  # noqa: PLC0415
    from onnx import version_converter  # noqa: PLC0415
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    def run(path: Path, images: Any) -> Any:
        model = onnx.load(path)
        if model.opset_import[0].version < 20:
            model = version_converter.convert_version(model, 20)
        return ReferenceEvaluator(model).run(None, {model.graph.input[0].name: images})[0]

    return onnx.__version__, run


RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino, "reference": _reference}

if __name__ == "__main__":
    main()
