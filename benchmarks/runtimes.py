"""Which runtimes load the emitted files, and agree with what was measured.

    python benchmarks/runtimes.py

The bundled model, all targets, in every profile, with plans of three and of five bitwidths, in ONNX
Runtime 1.19 and 1.22 from environments of their own, and in this environment's ONNX Runtime,
OpenVINO and ``onnx.reference``. Exits with 1 if a file that should agree does not. ``--table``
writes the table of ``benchmarks/README.md`` anew.
"""

import argparse
import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from cases import FASHION
from emitted import FORMS, LADDERS, Form, plan_of, write
from tables import replace_table, this_machine

from onnxsemi import BitPlan, Profile, ReadOptions, TargetPolicy, load_images
from onnxsemi.arrays import Float32Array
from onnxsemi.emit.model import put_together
from onnxsemi.emit.profile import FORMS as PARTS
from onnxsemi.measure.evaluator import simulate
from onnxsemi.model.read import read_model
from onnxsemi.plan_file import PlanFile
from onnxsemi.quantizer.rounded import Nearest, rounded
from onnxsemi.runtime import Session
from onnxsemi.verify import KERNEL_NOISE, TOLERANCE

PROBE = Path(__file__).with_name("runtime_probe.py")
OLDER = {
    "1.19": ["onnxruntime==1.19.*", "onnx==1.17.*", "numpy<2.3"],
    "1.22": ["onnxruntime==1.22.*", "onnx"],
}
HERE = ("onnxruntime", "openvino", "reference")
IMAGES = 16


@dataclass(frozen=True)
class Answers:
    """What a runtime made of the files.

    Attributes:
        title: The runtime and its version.
        found: File -> "agrees", or what is wrong.
        fused: Layers of the int8 file on integer kernels; None for what has no such kernels.
    """

    title: str
    found: dict[str, str]
    fused: int | None


def main() -> int:
    """Write the files, run them everywhere, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="write the table in the README anew")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="onnxsemi-") as name:
        folder = Path(name)
        files = folder / "files"
        files.mkdir()
        for ladder in LADDERS:
            for form in FORMS:
                _write(files / f"{ladder}-{form.name}.onnx", ladder, form)
        runs = [_probe(_environment(folder / v, OLDER[v]), files, "onnxruntime") for v in OLDER]
        runs += [_probe(Path(sys.executable), files, runtime) for runtime in HERE]
    lines = [f"{this_machine()}.", ""]
    lines += [f"| {' | '.join(cells)} |" for cells in _rows(runs)]
    print("\n".join(lines))
    if arguments.table:
        replace_table("runtimes", lines)
    wrong = [
        f"{run.title}: {stem}: {outcome}"
        for run in runs
        for stem, outcome in run.found.items()
        if outcome != "agrees" and not _may_fail(stem)
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _may_fail(stem: str) -> bool:
    return stem == "five-native"  # ONNX has types of 2 bits from opset 25 on


def _write(path: Path, ladder: str, form: Form) -> None:
    document = plan_of(FASHION, ladder, form, TargetPolicy.ALL)
    result = write(FASHION, document, form, path)
    np.savez(path.with_suffix(".npz"), **_expected(document, result.plan, form))


def _expected(document: PlanFile, plan: BitPlan, form: Form) -> dict[str, object]:
    """What the file must give, from the simulation without optimisation."""
    classifier = read_model(FASHION.model, ReadOptions(targets=TargetPolicy.ALL))
    image, logits = classifier.ends.image, classifier.ends.logits
    images = load_images(FASHION.report, image.name, image.shape, FASHION.data).batch(0, IMAGES)
    codes = rounded(classifier.layers, plan, Nearest(form.scheme))
    simulated = simulate(classifier, codes)

    def answers(model: onnx.ModelProto) -> Float32Array:
        return Session(model.SerializeToString(), optimize=False).run({image.name: images})[logits]

    in_float = answers(simulated)
    if document.activations is None:
        return {"images": images, "wanted": in_float, "allowed": TOLERANCE * np.abs(in_float).max()}
    grids = put_together(classifier, codes, PARTS[Profile.FAKE], document.activations)
    grids.ir_version = classifier.proto.ir_version
    on_grids = answers(grids)
    noise = np.sqrt(np.mean((on_grids - in_float) ** 2))
    return {"images": images, "wanted": on_grids, "allowed": KERNEL_NOISE * noise}


def _environment(folder: Path, packages: list[str]) -> Path:
    """The interpreter of a new environment that has these packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
    subprocess.run(command, check=True)
    return python


def _probe(python: Path, files: Path, runtime: str) -> Answers:
    ran = subprocess.run(
        [str(python), str(PROBE), str(files), runtime], check=True, capture_output=True, text=True
    )
    document = json.loads(ran.stdout.splitlines()[-1])
    titles = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "reference": "onnx.reference"}
    title = f"{titles[runtime]} {document['version']}"
    return Answers(title, document["found"], document["fused"].get("three-int8"))


def _rows(runs: list[Answers]) -> list[list[str]]:
    """One row a profile, one column a runtime: three bitwidths, five bitwidths."""
    rows = [["profile", *(run.title for run in runs)], ["---"] * (len(runs) + 1)]
    for form in FORMS:
        cells = []
        for run in runs:
            both = [run.found[f"{ladder}-{form.name}"] == "agrees" for ladder in LADDERS]
            cells.append("yes" if all(both) else "three bitwidths" if both[0] else "no")
        rows.append([f"`{form.name}`", *cells])
    fused = ("" if run.fused is None else str(run.fused) for run in runs)
    return [*rows, ["layers of `int8` on integer kernels, of 22", *fused]]


if __name__ == "__main__":
    sys.exit(main())
