"""Reading a model: the stages in order."""

from dataclasses import dataclass
from typing import Annotated

from onnxsemi._enum_choice import choice
from onnxsemi._field_types import check_fields
from onnxsemi._model.canonical_weights import canonical
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.evaluation_form import make_plain
from onnxsemi._model.folding import normalize
from onnxsemi._model.head import find_ends
from onnxsemi._model.loader import Model, file_bytes, fingerprint, load_proto, named
from onnxsemi._model.pixels import take_floats
from onnxsemi._model.targets import TargetPolicy, find_targets
from onnxsemi._option import Option, Panel

OutputName = Annotated[
    str | None,
    Option(
        help="The model's output with the class scores, if it has several outputs.",
        panel=Panel.LAYERS,
        metavar="NAME",
        advanced=True,
    ),
]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a model."""

    targets: Annotated[TargetPolicy, Option(Panel.LAYERS, advanced=True)] = TargetPolicy.ALL
    """hidden: the paper's (no stem, no projection shortcut, no classifier); conv: every
    convolution; all: Gemm and MatMul too."""
    exclude: Annotated[
        tuple[str, ...], Option(Panel.LAYERS, metavar="PATTERN", repeated=True, advanced=True)
    ] = ()
    """Leave layers as they are; shell pattern of layer names (see 'inspect')."""
    output: OutputName = None

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "targets", choice(TargetPolicy, self.targets))


def read_model(model: Model, options: ReadOptions | None = None) -> Classifier:
    """Read, check and fold a classifier, and find its target layers.

    Args:
        model: An ONNX file, opset 7 or newer; its bytes, or its proto.
        options: Which layers and which output to take.

    Raises:
        ModelError: If the file is no usable classifier; the message says why and what to do.
    """
    options = options or ReadOptions()
    proto = load_proto(model)
    digest = fingerprint(proto)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    with named(model):
        notes = make_plain(proto, options.output)
        find_ends(proto, options.output)
        proto = canonical(normalize(proto))
        ends = find_ends(proto, options.output)
        take_floats(proto)
        notes += () if ends.note is None else (ends.note,)
        sites, skipped = find_targets(proto.graph, ends.logits, options.targets, options.exclude)
    size = file_bytes(model)
    return Classifier(proto, ends, sites, skipped, digest, size, properties, notes)
