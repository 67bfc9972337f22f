"""The same models, images and judge for other tools.

    python benchmarks/peers.py --shared ../shared
    python benchmarks/peers.py --shared ../shared --models resnet20 --methods nncf-ptq ours

Each tool is installed in an environment of its own in the work folder, once, and runs there
(``peer_tools.py`` has its settings) on the calibration images of the case; its file is judged here,
in ONNX Runtime, on the images that no tool sees. A row is a line of ``benchmarks/peers.jsonl``, and
one that is there is not made again: delete its line to make it anew. A row that fails says how.

*ours* is ``compress`` with the defaults, *ours-int8* the same in profile int8.

At the end the tables in ``benchmarks/README.md`` are written anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cases import Case, data_of, real
from peers_table import keep_row, read_rows, write_tables

import onnxsemi
from onnxsemi import OnnxSemiError, Profile, Settings
from onnxsemi._arrays import Float32Array
from onnxsemi._model.loader import model_files
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._runtime.memory import peak
from onnxsemi._runtime.sessions import quantizes_activations
from onnxsemi._stats.comparison import comparison_of

TOOLS = Path(__file__).with_name("peer_tools.py")
PACKAGES = {
    "ort": ("onnxruntime", "onnx", "sympy"),
    "nncf": ("nncf", "onnx", "onnxruntime"),
    "aimet": ("aimet-onnx", "onnxsim"),
    "quark": ("amd-quark", "torch", "onnxruntime", "onnxruntime-extensions"),
    "modelopt": ("nvidia-modelopt[onnx]", "onnxruntime"),
    "onnxsim": ("onnxsim", "onnx", "onnxruntime"),
}
METHODS = (
    *("ours", "ours-int8", "ort-static", "ort-dynamic"),
    *("nncf-ptq", "nncf-weights", "nncf-accuracy"),
    *("aimet-int8", "aimet-seqmse", "aimet-mixed", "aimet-adaround"),
    *("quark-int8", "quark-adaround", "modelopt-int8"),
    *("onnxsim-static", "onnxsim-weights", "onnxsim-int4"),
)
MODELS = ("resnet20", "resnet18", "efficientnet")
TIMED = 31


def main() -> None:
    """Make what is missing, then write the tables."""
    arguments = _arguments()
    known = real(arguments.shared)
    if arguments.row:
        model, method = arguments.row
        _ours(Peer(known[model], arguments.work, model, method))
        return
    for model in arguments.models:
        judge = Judge(known[model])
        for method in (m for m in METHODS if m in arguments.methods):
            if method not in read_rows(model):
                print(f"{model}: {method}", flush=True)
                peer = Peer(known[model], arguments.work, model, method)
                keep_row(model, method, _row(arguments, peer, judge))
    write_tables({model: known[model].title for model in MODELS}, METHODS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with models/ and data/")
    parser.add_argument("--work", type=Path, default=Path("peers"), help="environments and files")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one row")
    parser.add_argument("--row", nargs=2, help="make one file of ours in this process")
    return parser.parse_args()


@dataclass(frozen=True)
class Peer:
    """A file that a tool is to make.

    Attributes:
        case: Model and images.
        work: Environments and files.
        model: Short name of the model.
        method: What makes the file.
    """

    case: Case
    work: Path
    model: str
    method: str

    @property
    def output(self) -> Path:
        """Where it goes."""
        return self.work / f"{self.model}-{self.method}.onnx"

    def environment(self) -> Path:
        """The tool's own Python; installed if it is not there."""
        tool = self.method.partition("-")[0]
        folder = self.work / "venvs" / tool
        if not folder.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            command = [str(folder / "bin/pip"), "install", "-q", *PACKAGES[tool]]
            subprocess.run(command, check=True)
        return folder.resolve() / "bin/python"


