"""Run emitted files in one runtime and compare them with what they must give.

    python other_probe.py FOLDER opencv|tract|mnn|ncnn|litert

Needs the runtime, onnx and numpy, not onnxsemi. The folder holds ``*.onnx``, and for each
``<stem>.npz`` with ``images``, ``wanted`` (logits that the file must give) and ``allowed`` (root
mean square that they may differ by). Each file is run in a process of its own, as a runtime may end
it. One JSON document on standard output: version, for each file "agrees" or what is wrong, seconds
to load, bytes of memory after that and seconds for one image on one thread.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RUNS, SECONDS = 9, 120
Run = Callable[[Any], Any]
Load = Callable[[Path], Run]
Convert = Callable[[Path, Path], Path]


def main() -> None:
    """Compare every file of a folder."""
    folder, runtime = Path(sys.argv[1]), sys.argv[2]
    files = sorted(folder.glob("*.onnx"))
    found = {path.stem: _apart(runtime, path) for path in files}
    version, *_ = RUNTIMES[runtime]()
    print(json.dumps({"version": version, "found": found}))


def _apart(runtime: str, path: Path) -> dict[str, Any]:
    """A file's outcome, from a process of its own."""
    ours, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_send, args=(its, runtime, path), daemon=True
    )
    process.start()
    its.close()
    try:
        if not ours.poll(SECONDS):
            return {"outcome": f"fails: no answer in {SECONDS} seconds"}
        found: dict[str, Any] = ours.recv()
    except EOFError:
        process.join()
        return {"outcome": f"fails: it ends the process (exit code {process.exitcode})"}
    finally:
        process.kill()
    return found


def _send(pipe: Any, runtime: str, path: Path) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)  # converters print what they do
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    pipe.send(_outcome(path, *RUNTIMES[runtime]()[1:]))


