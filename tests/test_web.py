"""Profile dense in onnxruntime-web: in Node and in headless Chromium, where there are both.

onnxruntime-web is looked for at ``$ONNXRUNTIME_WEB``, the folder that npm put it into; the gate
brings it (``benchmarks/runtime_matrix.py``).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_dense import Spread, codes_of, network

from onnxsemi import Profile
from onnxsemi._emit.model import emit
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._runtime.sessions import Session

PROBE = Path(__file__).parents[1] / "benchmarks" / "web_probe.py"
PACKAGE = os.environ.get("ONNXRUNTIME_WEB", "")
CHROMIUM = (os.environ.get("CHROMIUM") or shutil.which("chromium")) and (
    os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PACKAGE, reason="$ONNXRUNTIME_WEB names no onnxruntime-web"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of two plans, with images and the logits of ONNX Runtime."""
    folder, images = (
        tmp_path_factory.mktemp("web"),
        np.random.default_rng(0).normal(size=(2, 3, 10, 10)),
    )
    onnx.save(network(), folder / "net.onnx")
    classifier = read_model(folder / "net.onnx", ReadOptions(targets="all"))
    (folder / "net.onnx").unlink()
    images = images.astype(np.float32)
    for bits, step in ((2, 2), (4, 0.5)):
        model = emit(classifier, codes_of(classifier, (bits,), Spread(step)), Profile.DENSE)
        onnx.save(model, folder / f"{bits}.onnx")
        (wanted,) = Session(model.SerializeToString()).run({"image": images}).values()
        allowed = 1e-5 * np.abs(wanted).max()
        given = {"images": images, "wanted": wanted, "allowed": allowed, "window": 0}
        np.savez(folder / f"{bits}.npz", ends=np.array(["image", "logits"]), **given)
    return folder


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("web", marks=pytest.mark.skipif(not shutil.which("node"), reason="no node")),
        pytest.param("chromium", marks=pytest.mark.skipif(not CHROMIUM, reason="no Chromium")),
    ],
)
def test_it_loads_and_gives_the_answers_of_onnx_runtime(files, way):
    command = [sys.executable, str(PROBE), str(files), way, PACKAGE]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])["found"]
    assert {stem: outcome["outcome"] for stem, outcome in found.items()} == {
        "2": "agrees",
        "4": "agrees",
    }