@dataclass(frozen=True, eq=False)
class Judge:
    """The float model on its images, computed once.

    Attributes:
        case: Model and images.
    """

    case: Case

    @cached_property
    def prepared(self) -> Prepared:
        """Model and images, as ``compress`` takes them."""
        case = self.case
        settings = Settings(data=case.data, search_samples=case.search_samples)
        images = (data_of(path, case.data) for path in (case.search, case.report))
        return prepare(case.model, *images, settings)

    @cached_property
    def before(self) -> Float32Array:
        """The float model's answers to the test images."""
        return self.prepared.judging(self.prepared.report).forward(self.prepared.classifier.proto)

    @property
    def one_image(self) -> dict[str, Any]:
        """What a session takes: the first test image."""
        name = self.prepared.classifier.proto.graph.input[0].name
        return {name: self.prepared.report.batch(0, 1)}

    @cached_property
    def forward_seconds(self) -> float:
        """CPU time of the float model's forward pass of one calibration image."""
        workload, begun = self.prepared.judging(self.prepared.search), time.process_time()
        workload.forward(workload.classifier.proto)
        return (time.process_time() - begun) / len(workload.images)

    def verdict(self, file: Path) -> dict[str, Any]:
        """A file against the float model on the test images."""
        workload = self.prepared.judging(self.prepared.report)
        model = onnx.load(file)
        after = workload.forward(model, integers=quantizes_activations(model))
        found = comparison_of(self.before, after, workload.labels)
        assert found.top1 is not None
        return {
            "images": found.images,
            "broken": found.top1.broken,
            "fixed": found.top1.fixed,
            "change": 100 * found.top1.change,
            "interval": [100 * end for end in found.top1.interval],
            "same": found.same,
            "bytes": file.stat().st_size,
            "bytes_before": sum(path.stat().st_size for path in model_files(self.case.model)),
            "latency": _latency(self.case.model, file, self.one_image),
        }


def _row(arguments: argparse.Namespace, peer: Peer, judge: Judge) -> dict[str, Any]:
    """A file and what it does to the test images; or why there is none."""
    peer.work.mkdir(parents=True, exist_ok=True)
    peer.output.unlink(missing_ok=True)
    own = peer.method.startswith("ours")
    words = [__file__, "--shared", str(arguments.shared), "--work", str(peer.work)]
    try:
        python = Path(sys.executable) if own else peer.environment()
        ours = [*words, "--row", peer.model, peer.method]
        command = ours if own else [str(TOOLS), peer.method, *_inputs(peer, judge.prepared)]
        done = subprocess.run(
            [str(python), *command],
            capture_output=True,
            text=True,
            timeout=arguments.limit,
            env={k: v for k, v in os.environ.items() if own or k != "PYTHONPATH"},
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        cost = {"image_forwards": found["cpu_seconds"] / judge.forward_seconds}
        return found | judge.verdict(peer.output) | cost
    except subprocess.TimeoutExpired:
        return {"failed": f"no file within {arguments.limit:g} seconds"}
    except subprocess.CalledProcessError as error:
        said = [line for line in str(error.stderr).splitlines() if line.strip()] or ["no word"]
        return {"failed": said[-1][-200:]}
    except (OnnxSemiError, FileNotFoundError) as error:
        return {"failed": str(error)[-200:].replace(str(peer.work), "")}


def _inputs(peer: Peer, prepared: Prepared) -> list[str]:
    """Model, images and output, as ``peer_tools.py`` takes them."""
    images, path = prepared.search, peer.work / f"{peer.model}.npz"
    if not path.exists():
        np.savez(path, x=images.batch(0, len(images)), y=images.labels)
    return [str(peer.case.model), str(path), str(peer.output)]


def _ours(peer: Peer) -> None:
    """``compress``, in this process."""
    case, begun = peer.case, time.process_time()
    profile = Profile.INT8 if peer.method == "ours-int8" else Profile.QDQ
    settings = Settings(
        data=case.data, search_samples=case.search_samples, profile=profile, allow_loss=True
    )
    search, report = (data_of(path, case.data) for path in (case.search, case.report))
    onnxsemi.compress(case.model, search, output=peer.output, test_data=report, settings=settings)
    found = {"version": onnxsemi.__version__, "cpu_seconds": time.process_time() - begun}
    print(json.dumps({**found, "peak_bytes": peak()}))


def _latency(model: Path, file: Path, inputs: dict[str, Any]) -> float:
    """CPU time of a batch of 1 in a default session over the float file's, one thread.

    CPU time, because it does not depend on what else the machine does.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(path, options) for path in (model, file)]
    taken: list[tuple[float, ...]] = []
    for _ in range(TIMED):
        times = [time.process_time()]
        for session in sessions:
            session.run(None, inputs)
            times.append(time.process_time())
        taken.append(tuple(np.diff(times)))
    before, after = np.median(taken, axis=0)
    return float(after / before)


if __name__ == "__main__":
    main()
