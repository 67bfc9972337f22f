"""Run emitted files in ONNX Runtime's packages for JavaScript, and compare what they give.

    python web_probe.py FOLDER web|chromium|native PACKAGE

onnxruntime-web in Node, onnxruntime-web in Chromium, or onnxruntime-node. The folder is that of
``runtime_probe.py``, and so is what is printed, but for the memory of onnxruntime-web, as that of
wasm only grows, and for all that is measured in Chromium, where a page has no clock of the
processor. PACKAGE is where npm put the package (``npm install --prefix HERE onnxruntime-web`` puts
it into ``HERE/node_modules/onnxruntime-web``). Chromium runs without a window, and gets the files
from a server on this machine.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from runtime_probe import compared

PROBE = Path(__file__).with_name("web_probe.mjs")
MODULE, NATIVE = "dist/ort.wasm.min.mjs", "dist/index.js"
SECONDS = 600
LONGER = 4
"""Times the window in which latencies of wasm are measured: it is compiled meanwhile."""
PAGE = f"""<!doctype html>
<script type="module">
import * as ort from "./package/{MODULE}";
import {{ answers }} from "./{PROBE.name}";
const read = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
window.found = answers(ort, read).catch((error) => ({{ version: String(error), found: {{}} }}));
</script>
"""


def main() -> None:
    """Compare every file of a folder."""
    folder, way, package = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).resolve()
    files = sorted(folder.glob("*.onnx"))
    with TemporaryDirectory(prefix="onnxsemi-") as name:
        scratch = Path(name)
        _put(files, scratch, LONGER if way == "web" else 1)
        if way == "chromium":
            document = _in_chromium(scratch, package)
        else:
            stems = [""] if way == "web" else [path.stem for path in files]
            document = _in_node(scratch, package / (MODULE if way == "web" else NATIVE), stems)
    found = {path.stem: _outcome(path, document["found"].get(path.stem)) for path in files}
    print(json.dumps({"version": document["version"], "found": found}))


def _put(files: list[Path], scratch: Path, longer: int) -> None:
    """Models and images as JavaScript reads them."""
    cases = []
    for path in files:
        case = np.load(path.with_suffix(".npz"))
        images, window = case["images"].astype("<f4"), 1000 * longer * float(case["window"])
        cases.append({"file": path.stem, "shape": images.shape, "window": window})
        (scratch / f"{path.stem}.images").write_bytes(images.tobytes())
        shutil.copy(path, scratch)
    (scratch / "cases.json").write_text(json.dumps(cases), encoding="utf-8")


def _in_node(scratch: Path, module: Path, stems: list[str]) -> dict[str, Any]:
    """Files in a process each; none named, all in one, as wasm takes seconds to compile."""
    found: dict[str, Any] = {}
    version = ""
    for stem in stems:
        command = ["node", str(PROBE), str(scratch), module.as_uri(), stem]
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        if ran.returncode:
            found[stem] = {"error": f"it ends the process (exit code {ran.returncode})"}
            continue
        document = json.loads(ran.stdout.splitlines()[-1])
        version = document["version"]
        found |= document["found"]
    return {"version": version, "found": found}


def _in_chromium(scratch: Path, package: Path) -> dict[str, Any]:
    (scratch / "index.html").write_text(PAGE, encoding="utf-8")
    shutil.copy(PROBE, scratch)
    (scratch / "package").symlink_to(package)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(scratch)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    driver = _browser()
    try:
        driver.set_script_timeout(SECONDS)
        driver.get(f"http://127.0.0.1:{server.server_port}/index.html")
        document: dict[str, Any] = driver.execute_async_script(
            "const done = arguments[0];"
            "const wait = () => window.found ? window.found.then(done) : setTimeout(wait, 50);"
            "wait();"
        )
    finally:
        driver.quit()
        server.shutdown()
        server.server_close()
    return document


def _browser() -> Any:
    from selenium import webdriver  # noqa: PLC0415  Node needs none

    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


class _Files(SimpleHTTPRequestHandler):
    """Files with the types that a browser asks of modules and wasm; says nothing."""

    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
    }

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""


def _outcome(path: Path, found: dict[str, Any] | None) -> dict[str, Any]:
    if found is None or "error" in found:
        said = "nothing came back" if found is None else found["error"]
        return {"outcome": f"fails: {(said.splitlines() or ['no reason given'])[0][:200]}"}
    case = np.load(path.with_suffix(".npz"))
    logits = np.array(found.pop("logits")).reshape(case["wanted"].shape)
    return {**compared(logits, case["wanted"], float(case["allowed"])), **found}


if __name__ == "__main__":
    main()
