"""Run emitted files in one runtime and compare them with what they must give.

    python runtime_probe.py FOLDER onnxruntime|openvino|reference|opencv|tract|mnn|ncnn|litert

Needs the runtime, onnx and numpy, not onnxsemi: older runtimes know nothing of it. The folder
holds ``*.onnx``, and for each ``<stem>.npz`` with ``images``, ``wanted`` (logits that the file must
give), ``allowed`` (root mean square that they may differ by), ``window`` (seconds that its latency
is measured for; 0 for none) and ``ends`` (names of input and output). Each file is run in a process
of its own, as a runtime may end it. One JSON document on standard output: version, and for each
file

    outcome     "agrees", or what is wrong
    error       root mean square of the difference, as a share of that of the logits
    load        seconds from the file to a session that is ready (fastest of 3)
    memory      bytes of the process in memory that loading added
    latency     seconds for one image (fastest of those that the window holds)

(both of the processor: what else the machine does is not counted)

    fused       of ONNX Runtime: layers that became integer kernels
    left        of ONNX Runtime: operators that only unpack, which a default session leaves
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from runtime_loaders import LOADERS, Ends, Loader

KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
UNPACKING = {"BitShift", "BitwiseAnd", "BitwiseOr", "CumSum", "ScatterElements", "Floor"}
AGAIN, LIMIT = range(2), 120


def main() -> None:
    """Compare every file of a folder."""
    folder, runtime = Path(sys.argv[1]), sys.argv[2]
    loader = LOADERS[runtime]()
    found = {path.stem: _apart(loader, path, runtime) for path in sorted(folder.glob("*.onnx"))}
    print(json.dumps({"version": loader.version, "found": found}))


def _apart(loader: Loader, path: Path, runtime: str) -> dict[str, Any]:
    """A file's outcome, from a process of its own."""
    ours, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_send, args=(its, loader, path, runtime), daemon=True
    )
    process.start()
    its.close()
    try:
        if not ours.poll(LIMIT):
            return {"outcome": f"fails: no answer in {LIMIT} seconds"}
        found: dict[str, Any] = ours.recv()
    except EOFError:
        process.join()
        return {"outcome": f"fails: it ends the process (exit code {process.exitcode})"}
    finally:
        process.kill()
    return found


def _send(pipe: Any, loader: Loader, path: Path, runtime: str) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)  # converters print what they do
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    found = _outcome(path, loader)
    if runtime == "onnxruntime" and found["outcome"] == "agrees":
        found["fused"] = sum(op in KERNELS for op in _operators(path, extended_only=True))
        found["left"] = sorted(UNPACKING.intersection(_operators(path, extended_only=False)))
    pipe.send(found)


def _outcome(path: Path, loader: Loader) -> dict[str, Any]:
    case = np.load(path.with_suffix(".npz"))
    images, wanted = case["images"], case["wanted"]
    ends = Ends(*map(str, case["ends"]), (1, *images.shape[1:]))
    with tempfile.TemporaryDirectory() as folder:
        try:
            ready = path if loader.convert is None else loader.convert(path, Path(folder), ends)
            before, begun = _memory(), time.process_time()
            run = loader.load(ready, ends)
            spent, held = time.process_time() - begun, _memory() - before
            logits = np.asarray(run(images)).reshape(wanted.shape)
            speed: dict[str, Any] = {}
            if window := float(case["window"]):
                loads = [spent, *(_seconds(lambda: loader.load(ready, ends)) for _ in AGAIN)]
                speed = {"load": min(loads), "memory": held}
                speed["latency"] = _latency(lambda: run(images[:1]), window)
        except Exception as error:  # noqa: BLE001  whatever the runtime has against it
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            return {"outcome": f"fails: {said}"}
    return {**compared(logits, wanted, float(case["allowed"])), **speed}


def compared(logits: Any, wanted: Any, allowed: float) -> dict[str, Any]:
    """Whether logits are what they must be, and how near.

    Args:
        logits: float32[N, K], what a runtime gives.
        wanted: float32[N, K].
        allowed: Root mean square that they may differ by.
    """
    difference, size = _rms(np.subtract(logits, wanted, dtype=np.float64)), _rms(wanted)
    told = f"differs by {difference:.3g} (root mean square), {allowed:.3g} may be"
    agrees = difference <= allowed  # not if it is NaN
    error = difference / size if np.isfinite(difference) else None
    return {"outcome": "agrees" if agrees else told, "error": error}


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _latency(call: Callable[[], Any], window: float) -> float:
    times, until = [_seconds(call)], time.perf_counter() + window
    while time.perf_counter() < until:
        times.append(_seconds(call))
    return min(times)


def _seconds(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def _memory() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _operators(path: Path, *, extended_only: bool) -> list[str]:
    """What a session runs, by what it writes of itself.

    Layers on integer kernels are counted before a session's layout is fitted.
    """
    import onnx  # noqa: PLC0415  others need none of them
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if extended_only:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    return [str(node.op_type) for node in graph.node]


if __name__ == "__main__":
    main()
