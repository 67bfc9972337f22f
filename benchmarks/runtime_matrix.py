"""Runtimes that files are tried in, and their packages, in a work folder of their own.

A package of pip is installed alone into a folder that is looked into first; all else is this
environment's. One of npm is installed as npm does, and runs nothing of its own. What was brought
once stays in the work folder, under its version.

    python benchmarks/runtime_matrix.py --work FOLDER

brings onnxruntime-web alone, and prints where it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
BRINGING = 300
"""Seconds that a package may take."""


class MissingRuntimeError(Exception):
    """A runtime that cannot be had here, and why."""


@dataclass(frozen=True)
class Runtime:
    """A runtime at one version.

    Attributes:
        title: As tables name it, without the version.
        probe: Script that runs files in it.
        way: What the script calls it.
        packages: What is brought, each with its version; nothing for what this environment has.
        npm: Whether npm brings them, not pip.
        everything: Whether every profile must agree, at any bitwidths that it has.
        takes: Else the profiles that must.
        because: Why it does not take others.
    """

    title: str
    probe: str
    way: str
    packages: tuple[str, ...] = ()
    npm: bool = False
    everything: bool = True
    takes: tuple[str, ...] = ()
    because: str = ""

    def must_agree(self, profile: str) -> bool:
        """Whether a file of the profile must load and agree."""
        return self.everything or profile in self.takes

    def run(self, files: Path, work: Path) -> str:
        """What its probe prints of the files of a folder.

        Args:
            files: The folder.
            work: Where packages are, and are brought to.

        Raises:
            MissingRuntimeError: With the reason.
        """
        packages = brought(self, work) if self.packages else None
        words = [sys.executable, str(HERE / self.probe), str(files), self.way]
        own = {**os.environ, "OMP_NUM_THREADS": "1"}
        if self.way == "chromium" and not _chromium():
            raise MissingRuntimeError("chromium and chromedriver are not installed")
        if self.npm and packages is not None:
            words.append(str(_module(self, packages)))
        elif packages is not None:
            own["PYTHONPATH"] = str(packages)
        ran = subprocess.run(words, capture_output=True, text=True, env=own, check=False)
        if ran.returncode:
            raise RuntimeError(f"{self.title}: the probe failed: {ran.stderr.strip()[-2000:]}")
        return ran.stdout.splitlines()[-1]


def brought(runtime: Runtime, work: Path) -> Path:
    """The folder with a runtime's packages, which are installed there first if they are not yet.

    Raises:
        MissingRuntimeError: If they cannot be brought.
    """
    python = "" if runtime.npm else f"-py{sys.version_info[0]}{sys.version_info[1]}"
    place = work / ("-".join(runtime.packages).replace("==", "-").replace("*", "x") + python)
    if place.exists():
        return place
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, prefix="part-") as name:
        folder = Path(name) / "packages"
        words = _npm(folder) if runtime.npm else _pip(folder)
        _install([*words, *runtime.packages])
        if not place.exists():  # another may have brought it meanwhile
            folder.rename(place)
    return place


def _module(runtime: Runtime, packages: Path) -> Path:
    """Where npm put the first package."""
    return packages / "node_modules" / runtime.packages[0].rpartition("@")[0]


def _install(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BRINGING, check=False
        )
    except subprocess.TimeoutExpired as error:
        told = f"{Path(command[0]).name} brought nothing in {BRINGING} seconds"
        raise MissingRuntimeError(told) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingRuntimeError(f"it cannot be brought: {said[:200]}")


def _pip(folder: Path) -> list[str]:
    words = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    return [*words, "--no-deps", "--target", str(folder)]


def _npm(folder: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise MissingRuntimeError("npm or node is not installed")
    folder.mkdir()
    words = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent"]
    return [*words, "--ignore-scripts"]


def _chromium() -> bool:
    return all(
        os.environ.get(name.upper()) or shutil.which(name) for name in ("chromium", "chromedriver")
    )


def _onnxruntime(minor: int) -> Runtime:
    """A minor version of ONNX Runtime."""
    title, package = "ONNX Runtime", f"onnxruntime==1.{minor}.*"
    return Runtime(title, "runtime_probe.py", "onnxruntime", (package,))


EVERY = tuple(map(_onnxruntime, range(19, 32)))
OLDER = tuple(map(_onnxruntime, (19, 22)))
PRESENT = (
    Runtime("ONNX Runtime", "runtime_probe.py", "onnxruntime"),
    Runtime("OpenVINO", "runtime_probe.py", "openvino"),
    Runtime("onnx.reference", "runtime_probe.py", "reference"),
)
WEB = ("onnxruntime-web@1.30.0",)
OTHERS = (
    Runtime("onnxruntime-node", "web_probe.py", "native", ("onnxruntime-node@1.30.0",), npm=True),
    Runtime("onnxruntime-web in Node", "web_probe.py", "web", WEB, npm=True),
    Runtime("onnxruntime-web in Chromium", "web_probe.py", "chromium", WEB, npm=True),
    Runtime(
        "OpenCV DNN",
        "runtime_probe.py",
        "opencv",
        ("opencv-python-headless==5.0.0.93",),
        everything=False,
        takes=("portable", "fake"),
        because="it shifts bits by one distance only, and has no types of 4 bits",
    ),
    Runtime(
        "tract",
        "runtime_probe.py",
        "tract",
        ("tract==0.23.9",),
        everything=False,
        takes=(
            *("qdq", "fast", "dense", "int8", "int8-dense", "nodes", "nodes-16", "portable"),
            *("tensorrt", "fake"),
        ),
        because="it has no types of 4 bits",
    ),
    Runtime(
        "MNN",
        "runtime_probe.py",
        "mnn",
        ("MNN==3.6.1",),
        everything=False,
        takes=("portable", "fake"),
        because="its converter has no BitwiseAnd, and ends on QuantizeLinear and on "
        "convolutions whose weights are computed",
    ),
    Runtime(
        "ncnn through pnnx",
        "runtime_probe.py",
        "ncnn",
        ("ncnn==1.0.20261020", "pnnx==20261020"),
        everything=False,
        takes=("qdq", "fast", "dense", "native", "portable", "fake"),
        because="pnnx leaves QuantizeLinear, which ncnn has not, and ends on `nodes`",
    ),
)


def main() -> int:
    """Bring onnxruntime-web, and say where it is."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--work", type=Path, required=True)
    web = next(runtime for runtime in OTHERS if runtime.packages == WEB)
    try:
        print(_module(web, brought(web, options.parse_args().work.absolute())))
    except MissingRuntimeError as error:
        print(f"onnxruntime-web: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
