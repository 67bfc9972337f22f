"""A path, bytes or proto -> a checked ModelProto with all its weights, or one clear refusal."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import checker, external_data_helper, inliner

from onnxsemi._errors import ModelError, one_line
from onnxsemi._lfs import pointer_remedy
from onnxsemi._model.bounds import check_bounds
from onnxsemi._reading import is_there, reading, regular_file

OLDEST_OPSET = 7
Model = str | os.PathLike[str] | bytes | onnx.ModelProto
"""An ONNX file, what it holds, or what ``onnx.load`` gives."""
_STANDARD_DOMAINS = ("", "ai.onnx")
_FORMAT = "protobuf"  # onnx would else guess from the name, and parse x.json as JSON


def path_of(model: Model) -> Path | None:
    """Where a model is; None if it is in memory."""
    return Path(model) if isinstance(model, str | os.PathLike) else None


def name_of(model: Model) -> str:
    """A model's name, for messages."""
    return str(path_of(model) or f"the given {type(model).__name__}")


def load_proto(model: Model) -> onnx.ModelProto:
    """Read and check a model; external data are read in, local functions inlined.

    What is in memory is left as it is.

    Raises:
        TypeError: If it is neither path, bytes nor proto.
        ModelError: If the file is missing, is no ONNX model, is damaged, or its opset is below 7.
    """
    given: object = model
    if not isinstance(given, str | os.PathLike | bytes | onnx.ModelProto):
        raise TypeError(
            f"a model must be a path, bytes or an onnx.ModelProto, not {type(given).__name__}"
        )
    name, path = name_of(model), path_of(model)
    with reading(ModelError, f"{name}: not an ONNX model that can be read"):
        return _loaded(model, name, path)


@contextmanager
def named(model: Model) -> Iterator[None]:
    """Whatever is wrong with a model that was loaded, with its name.

    Raises:
        ModelError: Likewise.
    """
    try:
        with reading(ModelError, "no classifier that can be read"):
            yield
    except ModelError as error:
        raise ModelError(f"{name_of(model)}: {error}") from error


def _loaded(model: Model, name: str, path: Path | None) -> onnx.ModelProto:
    proto = _from_memory(model, name) if path is None else _from_file(path)
    with named(model):
        check_bounds(proto)
    _check(proto, name)
    if default_opset(proto) < OLDEST_OPSET:
        raise ModelError(
            f"{name}: opset {default_opset(proto)} is older than {OLDEST_OPSET}; export it anew"
        )
    if not proto.functions:
        return proto
    try:
        return inliner.inline_local_functions(proto)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{name}: local functions cannot be inlined: {one_line(error)}") from error


def _from_file(file: Path) -> onnx.ModelProto:
    if not is_there(file):
        raise ModelError(f"{file}: no such file")
    regular_file(file, ModelError)
    proto = _parse(file)
    _read_external_data(proto, file)
    return proto


def _from_memory(model: object, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    if isinstance(model, onnx.ModelProto):
        proto.CopyFrom(model)
    elif isinstance(model, bytes):
        try:
            proto.ParseFromString(model)
        except DecodeError:
            raise ModelError(f"{name}: not an ONNX model") from None
    _check_nodes(proto, name)
    if any(map(external_data_helper.uses_external_data, proto.graph.initializer)):
        raise ModelError(
            f"{name}: its weights are in files beside it: give its path, or load them with "
            "onnx.load_external_data_for_model"
        )
    return proto


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
    _check_nodes(model, str(file))
    return model


def _check_nodes(model: onnx.ModelProto, name: str) -> None:
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{name}: not an ONNX model: it has no nodes")


def _read_external_data(model: onnx.ModelProto, file: Path) -> None:
    try:
        with reading(ModelError, f"{file}: its external data cannot be read"):
            external_data_helper.load_external_data_for_model(model, str(file.parent))
    except ModelError:
        for remedy in filter(None, map(pointer_remedy, model_files(file)[1:])):
            raise ModelError(remedy) from None
        raise


def _check(model: onnx.ModelProto, name: str) -> None:
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError) as error:
        raise ModelError(f"{name}: damaged or not valid ONNX: {one_line(error)}") from None


def file_bytes(model: Model) -> int:
    """Bytes of a model as a file, and of the external data that it refers to.

    Raises:
        ModelError: If one of the files cannot be read.
    """
    if isinstance(model, onnx.ModelProto):
        return int(model.ByteSize())
    if isinstance(model, bytes):
        return len(model)
    with reading(ModelError, f"{model}: cannot be read"):
        return sum(file.stat().st_size for file in model_files(model))


def model_files(path: str | os.PathLike[str]) -> list[Path]:
    """The model file and the files of external data that it refers to.

    Raises:
        ModelError: If the model cannot be read.
    """
    model = _parse(Path(path))
    locations = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    }
    return [Path(path), *(Path(path).parent / location for location in sorted(locations))]
