"""Examples of deployment, as they are: service, pipeline, C++, and the page in a browser.

The gate brings what those two need: onnxruntime-web into ``$ONNXRUNTIME_WEB``, the headers of ONNX
Runtime's C++ interface into ``$ONNXRUNTIME_INCLUDE``.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from residual_net import save_noise, save_residual_net

import onnxsemi
from onnxsemi import BitPlan, ReadOptions, TargetPolicy
from onnxsemi._model.reader import read_model
from onnxsemi._run.plan_file import PlanFile, layers_of

PROJECT = Path(__file__).parents[1]
EXAMPLES, MODELS = PROJECT / "examples", PROJECT / "models"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
WEB = os.environ.get("ONNXRUNTIME_WEB", "")
INCLUDE = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
COMPILER = os.environ.get("CXX", "c++")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bundled model at 6 bits for all, nearest levels, as --target web writes it."""
    folder = tmp_path_factory.mktemp("small")
    model = MODELS / "fashion_resnet20.onnx"
    classifier = read_model(model, ReadOptions(targets=TargetPolicy.ALL))
    plan = BitPlan.uniform(classifier.layers, 6)
    document = PlanFile(
        model=classifier.fingerprint,
        targets="all",
        scheme="asymmetric",
        layers=layers_of(plan.bits),
        tool="onnxsemi",
    )
    (folder / "six.plan.json").write_text(document.to_json())
    settings = onnxsemi.ApplySettings(target="web")
    onnxsemi.apply(folder / "six.plan.json", model, output=folder / "small.onnx", settings=settings)
    return folder / "small.onnx"


def test_the_service_answers_as_the_model(small, monkeypatch):
    client = pytest.importorskip("fastapi.testclient")
    monkeypatch.setenv("MODEL", str(small))
    spec = importlib.util.spec_from_file_location("service", EXAMPLES / "service.py")
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)
    asked = client.TestClient(service.app)
    assert asked.get("/health").json()["model"] == "small.onnx"
    images = np.random.default_rng(0).normal(size=(3, 1, 28, 28)).astype(np.float32)
    scores = onnxsemi.load_session(small).run(None, {"input": images})[0]
    for image, own in zip(images, scores, strict=True):
        answer = asked.post("/classify", json={"pixels": image.tolist()})
        assert answer.status_code == 200
        assert answer.json()["class"] == int(own.argmax())
        assert 0 < answer.json()["probability"] <= 1
    refused = asked.post("/classify", json={"pixels": [[1, 2]]})
    assert refused.status_code == 422
    assert "28" in refused.json()["detail"]


