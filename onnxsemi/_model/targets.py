"""Which layers are quantized, and why the others are not."""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnxsemi._errors import ModelError
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.layout import WeightLayout, layout_of
from onnxsemi._model.roles import WEIGHTED, Role, roles
from onnxsemi._plan.layers import TargetLayer


class TargetPolicy(StrEnum):
    """Which weighted layers are targets."""

    HIDDEN = "hidden"
    """The paper's: convolutions but for stem, projection shortcuts and classifier."""
    CONV = "conv"
    """Every convolution, transposed ones too."""
    ALL = "all"
    """Every convolution, Gemm and MatMul."""


@dataclass(frozen=True, eq=False)
class Site:
    """Where a target layer stands in the graph.

    Attributes:
        layer: The target layer, its weight channels-first.
        initializer: Name of the stored weight.
        nodes: Names of the nodes that use it; several if the weight is shared.
        layout: How the operator stores the weight.
    """

    layer: TargetLayer
    initializer: str
    nodes: tuple[str, ...]
    layout: WeightLayout


@dataclass(frozen=True)
class Skipped:
    """A weighted layer that is no target.

    Attributes:
        name: Node name.
        reason: Why it is none.
        shape: Shape of the weight as stored; empty if it is computed at run time.
    """

    name: str
    reason: str
    shape: tuple[int, ...] = ()


def matches(name: str, pattern: str) -> bool:
    """Whether a layer is named by a shell pattern, or literally (names may hold brackets)."""
    return name == pattern or fnmatchcase(name, pattern)


def find_targets(
    graph: onnx.GraphProto, logits: str, policy: TargetPolicy, exclude: tuple[str, ...] = ()
) -> tuple[tuple[Site, ...], tuple[Skipped, ...]]:
    """Target layers in graph order, and the weighted layers that are none.

    Args:
        graph: A normalized graph.
        logits: Name of the logits tensor.
        policy: Which layers to take.
        exclude: Shell patterns of layer names to leave as they are.

    Raises:
        ModelError: If the model has no convolution, or the policy leaves no target.
    """
    index = GraphIndex.of(graph)
    if not any(True for _ in index.nodes("Conv", "ConvTranspose")):
        raise ModelError("the model has no convolution: there is nothing for this method to do")
    role_of = roles(graph, logits)
    sites: list[Site] = []
    skipped: list[Skipped] = []
    for initializer, positions in _by_weight(index).items():
        node = graph.node[positions[0]]
        reason = (
            _weight_refusal(index, initializer, positions)
            or _policy_refusal(node, [role_of[position] for position in positions], policy)
            or _exclusion([graph.node[position].name for position in positions], exclude)
        )
        if reason:
            weight = index.constants.get(initializer)
            shape = () if weight is None else tuple(weight.dims)
            skipped.append(Skipped(node.name, reason, shape))
        else:
            sites.append(_site(index, initializer, positions))
    if not sites:
        advice = [
            *(["`targets` all"] if policy is not TargetPolicy.ALL else []),
            *(["fewer `exclude` patterns"] if exclude else []),
        ]
        raise ModelError(
            f"no layer is left to quantize with `targets` {policy}"
            + (f": try {' or '.join(advice)}" if advice else f" ({skipped[0].reason})")
        )
    return tuple(sites), tuple(skipped)


def _by_weight(index: GraphIndex) -> dict[str, list[int]]:
    """Weight tensor -> positions of the weighted nodes that use it, in graph order."""
    users: dict[str, list[int]] = {}
    for position, node in index.nodes(*WEIGHTED):
        users.setdefault(node.input[1], []).append(position)
    return users


def _weight_refusal(index: GraphIndex, initializer: str, positions: list[int]) -> str | None:
    tensor = index.constants.get(initializer)
    if tensor is None:
        kinds = {index.graph.node[position].op_type for position in positions}
        both = "MatMul" in kinds and "MatMul of two tensors that are computed at run time"
        return both or "its weight is computed at run time"
    if sorted(positions) != index.consumers[initializer]:
        return "its weight is used for something else too"
    return _form_refusal(tensor, [index.graph.node[position] for position in positions])


def _form_refusal(tensor: TensorProto, nodes: list[onnx.NodeProto]) -> str | None:
    if tensor.data_type != TensorProto.FLOAT:
        return f"its weight is {TensorProto.DataType.Name(tensor.data_type)}, not float32"
    if len(tensor.dims) < 2 or 0 in tensor.dims:
        return f"its weight has shape {list(tensor.dims)}"
    if nodes[0].op_type == "MatMul" and len(tensor.dims) != 2:
        return f"its weight has shape {list(tensor.dims)}: a batched MatMul"
    return None


def _policy_refusal(node: onnx.NodeProto, found: list[Role], policy: TargetPolicy) -> str | None:
    if policy is TargetPolicy.ALL:
        return None
    if node.op_type not in ("Conv", "ConvTranspose"):
        return f"{node.op_type} (no target of policy {policy})"
    if policy is TargetPolicy.CONV:
        return None
    if node.op_type == "ConvTranspose":
        return f"ConvTranspose (no target of policy {policy})"
    outside = [role for role in found if role is not Role.HIDDEN]
    return f"{outside[0]} (no target of policy {policy})" if outside else None


def _exclusion(names: list[str], patterns: tuple[str, ...]) -> str | None:
    """Excluding one of the nodes that share a weight leaves the weight as it is."""
    matching = [p for p in patterns if any(matches(name, p) for name in names)]
    return f"excluded by {matching[0]!r}" if matching else None


def _site(index: GraphIndex, initializer: str, positions: list[int]) -> Site:
    nodes = [index.graph.node[position] for position in positions]
    stored = numpy_helper.to_array(index.constants[initializer])
    if not np.isfinite(stored).all():
        raise ModelError(f"layer {nodes[0].name!r}: a weight is NaN or infinite")
    layout = layout_of(nodes[0], stored.shape)
    layer = TargetLayer(nodes[0].name, layout.to_channel_first(stored))
    return Site(layer, initializer, tuple(node.name for node in nodes), layout)
