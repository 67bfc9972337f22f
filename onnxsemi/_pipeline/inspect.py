"""``inspect``: what a file holds, layer by layer, whether it is a float model or one of ours."""

import os
from dataclasses import replace
from pathlib import Path

import onnx

from onnxsemi._emit.coded_layers import coded_layers
from onnxsemi._emit.seal import changed
from onnxsemi._emit.stored_weights import InspectedLayer, Stored, emitted_properties, read_stored
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.loader import default_opset, file_bytes, load_proto, named
from onnxsemi._model.reader import ReadOptions, read_model
from onnxsemi._pipeline.sizes import sizes_of
from onnxsemi._results.results import InspectResult


def inspect(path: str | os.PathLike[str], *, options: ReadOptions | None = None) -> InspectResult:
    """Show the target layers of a float model, or the semilayers that a compressed file stores.

    Args:
        path: An ONNX file.
        options: Which layers of a float model to take as targets.

    Raises:
        ModelError: If the file is no usable classifier.
    """
    proto = load_proto(path)
    properties = emitted_properties(proto)
    classifier = None if properties else read_model(path, options)
    with named(path):
        held = _stored(proto) if classifier is None else Stored(_float_layers(classifier), 0, 0)
        sizes = sizes_of(Path(path)) if properties else None
    return InspectResult(
        path=Path(path),
        opset=default_opset(proto),
        ir_version=proto.ir_version,
        file_bytes=file_bytes(path),
        properties=properties,
        layers=held.layers,
        float_bytes=held.float_bytes,
        shared_bytes=held.shared_bytes,
        sizes=sizes,
        left_float=() if classifier is None else classifier.left_float,
        notes=changed(proto) if classifier is None else classifier.notes,
    )


def _stored(proto: onnx.ModelProto) -> Stored:
    """What a file of ours holds, with the levels of its entropy-coded layers."""
    held, coded = read_stored(proto), coded_layers(proto)
    layers = (
        replace(layer, levels=found.levels, coded_bits=round(found.bits, 3))
        if (found := coded.get(layer.name)) is not None
        else layer
        for layer in held.layers
    )
    return replace(held, layers=tuple(layers))


def _float_layers(classifier: Classifier) -> tuple[InspectedLayer, ...]:
    targets = (
        InspectedLayer(site.layer.name, site.layout.stored, "target", ())
        for site in classifier.sites
    )
    others = (InspectedLayer(skip.name, skip.shape, skip.reason, ()) for skip in classifier.skipped)
    found = {layer.name: layer for layer in (*targets, *others)}
    names = [node.name for node in classifier.proto.graph.node]
    return tuple(found[name] for name in names if name in found)
