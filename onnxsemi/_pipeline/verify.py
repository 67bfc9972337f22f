"""``verify``: whether a written file is whole, and the one of a plan or a run."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from onnxsemi._emit.seal import is_whole
from onnxsemi._emit.stored_weights import PLAN, WEIGHTS, emitted_properties, read_stored
from onnxsemi._errors import VerificationError
from onnxsemi._model.loader import load_proto, named
from onnxsemi._pipeline.differences import compare
from onnxsemi._plan.bits import BitPlan
from onnxsemi._report.record import read_result
from onnxsemi._results.verify import VerifyResult
from onnxsemi._run.folder import RESULT
from onnxsemi._run.frontier_file import read_frontier
from onnxsemi._run.integrity import check_files
from onnxsemi._run.plan_file import PlanFile, read_plan

_Path = str | os.PathLike[str]


def verify(model: _Path, *, plan: _Path | None = None, run: _Path | None = None) -> VerifyResult:
    """Check that a written file is what onnxsemi wrote, and belongs to a plan or to a run.

    Nothing is run and nothing is written: digests are compared, of the file with what it says of
    itself, of its bitwidths and weights with those of the plan and of the run, and of every file of
    the run with its own.

    Args:
        model: A file that :func:`compress` or :func:`apply` wrote.
        plan: The plan that it is to be of.
        run: The folder of the run that it is to be of.

    Raises:
        VerificationError: If it was changed since, is damaged, or of another plan or run.
        OnnxSemiError: If model, plan or run cannot be read.
    """
    proto = load_proto(model)
    properties = emitted_properties(proto)
    if not properties:
        raise VerificationError(f"{model}: onnxsemi did not write it: there is nothing to compare")
    whole = is_whole(proto)
    if whole is None:
        raise VerificationError(
            f"{model}: does not say what was written: an older version wrote it, or its metadata "
            "were changed; write it anew with 'apply'"
        )
    if not whole:
        raise VerificationError(
            f"{model}: was changed since onnxsemi wrote it, or is damaged: get it anew, or write "
            "it anew with 'apply'"
        )
    with named(model):
        layers = len(read_stored(proto).layers)
    checked = [f"model: what was written, {layers} layers"]
    if plan is not None:
        checked += _of_plan(Path(model), properties, Path(plan))
    if run is not None:
        checked += _of_run(Path(model), properties, Path(run))
    return VerifyResult(Path(model), tuple(checked))


def _of_plan(model: Path, properties: Mapping[str, str], path: Path) -> Iterator[str]:
    """Compare bitwidths and weights with those of a plan."""
    document = read_plan(path)
    plan = _plan(document)
    if properties.get(PLAN) != plan.sha256:
        differences = compare(model, path).layers
        where = f", in layer {differences[0].layer!r} first" if differences else ""
        raise VerificationError(f"{model}: has other bitwidths than {path}{where}")
    yield f"plan: the bitwidths of {path}"
    yield _weights(model, properties, document.weights_of(plan), str(path))


def _of_run(model: Path, properties: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Check a run's files, and compare the model with the points that it keeps."""
    count = check_files(folder)
    kept = read_frontier(folder)
    if (folder / RESULT).exists():
        read_result(folder)
        count += 2  # and the arrays behind it
    best, plan = folder / "best.onnx", folder / "best.plan.json"
    if best.exists() and plan.exists():
        verify(best, plan=plan)
        count += 2
    yield f"run: {count} files of {folder}, each as it was written"
    point = next((p for p in kept.points if p.plan.sha256 == properties.get(PLAN)), None)
    if point is None:
        raise VerificationError(f"{model}: has the bitwidths of none of the points of {folder}")
    yield f"run: one of the {len(kept.points)} points of {folder}"
    yield _weights(model, properties, kept.document.weights_of(point.plan), str(folder))


def _weights(model: Path, properties: Mapping[str, str], there: str | None, where: str) -> str:
    """Compare the digests of weights."""
    if there is None:
        return f"weights: {where} does not say which"
    if properties.get(WEIGHTS) != there:
        raise VerificationError(
            f"{model}: has other weights than {where} says: they were rounded on other images, on "
            "another kind of processor, or for another profile"
        )
    return f"weights: those of {where}"


def _plan(document: PlanFile) -> BitPlan:
    """The plan alone: of its layers' weights nothing is asked."""
    return BitPlan(document.bits, dict.fromkeys(document.layers, 1))
