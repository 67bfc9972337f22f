"""A path -> a checked ONNX ModelProto with all its weights, or one clear refusal."""

import hashlib
import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import checker, external_data_helper, inliner

from onnxsemi.errors import ModelError, first_line
from onnxsemi.lfs import pointer_remedy

OLDEST_OPSET = 7
_STANDARD_DOMAINS = ("", "ai.onnx")
_FORMAT = "protobuf"  # onnx would else guess from the name, and parse x.json as JSON


def load_proto(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Read and check a model file; external data are read in, local functions inlined.

    Raises:
        ModelError: If the file is missing, is no ONNX model, is damaged, or its opset is below 7.
    """
    file = Path(path)
    if not file.exists():
        raise ModelError(f"{path}: no such file")
    if not file.is_file():
        what = "a folder" if file.is_dir() else "no regular file"
        raise ModelError(f"{path}: is {what}, not an ONNX file")
    model = _parse(file)
    _read_external_data(model, file)
    _check(model, file)
    if default_opset(model) < OLDEST_OPSET:
        raise ModelError(
            f"{path}: opset {default_opset(model)} is older than {OLDEST_OPSET}; export it anew"
        )
    return inliner.inline_local_functions(model) if model.functions else model


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 over nodes, initializers, inputs and outputs of a loaded model.

    Taken before folding, so that another version of ONNX Runtime does not change it.
    """
    graph = model.graph
    digest = hashlib.sha256(str(default_opset(model)).encode())
    for part in (*graph.input, *graph.output, *graph.node, *graph.initializer):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def default_opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set that the model imports."""
    return max(
        (entry.version for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS),
        default=1,
    )


def _parse(file: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model(file, _FORMAT, load_external_data=False)
    except DecodeError:
        remedy = pointer_remedy(file)
        raise ModelError(remedy or f"{file}: not an ONNX file, or cut short in transfer") from None
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{file}: not an ONNX model: it has no nodes")
    return model


def _read_external_data(model: onnx.ModelProto, file: Path) -> None:
    try:
        external_data_helper.load_external_data_for_model(model, str(file.parent))
    except (OSError, ValueError, checker.ValidationError) as error:
        remedies = filter(None, map(pointer_remedy, model_files(file)[1:]))
        failure = f"{file}: its external data cannot be read: {first_line(error)}"
        raise ModelError(next(remedies, failure)) from None


def _check(model: onnx.ModelProto, file: Path) -> None:
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError) as error:
        raise ModelError(f"{file}: damaged or not valid ONNX: {first_line(error)}") from None


def file_bytes(path: str | os.PathLike[str]) -> int:
    """Bytes of a model file and of the external data that it refers to."""
    return sum(file.stat().st_size for file in model_files(path))


def model_files(path: str | os.PathLike[str]) -> list[Path]:
    """The model file and the files of external data that it refers to."""
    model = onnx.load_model(path, _FORMAT, load_external_data=False)
    locations = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    }
    return [Path(path), *(Path(path).parent / location for location in sorted(locations))]
