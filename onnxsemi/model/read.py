"""Reading a model: the stages in order."""

import os
from dataclasses import dataclass

from onnxsemi.choices import choice
from onnxsemi.errors import ModelError
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.head import find_ends
from onnxsemi.model.load import file_bytes, fingerprint, load_proto
from onnxsemi.model.normalize import normalize
from onnxsemi.model.targets import TargetPolicy, find_targets
from onnxsemi.model.widen import is_float16, widen


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a model.

    Attributes:
        targets: Which weighted layers are quantized.
        exclude: Shell patterns of layer names to leave as they are.
        output: Name of the output that holds the class scores, if there are several.
    """

    targets: TargetPolicy = TargetPolicy.ALL
    exclude: tuple[str, ...] = ()
    output: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", choice(TargetPolicy, self.targets))


def read_model(
    path: str | os.PathLike[str], options: ReadOptions | None = None, *, exclusive: bool = True
) -> Classifier:
    """Read, check and fold a classifier, and find its target layers.

    Args:
        path: An ONNX file, opset 7 or newer.
        options: Which layers and which output to take.
        exclusive: Whether its classes have to exclude each other; else it may end in a Sigmoid.

    Raises:
        ModelError: If the file is no usable classifier; the message says why and what to do.
    """
    options = options or ReadOptions()
    proto = load_proto(path)
    digest = fingerprint(proto)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    try:
        notes = []
        if is_float16(proto):
            proto = widen(proto)
            notes.append("float16 was widened to float32: input and output are float32 now")
        find_ends(proto.graph, options.output, exclusive=exclusive)
        proto = normalize(proto)
        ends = find_ends(proto.graph, options.output, exclusive=exclusive)
        sites, skipped = find_targets(proto.graph, ends.logits, options.targets, options.exclude)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    size = file_bytes(path)
    return Classifier(proto, ends, sites, skipped, digest, size, properties, tuple(notes))