class TestPipeline:
    """The pipeline's script on a folder of models."""

    def run(self, folder, *options):
        command = [EXAMPLES / "compress_new_models.sh", folder / "models", folder / "search.npz"]
        tools = Path(sys.executable).parent
        return subprocess.run(
            [*map(str, command), str(folder / "small"), "--force", "--threads", "1", *options],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "models").mkdir()
        save_residual_net(tmp_path / "models" / "net.onnx")
        save_noise(tmp_path / "search.npz", count=120, seed=1)
        return tmp_path

    def test_a_model_that_holds_is_handed_on_once(self, folder):
        easy = ("--max-drop", "60", "--tolerance", "30")
        done = self.run(folder, *easy)
        assert done.returncode == 0, done.stderr
        made = folder / "small" / "net.onnx"
        assert made.stat().st_size < (folder / "models" / "net.onnx").stat().st_size
        again = self.run(folder, *easy)
        assert again.returncode == 0
        assert "net.onnx: nothing new" in again.stdout

    def test_a_model_that_is_not_shown_to_hold_stops_it(self, folder):
        done = self.run(folder, "--max-drop", "0", "--tolerance", "0.1")
        assert done.returncode == 3, done.stderr
        assert not (folder / "small" / "net.onnx").exists()

    def test_the_workflow_calls_it_rightly(self, folder):
        """Its own line, in a checkout with the folders that it names."""
        workflow = (EXAMPLES / "compress-models.yml").read_text()
        (line,) = re.findall(r"run: (examples/.*)$", workflow, re.MULTILINE)
        (handed,) = re.findall(r"path: (.*)$", workflow, re.MULTILINE)
        (folder / "examples").symlink_to(EXAMPLES)
        (folder / "data").mkdir()
        (folder / "search.npz").rename(folder / "data" / "calibration.npz")
        tools = Path(sys.executable).parent
        done = subprocess.run(
            ["bash", "-c", f"{line} --max-drop 60 --tolerance 30 --threads 1 --force"],
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert [path.name for path in folder.glob(handed)] == ["net.onnx"]


class TestAndroid:
    """What examples/android.md says of a file of profile fast."""

    PAGE = EXAMPLES / "android.md"

    def test_operators_that_unpack_are_named(self, small):
        named = set(
            re.findall(
                r"[A-Z][A-Za-z]+",
                re.search(r"and (Split.*?):", self.PAGE.read_text(), re.DOTALL)[1],
            )
        )
        own = operators(MODELS / "fashion_resnet20.onnx")
        assert operators(small) - own <= named
        assert {"BitwiseAnd", "BitShift", "Cast"} <= named

    @pytest.mark.parametrize(
        ("style", "level", "end", "folded"),
        [
            ("Runtime", "all", ".with_runtime_opt", True),
            ("Fixed", "all", "", True),
            ("Fixed", "disable", ".disable", False),
        ],
    )
    def test_ort_files_are_folded_or_never_are(self, small, tmp_path, style, level, end, folded):
        shutil.copy(small, tmp_path)
        words = ["-m", "onnxruntime.tools.convert_onnx_models_to_ort", tmp_path / "small.onnx"]
        done = subprocess.run(
            [sys.executable, *words, "--optimization_style", style],
            env={**os.environ, "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL": level},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        made = tmp_path / f"small{end}.ort"
        whole = (MODELS / "fashion_resnet20.onnx").stat().st_size
        assert (made.stat().st_size > 0.9 * whole) == folded
        images = {"input": np.random.default_rng(0).normal(size=(4, 1, 28, 28)).astype(np.float32)}
        session = onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
        wanted = onnxsemi.load_session(small).run(None, images)[0]
        assert np.abs(session.run(None, images)[0] - wanted).max() < 1e-5 * np.abs(wanted).max()


def operators(path):
    """The operators of a file."""
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """The C++ program, compiled with the library of this environment's onnxruntime."""
    folder = tmp_path_factory.mktemp("built")
    words = [EXAMPLES / "build_main.sh", folder, sys.executable]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    def run(*given):
        words = [folder / "classify", *map(str, given)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    return run


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no C++ compiler {COMPILER}")
@pytest.mark.skipif(
    not (INCLUDE / "onnxruntime_cxx_api.h").exists(),
    reason=f"{INCLUDE}: no headers of ONNX Runtime; examples/fetch_headers.sh brings them",
)
class TestCpp:
    """The program answers, and says what is wrong."""

    def test_it_answers_as_the_model(self, classify, small, tmp_path):
        images = np.random.default_rng(0).normal(size=(4, 1, 28, 28)).astype("<f4")
        wanted = onnxsemi.load_session(small).run(None, {"input": images})[0].argmax(axis=1)
        found = []
        for image in images:
            image.tofile(tmp_path / "image.f32")
            done = classify(small, tmp_path / "image.f32")
            assert done.returncode == 0, done.stderr
            found.append(int(done.stdout))
        assert found == wanted.tolist()

    def test_what_is_wrong_is_one_line(self, classify, small, tmp_path):
        (tmp_path / "short.f32").write_bytes(bytes(12))
        for given, word in (
            ((small, tmp_path / "short.f32"), "12 bytes, the model takes 3136"),
            ((tmp_path / "no.onnx", tmp_path / "short.f32"), "no.onnx"),
            ((small,), "MODEL IMAGE"),
        ):
            done = classify(*given)
            assert done.returncode
            assert word in done.stderr
            assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The file of a default ``compress`` of the bundled model: its plan, applied once more."""
    output = tmp_path_factory.mktemp("default") / "small.onnx"
    given = {"calibration_data": MODELS / "fashion_search.npz", "output": output}
    onnxsemi.apply(PROJECT / "docs/browser.plan.json", MODELS / "fashion_resnet20.onnx", **given)
    return output


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")
@pytest.mark.skipif(not WEB, reason="$ONNXRUNTIME_WEB names no onnxruntime-web")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_classifies_in_a_browser(default, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    words = [default, tmp_path / "page", "--modules", Path(WEB).parent]
    subprocess.run([sys.executable, PROJECT / "docs/make_browser.py", *words], check=True)
    handler = partial(Quiet, directory=str(tmp_path / "page"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    # whatever is not on this machine is nowhere
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.set_script_timeout(240)
        driver.get(f"http://127.0.0.1:{server.server_port}/page.html")
        found = driver.execute_async_script(
            "const done = arguments[0];"
            "const look = () => window.found ? done(window.found) : setTimeout(look, 100); look();"
        )
        rows = driver.execute_script("return document.getElementById('models').rows.length")
        shown = driver.execute_script("return document.querySelectorAll('figure').length")
    finally:
        driver.quit()
        server.shutdown()
    assert [model["file"] for model in found] == ["float.onnx", "small.onnx"]
    assert (rows, shown) == (3, len(found[0]["answers"]))
    assert default.stat().st_size < 90_000
    for model, path in zip(found, (MODELS / "fashion_resnet20.onnx", default), strict=True):
        assert model["bytes"] == path.stat().st_size
        assert model["answers"] == answers(path)


def answers(path):
    """What ONNX Runtime answers to the page's images."""
    data = np.load(MODELS / "fashion_report.npz")
    pixels = data["x"][:60].transpose(0, 3, 1, 2) / np.float32(255)
    images = ((pixels - data["mean"]) / data["std"]).astype(np.float32)
    return onnxsemi.load_session(path).run(None, {"input": images})[0].argmax(axis=1).tolist()


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, and no word about it."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_):
        """Say nothing."""
