"""Files that runtimes are tried with, and what each must give.

The bundled model, all targets, in every profile, with plans of three and of five bitwidths, its
float file, and a small model of matrix products on tokens, with one and three, whose default
sessions have fusions of their own.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from cases import FASHION, Case
from emitted import FORMS, Form, plan_of, write
from onnx import numpy_helper, parser

from onnxsemi import BitPlan, DataOptions, Profile, ReadOptions, TargetPolicy, load_images
from onnxsemi._arrays import Float32Array
from onnxsemi._emit.model import put_together
from onnxsemi._emit.profile import FORMS as PARTS
from onnxsemi._emit.verification import KERNEL_NOISE, TOLERANCE
from onnxsemi._evaluation.evaluator import simulate
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.reader import read_model
from onnxsemi._quantizer.rounded_plan import Nearest, rounded
from onnxsemi._run.plan_file import PlanFile
from onnxsemi._runtime.sessions import Session

MEASURED, FLOAT = "fashion-three", "fashion-three-float"
"""Beginning of the names of files whose speed is measured, and the float file among them."""
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
IMAGES = 16


def write_files(folder: Path, window: float) -> tuple[Path, Path]:
    """All files, and a folder of those of them whose speed is measured.

    Args:
        folder: Where to; it is empty.
        window: Seconds that latencies are measured for.
    """
    files, few = folder / "files", folder / "few"
    files.mkdir()
    few.mkdir()
    cases = {"fashion": FASHION, "tokens": _tokens(folder)}
    for model, case in cases.items():
        for ladder in LADDERS[model]:
            for form in FORMS:
                path = files / f"{model}-{ladder}-{form.name}.onnx"
                write_file(case, path, ladder, form, window * path.name.startswith(MEASURED))
    write_float(FASHION, files / f"{FLOAT}.onnx", window)
    for path in files.glob(f"{MEASURED}-*"):
        shutil.copy(path, few)
    return files, few


def write_file(case: Case, path: Path, ladder: str, form: Form, window: float) -> None:
    """A file in a profile, and beside it what it must give."""
    document = plan_of(case, ladder, form, TargetPolicy.ALL)
    result = write(case, document, form, path)
    classifier = read_model(case.model, ReadOptions(targets=TargetPolicy.ALL))
    images = _images(case, classifier)
    expected = _expected(classifier, document, result.plan, form, images)
    _note(path, classifier, images, expected, window)


def write_float(case: Case, path: Path, window: float) -> None:
    """The float file, and beside it what it must give."""
    shutil.copy(case.model, path)
    classifier = read_model(case.model, ReadOptions(targets=TargetPolicy.ALL))
    images = _images(case, classifier)
    wanted = _answers(classifier.proto, classifier, images)
    _note(path, classifier, images, (wanted, TOLERANCE * float(np.abs(wanted).max())), window)


def may_fail(stem: str) -> bool:
    """Whether not every runtime must load a file: ONNX has types of 2 bits from opset 25 on."""
    return stem == "fashion-five-native"


def _note(
    path: Path,
    classifier: Classifier,
    images: Float32Array,
    expected: tuple[Float32Array, float],
    window: float,
) -> None:
    ends = (classifier.ends.image.name, classifier.ends.logits)
    wanted, allowed = expected
    found = {"images": images, "wanted": wanted, "allowed": allowed, "window": window}
    np.savez(path.with_suffix(".npz"), ends=np.array(ends), **found)


def _images(case: Case, classifier: Classifier) -> Float32Array:
    image = classifier.ends.image
    return load_images(case.report, image.name, image.shape, case.data).batch(0, IMAGES)


def _answers(model: onnx.ModelProto, classifier: Classifier, images: Float32Array) -> Float32Array:
    """Logits without optimisation."""
    session = Session(model.SerializeToString(), optimize=False)
    return session.run({classifier.ends.image.name: images})[classifier.ends.logits]


def _expected(
    classifier: Classifier, document: PlanFile, plan: BitPlan, form: Form, images: Float32Array
) -> tuple[Float32Array, float]:
    """What the file must give, from the simulation, and how far it may be from it."""
    codes = rounded(classifier.layers, plan, Nearest(form.scheme))
    in_float = _answers(simulate(classifier, codes), classifier, images)
    if document.activations is None:
        return in_float, TOLERANCE * float(np.abs(in_float).max())
    signed = PARTS[form.profile].signed_activations
    plain = replace(PARTS[Profile.FAKE], signed_activations=signed)
    grids = put_together(classifier, codes, plain, document.activations)
    grids.ir_version = classifier.proto.ir_version
    on_grids = _answers(grids, classifier, images)
    noise = float(np.sqrt(np.mean((on_grids - in_float) ** 2)))
    return on_grids, KERNEL_NOISE * noise


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
