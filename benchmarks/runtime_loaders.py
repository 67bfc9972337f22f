"""How each runtime loads a file and runs it on images, on one thread.

Needs the runtime and numpy, not onnxsemi: ``runtime_probe.py`` imports it where that runtime is.
"""

import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Any], Any]
"""float32[N, C, H, W] -> logits."""


@dataclass(frozen=True)
class Ends:
    """Ends of a model.

    Attributes:
        image: Name of its input.
        logits: Name of its output.
        shape: Of one image, with a batch of 1.
    """

    image: str
    logits: str
    shape: tuple[int, ...]

    @property
    def sizes(self) -> str:
        """The shape with commas."""
        return ",".join(map(str, self.shape))


@dataclass(frozen=True)
class Loader:
    """A runtime.

    Attributes:
        version: Its version.
        load: File -> what runs it.
        convert: File -> the file that is loaded, in a folder; None if ONNX is loaded as it is.
    """

    version: str
    load: Callable[[Path, Ends], Run]
    convert: Callable[[Path, Path, Ends], Path] | None = None


def onnxruntime() -> Loader:
    """ONNX Runtime, a default session but for integer sums that overflow without VNNI."""
    import onnxruntime as runtime  # noqa: PLC0415  only one of them is there

    def load(path: Path, ends: Ends) -> Run:
        options = runtime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = runtime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        return lambda images: session.run(None, {ends.image: images})[0]

    return Loader(runtime.__version__, load)


def openvino() -> Loader:
    """OpenVINO on the processor, in float32."""
    import openvino as runtime  # noqa: PLC0415

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}

    def load(path: Path, ends: Ends) -> Run:
        del ends
        compiled = runtime.Core().compile_model(str(path), "CPU", options)
        return lambda images: compiled([images])[0]

    return Loader(runtime.__version__.split("-")[0], load)


def reference() -> Loader:
    """``onnx.reference``, which has DequantizeLinear of opset 19 on."""
    import onnx  # noqa: PLC0415
    from onnx import version_converter  # noqa: PLC0415
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    def load(path: Path, ends: Ends) -> Run:
        model = onnx.load(path)
        if model.opset_import[0].version < 20:
            model = version_converter.convert_version(model, 20)
        evaluator = ReferenceEvaluator(model)
        return lambda images: evaluator.run(None, {ends.image: images})[0]

    return Loader(onnx.__version__, load)


def opencv() -> Loader:
    """OpenCV's module of deep networks."""
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(1)

    def load(path: Path, ends: Ends) -> Run:
        del ends
        net = cv2.dnn.readNetFromONNX(str(path))

        def run(images: Any) -> Any:
            net.setInput(images)
            return net.forward()

        return run

    return Loader(cv2.__version__, load)


def tract() -> Loader:
    """Sonos' tract."""
    import tract as runtime  # noqa: PLC0415

    def load(path: Path, ends: Ends) -> Run:
        loaded = runtime.onnx().load(str(path))
        loaded.set_input_fact(0, f"{ends.sizes},f32")
        loaded.analyse()
        runnable = loaded.into_model().into_runnable()
        return _one_by_one(lambda image: runnable.run([image[None]])[0].to_numpy())

    return Loader(version("tract"), load)


def mnn() -> Loader:
    """Alibaba's MNN, through its converter."""
    import _tools  # noqa: PLC0415  MNN's, without the command around it, which installs packages
    import MNN  # noqa: PLC0415

    def convert(path: Path, folder: Path, ends: Ends) -> Path:
        del ends
        made = folder / "model.mnn"
        command = ["mnnconvert", "-f", "ONNX", "--bizCode", "-", "--modelFile", str(path)]
        with chdir(folder):  # it leaves files where it is called
            _tools.mnnconvert([*command, "--MNNModel", str(made)])
        if not made.exists():
            raise RuntimeError("MNN's converter refuses it")
        return made

    def load(path: Path, ends: Ends) -> Run:
        one = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": 1},))
        net = MNN.nn.load_module_from_file(
            str(path), [ends.image], [ends.logits], runtime_manager=one
        )

        def run(images: Any) -> Any:
            held = MNN.numpy.array(images)
            given = MNN.expr.const(held.ptr, list(images.shape), MNN.expr.NCHW)
            return np.array(MNN.expr.convert(net.forward([given])[0], MNN.expr.NCHW).read())

        return run

    return Loader(MNN.version(), load, convert)


def ncnn() -> Loader:
    """Tencent's ncnn, through pnnx, which is a program: its package takes PyTorch if imported."""
    import ncnn as runtime  # noqa: PLC0415

    pnnx = Path(runtime.__file__).parents[1] / "pnnx" / "pnnx"

    def convert(path: Path, folder: Path, ends: Ends) -> Path:
        words = [str(pnnx), str(_copied(path, folder)), f"inputshape=[{ends.sizes}]", "fp16=0"]
        done = subprocess.run(words, capture_output=True, cwd=folder, check=False)
        if done.returncode or not (folder / "model.ncnn.bin").exists():
            raise RuntimeError("pnnx refuses it")
        return folder / "model.ncnn"

    def load(path: Path, ends: Ends) -> Run:
        del ends
        net = runtime.Net()
        net.opt.num_threads = 1
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        if net.load_param(f"{path}.param") or net.load_model(f"{path}.bin"):
            raise RuntimeError("ncnn does not load what pnnx makes of it")

        def one(image: Any) -> Any:
            running = net.create_extractor()
            running.input("in0", runtime.Mat(np.ascontiguousarray(image)).clone())
            return np.array(running.extract("out0")[1])

        return _one_by_one(one)

    return Loader(runtime.__version__, load, convert)


def litert() -> Loader:
    """Google's LiteRT, through onnx2tf."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    def convert(path: Path, folder: Path, ends: Ends) -> Path:
        del ends
        copied = _copied(path, folder)
        words = [sys.executable, "-m", "onnx2tf", "-i", str(copied), "-o", str(folder), "-b", "1"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        made = folder / "model_float32.tflite"
        if not made.exists():
            raise RuntimeError(f"onnx2tf refuses it: {done.stderr.strip()[-120:]}")
        return made

    def load(path: Path, ends: Ends) -> Run:
        del ends
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        given, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def one(image: Any) -> Any:
            moved = np.moveaxis(image, 0, -1)[None]
            shaped = moved if moved.shape == tuple(given["shape"]) else image[None]
            interpreter.set_tensor(given["index"], np.ascontiguousarray(shaped))
            interpreter.invoke()
            return interpreter.get_tensor(gives["index"])

        return _one_by_one(one)

    return Loader(version("ai-edge-litert"), load, convert)


LOADERS: dict[str, Callable[[], Loader]] = {
    loader.__name__: loader
    for loader in (onnxruntime, openvino, reference, opencv, tract, mnn, ncnn, litert)
}


def _copied(path: Path, folder: Path) -> Path:
    """A copy for converters that write beside what they read, or into it."""
    copied = folder / "model.onnx"
    copied.write_bytes(path.read_bytes())
    return copied


def _one_by_one(one: Run) -> Run:
    """For runtimes that were given a batch of 1 once for all."""
    return lambda images: np.stack([np.ravel(one(image)) for image in images])
