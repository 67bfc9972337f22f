"""Which runtimes load the emitted files, and agree with what was measured.

    python benchmarks/runtimes.py --web

The bundled model, all targets, in every profile, with plans of three and of five bitwidths, and a
small model of matrix products on tokens, with one and three, whose default sessions have fusions of
their own. In ONNX Runtime 1.19 and 1.22 from folders of their own, ``--every`` in each minor
version since, and in this environment's ONNX Runtime, OpenVINO and ``onnx.reference``; with
``--web`` in onnxruntime-web, which npm brings, in Node and in Chromium. Exits with 1 if a file that
should agree does not, or if a default session leaves what unpacks weights. ``--table`` writes the
table of ``benchmarks/README.md`` anew.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from cases import FASHION, Case
from emitted import FORMS, Form, plan_of, write
from onnx import numpy_helper, parser
from tables import replace_table, this_machine

from onnxsemi import BitPlan, DataOptions, Profile, ReadOptions, TargetPolicy, load_images
from onnxsemi._arrays import Float32Array
from onnxsemi._emit.model import put_together
from onnxsemi._emit.profile import FORMS as PARTS
from onnxsemi._emit.verification import KERNEL_NOISE, TOLERANCE
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.reader import read_model
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._run.plan_file import PlanFile
from onnxsemi._runtime.sessions import Session

PROBE = Path(__file__).with_name("runtime_probe.py")
WEB_PROBE = Path(__file__).with_name("web_probe.py")
EVERY = tuple(f"1.{minor}" for minor in range(19, 32))
OLDER = ("1.19", "1.22")
TOKENS = """
<ir_version: 8, opset_import: ["" : 17]>
tokens (float[N,3,16,16] image) => (float[N,10] scores) {
    patches = Conv <strides = [4,4]> (image, patches_w)
    shape = Constant <value_ints = [0, 64, -1]> ()
    flat = Reshape (patches, shape)
    tokens = Transpose <perm = [0, 2, 1]> (flat)
    up = MatMul (tokens, up_w)
    bent = Relu (up)
    down = MatMul (bent, down_w)
    joined = Add (tokens, down)
    pooled = ReduceMean <axes = [1], keepdims = 0> (joined)
    scores = MatMul (pooled, scores_w)
}
"""
WEIGHTS = {"patches_w": (64, 3, 4, 4), "up_w": (64, 256), "down_w": (256, 64), "scores_w": (64, 10)}
LADDERS = {"fashion": ("three", "five"), "tokens": ("one", "three")}
HERE = ("onnxruntime", "openvino", "reference")
IMAGES = 16


@dataclass(frozen=True)
class Answers:
    """What a runtime made of the files.

    Attributes:
        title: The runtime and its version.
        found: File -> "agrees", or what is wrong.
        fused: Layers of the int8 file on integer kernels; None for what has no such kernels.
        left: File -> operators that only unpack weights and are run all the same.
    """

    title: str
    found: dict[str, str]
    fused: int | None
    left: dict[str, list[str]]


def main() -> int:
    """Write the files, run them everywhere, print what was found."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--table", action="store_true", help="write the table in the README anew")
    options.add_argument("--web", action="store_true", help="onnxruntime-web, too; needs npm")
    options.add_argument("--every", action="store_true", help="every minor version since 1.19")
    arguments = options.parse_args()
    with TemporaryDirectory(prefix="onnxsemi-") as name:
        folder = Path(name)
        files = folder / "files"
        files.mkdir()
        cases = {"fashion": FASHION, "tokens": _tokens(folder)}
        for model, ladder, form in (
            (m, ladder, f) for m in cases for ladder in LADDERS[m] for f in FORMS
        ):
            _write(cases[model], files / f"{model}-{ladder}-{form.name}.onnx", ladder, form)
        older = EVERY if arguments.every else OLDER
        runs = [_probe(files, "onnxruntime", _older(folder / v, v)) for v in older]
        runs += [_probe(files, runtime) for runtime in HERE]
        if arguments.web:
            package = _web(folder / "web")
            runs += [_probe_web(files, way, package) for way in ("node", "chromium")]
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
    wrong += [
        f"{run.title}: {stem}: a default session leaves {', '.join(operators)}"
        for run in runs
        for stem, operators in run.left.items()
        if operators
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _may_fail(stem: str) -> bool:
    return stem == "fashion-five-native"  # ONNX has types of 2 bits from opset 25 on


def _tokens(folder: Path) -> Case:
    """The model of matrix products, with noise as its images."""
    rng, model = np.random.default_rng(0), parser.parse_model(TOKENS)
    for name, shape in WEIGHTS.items():
        spread = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        values = rng.normal(0, spread, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, folder / "tokens.onnx")
    noise = rng.normal(size=(64, 3, 16, 16)).astype(np.float32)
    np.savez(folder / "noise.npz", x=noise, y=np.zeros(64, np.int64))
    paths = (folder / "tokens.onnx", folder / "noise.npz", folder / "noise.npz")
    return Case("matrix products on tokens", *paths, DataOptions(), 64, 64)


def _write(case: Case, path: Path, ladder: str, form: Form) -> None:
    document = plan_of(case, ladder, form, TargetPolicy.ALL)
    result = write(case, document, form, path)
    np.savez(path.with_suffix(".npz"), **_expected(case, document, result.plan, form))


def _expected(case: Case, document: PlanFile, plan: BitPlan, form: Form) -> dict[str, object]:
    """What the file must give, from the simulation without optimisation."""
    classifier = read_model(case.model, ReadOptions(targets=TargetPolicy.ALL))
    image, logits = classifier.ends.image, classifier.ends.logits
    images = load_images(case.report, image.name, image.shape, case.data).batch(0, IMAGES)
    codes = rounded(classifier.layers, plan, Nearest(form.scheme))
    simulated = simulate(classifier, codes)

    def answers(model: onnx.ModelProto) -> Float32Array:
        return Session(model.SerializeToString(), optimize=False).run({image.name: images})[logits]

    in_float = answers(simulated)
    if document.activations is None:
        return {"images": images, "wanted": in_float, "allowed": TOLERANCE * np.abs(in_float).max()}
    signed = PARTS[form.profile].signed_activations
    plain = replace(PARTS[Profile.FAKE], signed_activations=signed)
    grids = put_together(classifier, codes, plain, document.activations)
    grids.ir_version = classifier.proto.ir_version
    on_grids = answers(grids)
    noise = np.sqrt(np.mean((on_grids - in_float) ** 2))
    return {"images": images, "wanted": on_grids, "allowed": KERNEL_NOISE * noise}


def _older(folder: Path, version: str) -> Path:
    """A folder with that version of ONNX Runtime alone; all else is this environment's."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*command, "--no-deps", "--target", str(folder), f"onnxruntime=={version}.*"], check=True
    )
    return folder


def _web(folder: Path) -> Path:
    """onnxruntime-web as npm brings it into a folder."""
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent"]
    subprocess.run([*command, "--ignore-scripts", "onnxruntime-web"], check=True)
    return folder / "node_modules" / "onnxruntime-web"


def _probe(files: Path, runtime: str, packages: Path | None = None) -> Answers:
    """Run the files in one runtime, looked for in a folder first."""
    command = [sys.executable, str(PROBE), str(files), runtime]
    own = {} if packages is None else {"PYTHONPATH": str(packages)}
    titles = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "reference": "onnx.reference"}
    return _answers(titles[runtime], command, own)


def _probe_web(files: Path, way: str, package: Path) -> Answers:
    """Run the files in onnxruntime-web."""
    title = {"node": "onnxruntime-web in Node", "chromium": "onnxruntime-web in Chromium"}[way]
    return _answers(title, [sys.executable, str(WEB_PROBE), str(files), way, str(package)], {})


def _answers(title: str, command: list[str], environment: dict[str, str]) -> Answers:
    """What a probe says."""
    own = {**os.environ, **environment}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=own)
    document = json.loads(ran.stdout.splitlines()[-1])
    title = f"{title} {document['version']}"
    fused = document["fused"].get("fashion-three-int8")
    return Answers(title, document["found"], fused, document["left"])


def _rows(runs: list[Answers]) -> list[list[str]]:
    """One row a profile, one column a runtime: whatever agrees in all files, or in which."""
    rows = [["profile", *(run.title for run in runs)], ["---"] * (len(runs) + 1)]
    for form in FORMS:
        cells = []
        for run in runs:
            found = {s: o == "agrees" for s, o in run.found.items() if s.endswith(f"-{form.name}")}
            not_two = all(agrees for stem, agrees in found.items() if not _may_fail(stem))
            cells.append("yes" if all(found.values()) else "but for 2 bits" if not_two else "no")
        rows.append([f"`{form.name}`", *cells])
    fused = ("" if run.fused is None else str(run.fused) for run in runs)
    return [*rows, ["layers of `int8` on integer kernels, of 22", *fused]]


if __name__ == "__main__":
    sys.exit(main())
