"""Make a folder with the page that classifies in the browser: docs/browser.html and what it loads.

    python docs/make_browser.py small.onnx FOLDER
    python -m http.server -d FOLDER          and open page.html

``small.onnx`` is the bundled model, compressed with the defaults, as in the README. onnxruntime-web
comes by npm, or from ``--modules``, a node_modules. The folder needs no network when the page is
open, and is not part of the repository: it takes 14 MB. ``scripts/docs`` makes it for the site.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
NAMES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
IMAGES = 60


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("small", type=Path, help="the compressed file")
    parser.add_argument("folder", type=Path, help="where to")
    parser.add_argument("--modules", type=Path, help="a node_modules with onnxruntime-web")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        modules = arguments.modules or installed(Path(scratch))
        for name in RUNTIME:
            shutil.copy(modules / "onnxruntime-web/dist" / name, arguments.folder)
    make(arguments.small, arguments.folder)


def installed(folder: Path) -> Path:
    """The node_modules that npm makes in a folder."""
    command = ["npm", "install", "--silent", "--ignore-scripts", "--prefix", str(folder)]
    subprocess.run([*command, "onnxruntime-web"], check=True)  # noqa: S603
    return folder / "node_modules"


def make(small: Path, folder: Path) -> None:
    """Page, models and images."""
    shutil.copy(HERE / "browser.html", folder / "page.html")
    shutil.copy(small, folder / "small.onnx")
    shutil.copy(MODELS / "fashion_resnet20.onnx", folder / "float.onnx")
    data = np.load(MODELS / "fashion_report.npz")
    shown = data["x"][:IMAGES]
    (folder / "images.bin").write_bytes(shown.tobytes())
    said = {
        "names": NAMES,
        "labels": data["y"][:IMAGES].tolist(),
        "mean": float(data["mean"][0]),
        "std": float(data["std"][0]),
        "side": shown.shape[1],
        "classes": len(NAMES),
    }
    (folder / "images.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
