"""What the float32 values of a model are: targets, biases, normalizations, embeddings, others."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from onnxsemi._model.classifier import Classifier
from onnxsemi._model.index import GraphIndex

TARGETS, BIASES, NORMALIZATIONS = "targets", "biases", "normalization"
EMBEDDINGS = "embeddings"
_NORMALIZING = (
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization"),
    *("LayerNormalization", "RMSNormalization"),
)
_JOINING = ("Add", "Concat", "Expand", "Gather", "Sum")
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def shares(classifier: Classifier) -> dict[str, int]:
    """Float32 values of a folded model by what they are; what is none of these by its operator.

    A vector that is added behind a product of weights is a bias, one that multiplies or is added
    elsewhere is a scale or shift of a normalization (one that an exporter wrote out, or that did
    not fold). A larger table that is added, joined or gathered from is one of embeddings:
    positions and class tokens too.
    """
    index = GraphIndex.of(classifier.proto.graph)
    targets = {site.initializer for site in classifier.sites}
    found: dict[str, int] = {}
    for name, tensor in index.constants.items():
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        kind = TARGETS if name in targets else _kind(index, name, numpy_helper.to_array(tensor))
        found[kind] = found.get(kind, 0) + int(np.prod(tensor.dims))
    return found


def of_the_rest(found: Mapping[str, int]) -> float:
    """Share of the targets among all but embeddings and normalizations."""
    counted = sum(n for kind, n in found.items() if kind not in (EMBEDDINGS, NORMALIZATIONS))
    return found.get(TARGETS, 0) / counted


def _kind(index: GraphIndex, name: str, values: np.ndarray) -> str:
    users = [index.graph.node[place] for place in index.consumers.get(name, ())]
    kinds = {node.op_type for node in users}
    wide = sum(size > 1 for size in values.shape) > 1
    if kinds and kinds <= set(_NORMALIZING):
        return NORMALIZATIONS
    if wide:
        return EMBEDDINGS if kinds and kinds <= set(_JOINING) else "/".join(sorted(kinds))
    if all(_is_bias(index, node, name) for node in users):
        return BIASES
    return EMBEDDINGS if kinds <= {"Concat", "Expand"} else NORMALIZATIONS


def _is_bias(index: GraphIndex, node: onnx.NodeProto, name: str) -> bool:
    if node.op_type in _WEIGHTED:
        return list(node.input).index(name) == 2
    others = [index.producer.get(other) for other in node.input if other != name]
    makers = {index.graph.node[place].op_type for place in others if place is not None}
    return node.op_type == "Add" and bool(makers & set(_WEIGHTED))
