"""``--max-memory`` holds for the process, or is refused; it changes no result."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import HEAD, SAME, Net, conv, head_shapes

pytestmark = pytest.mark.slow

WIDE = Net(
    conv("stem", "image", "strides = [4,4]", bias=True)
    + "a = Relu (stem)\n"
    + conv("c1", "a", SAME)
    + "b = Relu (c1)\n"
    + conv("c2", "b", SAME)
    + "last = Relu (c2)\n"
    + HEAD,
    {
        "stem_w": (16, 3, 4, 4),
        "stem_b": (16,),
        "c1_w": (16, 16, 3, 3),
        "c2_w": (16, 16, 3, 3),
        **head_shapes(16),
    },
    image="float[N,3,64,64] image",
)
"""What its layers give for all images is more than the bound."""
MANY_INPUTS = Net(
    conv("stem", "image", "strides = [4,4]", bias=True)
    + "a = Relu (stem)\n"
    + conv("c1", "a", SAME)
    + "last = Relu (c1)\n"
    + HEAD,
    {
        "stem_w": (128, 3, 4, 4),
        "stem_b": (128,),
        "c1_w": (128, 128, 3, 3),
        **head_shapes(128),
    },
    image="float[N,3,64,64] image",
)
"""Of 1,152 weights a channel: rounding them takes far more than the model."""
COUNT = 5600  # 275 MB
BOUND = 200
COMMAND = """
import sys
from pathlib import Path
from onnxsemi._cli import app
code = app(sys.argv[1:], standalone_mode=False)
status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
print(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))
sys.exit(code)
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak read from /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    onnx.save(WIDE.model(), folder / "model.onnx")
    noise = np.random.default_rng(0).normal(size=(200, 3, 64, 64)).astype(np.float32)
    levels = np.linspace(0.5, 2, COUNT // 200, dtype=np.float32)
    np.savez(folder / "search.npz", x=np.concatenate([noise * level for level in levels]))
    np.savez(folder / "report.npz", x=noise[:50] * np.float32(0.3))
    return folder


def peak(folder: Path, out: str, bound: str, method: tuple[str, ...]) -> float:
    """Peak memory of ``compress``, MiB. (``ru_maxrss`` would begin at the parent's peak.)"""
    files = ("model.onnx", "--data", "search.npz", "--report-data", "report.npz", "-o", out)
    done = compress(folder, *files, "--max-memory", bound, *method)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def compress(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``compress`` in a process of its own, which prints its peak at the end."""
    options = ("--bits", "8,4", "--max-drop", "100", "--allow-loss", "--quiet", "--threads", "2")
    command = [sys.executable, "-c", COMMAND, "compress", *arguments, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


METHODS = {
    "frontier": ("--method", "frontier"),
    "semilayer": ("--method", "semilayer", "--targets", "hidden"),
}


@linux
@pytest.mark.parametrize("method", METHODS)
def test_bound_holds_and_changes_no_byte(folder: Path, method: str) -> None:
    assert (folder / "search.npz").stat().st_size > BOUND * 2**20
    assert peak(folder, f"{method}.onnx", f"{BOUND}MB", METHODS[method]) <= BOUND
    free = peak(folder, f"{method}_free.onnx", "8GB", METHODS[method])
    # there is something to bound; the frontier keeps what enters each layer of few images only
    assert method == "frontier" or free > 1.2 * BOUND
    for ending in (".onnx", ".plan.json"):
        one, other = (folder / f"{name}{ending}" for name in (method, f"{method}_free"))
        assert one.read_bytes() == other.read_bytes()


@linux
def test_what_is_needed_is_said_and_is_enough(folder: Path) -> None:
    """Images do not count: the layers' second moments are most of it."""
    onnx.save(MANY_INPUTS.model(), folder / "wide.onnx")
    few = ("wide.onnx", "--data", "few.npz", "--report-data", "other.npz")
    noise = np.random.default_rng(1).normal(size=(32, 3, 64, 64)).astype(np.float32)
    np.savez(folder / "few.npz", x=noise)
    np.savez(folder / "other.npz", x=noise * np.float32(0.3))
    refused = compress(folder, *few, "-o", "none.onnx", "--max-memory", "150MB")
    found = re.search(r"less than what this model needs, about (\d+) MB", refused.stderr)
    assert found, refused.stderr
    assert not (folder / "none.onnx").exists()
    need, peaks = int(found[1]), {}
    for bound in (need + 10, need + 300):
        done = compress(folder, *few, "-o", f"{bound}.onnx", "--max-memory", f"{bound}MB")
        assert done.returncode == 0, done.stderr
        peaks[bound] = float(done.stdout)
        assert peaks[bound] <= bound
    assert max(peaks.values()) > 0.4 * need  # what is asked for is not far above what is taken
    first, last = (folder / f"{bound}.onnx" for bound in peaks)
    assert first.read_bytes() == last.read_bytes()
