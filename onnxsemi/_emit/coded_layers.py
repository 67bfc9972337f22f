"""Levels of entropy-coded layers, and what a weight takes by their frequencies, from a file alone.

The codes are computed as a runtime does while it loads. Of layers whose codes are centred on zero
only, as those of ``--rounding rate`` are: what levels other codes stand for differs by channel.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxsemi._emit.stored_weights import GroupTensor, centred_groups
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.outputs import only_outputs
from onnxsemi._quantizer.coded import ZERO, CodedLayer
from onnxsemi._runtime.sessions import Session


def coded_layers(model: onnx.ModelProto) -> Mapping[str, CodedLayer]:
    """Layer -> what its codes are; nothing of layers that are not coded.

    Raises:
        ModelError: If the file was changed since it was written, or ONNX Runtime refuses it.
    """
    layers = centred_groups(model, GraphIndex.of(model.graph))
    named = {group.tensor for groups in layers.values() for group in groups if group.bits}
    if not named:
        return {}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    floats = {name: f"{name}/float32" for name in sorted(named)}
    part.graph.node.extend(
        helper.make_node("Cast", [name], [made], to=TensorProto.FLOAT)
        for name, made in floats.items()
    )
    session = Session(only_outputs(part, floats.values()).SerializeToString(), optimize=False)
    steps = {name: value.astype(np.int64) for name, value in session.run({}).items()}
    counts = {
        name: np.bincount(steps[made].ravel() + ZERO, minlength=2 * ZERO)
        for name, made in floats.items()
    }
    return {name: _layer(groups, counts) for name, groups in layers.items()}


def _layer(groups: Sequence[GroupTensor], counts: Mapping[str, np.ndarray]) -> CodedLayer:
    zeros = sum(group.weights for group in groups if not group.bits)
    seen = [counts[group.tensor] for group in groups if group.bits]
    return CodedLayer.counted(np.sum(seen, axis=0), zeros)