def _outcome(path: Path, load: Load, convert: Convert | None = None) -> dict[str, Any]:
    case = np.load(path.with_suffix(".npz"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            ready = path if convert is None else convert(path, Path(folder))
            before, begun = _memory(), time.perf_counter()
            run = load(ready)
            spent, held = time.perf_counter() - begun, _memory() - before
            logits = np.asarray(run(case["images"])).reshape(case["wanted"].shape)
            latency = _seconds(lambda: run(case["images"][:1]))
        except Exception as error:  # noqa: BLE001  whatever the runtime has against it
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            return {"outcome": f"fails: {said}"}
    difference = float(np.sqrt(np.mean(np.square(logits - case["wanted"], dtype=np.float64))))
    allowed = float(case["allowed"])
    told = f"differs by {difference:.3g} (root mean square), {allowed:.3g} may be"
    outcome = "agrees" if difference <= allowed else told
    return {"outcome": outcome, "load": spent, "memory": held, "latency": latency}


def _seconds(call: Callable[[], Any]) -> float:
    """Median time of a call."""
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def _memory() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _ends(path: Path) -> tuple[str, str, list[int]]:
    """Names of input and output, and the shape of an image."""
    import onnx  # noqa: PLC0415

    graph = onnx.load(path).graph
    sizes = [axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    return graph.input[0].name, graph.output[0].name, sizes[1:]


def _opencv() -> tuple[str, Load]:
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(1)

    def load(path: Path) -> Run:
        net = cv2.dnn.readNetFromONNX(str(path))

        def run(images: Any) -> Any:
            net.setInput(images)
            return net.forward()

        return run

    return cv2.__version__, load


def _tract() -> tuple[str, Load]:
    from importlib.metadata import version  # noqa: PLC0415

    import tract  # noqa: PLC0415

    def load(path: Path) -> Run:
        shape = ",".join(map(str, [1, *_ends(path)[2]]))
        loaded = tract.onnx().load(str(path))
        loaded.set_input_fact(0, f"{shape},f32")
        loaded.analyse()
        runnable = loaded.into_model().into_runnable()

        def one(image: Any) -> Any:
            return runnable.run([image[None]])[0].to_numpy().ravel()

        return lambda images: np.stack([one(image) for image in images])

    return version("tract"), load


def _mnn() -> tuple[str, Load, Convert]:
    import _tools  # noqa: PLC0415  MNN's, without the command around it, which installs packages
    import MNN  # noqa: PLC0415

    def convert(path: Path, folder: Path) -> Path:
        made = folder / "model.mnn"
        names = "\n".join(_ends(path)[:2])
        command = ["mnnconvert", "-f", "ONNX", "--bizCode", "-", "--modelFile", str(path)]
        _tools.mnnconvert([*command, "--MNNModel", str(made)])
        if not made.exists():
            raise RuntimeError("MNN's converter refuses it")
        (folder / "names").write_text(names)
        return made

    def load(path: Path) -> Run:
        name, output = path.with_name("names").read_text().splitlines()
        threads = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": 1},))
        net = MNN.nn.load_module_from_file(str(path), [name], [output], runtime_manager=threads)

        def run(images: Any) -> Any:
            held = MNN.numpy.array(images)
            given = MNN.expr.const(held.ptr, list(images.shape), MNN.expr.NCHW)
            return np.array(MNN.expr.convert(net.forward([given])[0], MNN.expr.NCHW).read())

        return run

    return MNN.version(), load, convert


def _ncnn() -> tuple[str, Load, Convert]:
    import ncnn  # noqa: PLC0415
    import pnnx  # noqa: PLC0415

    def convert(path: Path, folder: Path) -> Path:
        copied = folder / "model.onnx"
        copied.write_bytes(path.read_bytes())
        shape = ",".join(map(str, [1, *_ends(path)[2]]))
        places = [folder / "bin/pnnx" for folder in Path(pnnx.__file__).parents]
        binary = next(place for place in places if place.exists())
        words = [str(binary), str(copied), f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(words, capture_output=True, cwd=folder, check=False)
        if done.returncode or not (folder / "model.ncnn.bin").exists():
            raise RuntimeError("pnnx refuses it")
        return folder / "model.ncnn"

    def load(path: Path) -> Run:
        net = ncnn.Net()
        net.opt.num_threads = 1
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        net.load_param(f"{path}.param")
        net.load_model(f"{path}.bin")

        def one(image: Any) -> Any:
            running = net.create_extractor()
            running.input("in0", ncnn.Mat(np.ascontiguousarray(image)).clone())
            return np.array(running.extract("out0")[1]).ravel()

        return lambda images: np.stack([one(image) for image in images])

    return ncnn.__version__, load, convert


def _litert() -> tuple[str, Load, Convert]:
    from importlib.metadata import version  # noqa: PLC0415

    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    def convert(path: Path, folder: Path) -> Path:
        copied = folder / path.name  # onnx2tf writes into what it reads
        copied.write_bytes(path.read_bytes())
        words = [sys.executable, "-m", "onnx2tf", "-i", str(copied), "-o", str(folder), "-b", "1"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        made = folder / f"{path.stem}_float32.tflite"
        if not made.exists():
            raise RuntimeError(f"onnx2tf refuses it: {done.stderr.strip()[-120:]}")
        return made

    def load(path: Path) -> Run:
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        given, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def one(image: Any) -> Any:
            moved = np.moveaxis(image, 0, -1)[None]
            shaped = moved if moved.shape == tuple(given["shape"]) else image[None]
            interpreter.set_tensor(given["index"], np.ascontiguousarray(shaped))
            interpreter.invoke()
            return interpreter.get_tensor(gives["index"]).ravel()

        return lambda images: np.stack([one(image) for image in images])

    return version("ai-edge-litert"), load, convert


RUNTIMES: dict[str, Callable[[], Any]] = {
    "opencv": _opencv,
    "tract": _tract,
    "mnn": _mnn,
    "ncnn": _ncnn,
    "litert": _litert,
}

if __name__ == "__main__":
    main()
