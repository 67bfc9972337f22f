"""Write docs/example/report.html, the page of a run of the bundled model, and the file it made.

python docs/make_example.py

All with the defaults. It takes a minute or two on two cores, and is not part of the repository:
``scripts/docs`` makes it, and has the file run in the browser.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "example" / "report.html"


def main() -> None:
    """Compress the bundled model as the README does, with speeds; keep page and file."""
    PAGE.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        output = Path(folder) / "small.onnx"
        models = [
            f"models/fashion_{name}" for name in ("resnet20.onnx", "search.npz", "report.npz")
        ]
        given = (models[0], "--data", models[1], "--test-data", models[2])
        options = ("--out", str(output), "--report", str(PAGE), "--bench", "--quiet")
        command = (sys.executable, "-m", "onnxsemi", "compress", *given, *options)
        subprocess.run(command, cwd=PROJECT, check=True)  # noqa: S603
        shutil.copy(output, PAGE.parent)


if __name__ == "__main__":
    main()
