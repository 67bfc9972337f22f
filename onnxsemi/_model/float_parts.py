"""What of a model stays float32, with what it would take to change that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx

from onnxsemi._model.index import GraphIndex
from onnxsemi._model.targets import Site, Skipped

LEAST_NAMED = 0.01
"""Share of the model's bytes from which on what stays float32 is named."""
_RECURRENT = ("LSTM", "GRU", "RNN")
_SCALED = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "PRelu")
_REMEDIES: Mapping[str, str] = {
    **dict.fromkeys(
        _RECURRENT,
        "recurrent weights are no targets: onnxruntime's quantize_dynamic takes them in the "
        "written file",
    ),
    "Gather": "a table of embeddings, no weights of a product: fewer or shorter rows",
    "Einsum": "sums over other than the last axes: write it as a MatMul",
    **dict.fromkeys(_SCALED, "one number a channel"),
}


@dataclass(frozen=True)
class FloatWeights:
    """Values of a model that stay float32.

    Attributes:
        name: Of the layer: of the node that takes them.
        bytes: What they take.
        reason: Why they are no target, and what to do if there is something.
    """

    name: str
    bytes: int
    reason: str


def left_float(
    index: GraphIndex, sites: Iterable[Site], skipped: Iterable[Skipped]
) -> tuple[FloatWeights, ...]:
    """What holds a hundredth of the float32 values or more and is no target; the rest in one.

    Args:
        index: Of a folded model.
        sites: Its targets.
        skipped: Its weighted layers that are none.

    Returns:
        By layer, largest first; all else at the end.
    """
    graph = index.graph
    targets = {site.initializer for site in sites}
    reasons = {skip.name: skip.reason for skip in skipped}
    sizes = {t.name: _bytes(t) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    least = LEAST_NAMED * sum(sizes.values())
    layers: dict[str, FloatWeights] = {}
    for name, size in sizes.items():
        users = [graph.node[place] for place in index.consumers.get(name, ())]
        if name not in targets and users:
            own = layers.get(users[0].name)
            reason = reasons.get(users[0].name) or _reason(users[0])
            layers[users[0].name] = FloatWeights(
                users[0].name, size + (own.bytes if own else 0), reason
            )
    named = sorted(
        (own for own in layers.values() if own.bytes >= least or own.name in reasons),
        key=lambda own: -own.bytes,
    )
    rest = sum(own.bytes for own in layers.values()) - sum(own.bytes for own in named)
    return (*named, FloatWeights("biases and other values", rest, "no weights of a layer"))


def _reason(node: onnx.NodeProto) -> str:
    kind = node.op_type
    return f"{kind}: {_REMEDIES.get(kind, 'no weights of a product')}"


def _bytes(tensor: onnx.TensorProto) -> int:
    size = 4
    for dim in tensor.dims:
        size *= dim
    return size
