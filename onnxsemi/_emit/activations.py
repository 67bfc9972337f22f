"""Activations in 8 bits: QuantizeLinear and DequantizeLinear around what integer kernels can run.

Quantized are the inputs of the targets, the outputs of convolutions, and what lies between them:
the operators that ONNX Runtime has integer kernels for, if what they take is quantized. A Relu or
Clip belongs to the operator before it. The outputs of the model and its logits stay float32.

A layer that is no target reads a quantized activation through a Max with the lowest float32, which
changes nothing: directly behind a DequantizeLinear ONNX Runtime (measured: 1.32) rounds the layer's
float32 weights to int8 itself, one scale for all channels.

The same Max keeps a pooling behind a float32 layer in float32: otherwise ONNX Runtime moves the
QuantizeLinear before it, and the pooling, between two layouts, takes a third of a ResNet's time.

A Gemm runs on integers in every version of ONNX Runtime if it adds no bias itself: an Add behind it
does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnxsemi._emit.builder import Builder
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.roles import WEIGHTED
from onnxsemi._plan.bits import BitPlan
from onnxsemi._plan.bitwidth import FLOAT_BITS, MAX_BITS

ActivationRanges = Mapping[str, tuple[float, float]]

_INTEGER = ("Conv", "Gemm", "MatMul")
_JOINING = ("Add", "Sum", "Concat")
_PASSING = ("MaxPool", "AveragePool")
_FUSED = ("Relu", "Clip")
_LOWEST = np.array(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Activation:
    """8-bit grid of a tensor: ``value = scale * (code - zero_point)``, zero on the grid."""

    scale: np.float32
    zero_point: np.uint8 | np.int8

    @classmethod
    def of_range(cls, low: float, high: float, *, signed: bool = False) -> "Activation":
        """The grid from the smallest to the largest value, stretched to include zero.

        Args:
            low: The smallest value.
            high: The largest.
            signed: Whether the grid is int8, centred on zero (zero point 0); else it is uint8.
        """
        if signed:
            scale = np.float32(max(-low, high, 127 * float(np.finfo(np.float32).tiny)) / 127)
            return cls(scale, np.int8(0))
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max((high - low) / 255, float(np.finfo(np.float32).tiny)))
        return cls(scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255)))


def why_float(classifier: Classifier, plan: BitPlan) -> dict[str, str | None]:
    """Target node -> why no integer kernel can run it, None if one can; in graph order."""
    layers = {name: site.layer.name for site in classifier.sites for name in site.nodes}
    reasons: dict[str, str | None] = {}
    for node in classifier.proto.graph.node:
        if node.name in layers:
            reasons[node.name] = None
            if node.op_type not in _INTEGER:
                reasons[node.name] = f"ONNX Runtime has no integer kernel for {node.op_type}"
            elif FLOAT_BITS in plan.bits[layers[node.name]]:
                reasons[node.name] = "it has float32 channels"
    return reasons


def integer_nodes(classifier: Classifier, plan: BitPlan) -> set[str]:
    """Names of the target nodes that integer kernels can run."""
    return {name for name, reason in why_float(classifier, plan).items() if reason is None}


def used_ranges(classifier: Classifier, ranges: ActivationRanges) -> dict[str, tuple[float, float]]:
    """The ranges of the activations that are quantized if every target is."""
    plan = BitPlan.uniform(classifier.layers, MAX_BITS)
    graph = gs.import_onnx(classifier.proto)
    targets, logits = integer_nodes(classifier, plan), classifier.ends.logits
    names = _chosen(graph, ranges, targets, logits, signed=False)  # of any type
    return {name: ranges[name] for name in names}


def quantize_activations(
    build: Builder,
    ranges: ActivationRanges,
    targets: Collection[str],
    logits: str,
    *,
    signed: bool,
) -> None:
    """Put QuantizeLinear and DequantizeLinear behind every activation to quantize.

    Args:
        build: Adds to the graph.
        ranges: Tensor -> its calibrated range.
        targets: Names of the target nodes that integer kernels are to run.
        logits: Tensor that stays float32, as the outputs do.
        signed: Whether grids are int8 with zero point 0; else uint8.
    """
    graph = build.graph
    grids = _chosen(graph, ranges, targets, logits, signed=signed)
    for number, node in enumerate(graph.nodes):
        if node.op == "Gemm" and node.name in targets:
            _take_off_bias(build, node, f"b{number}")
    tensors = graph.tensors()
    after_floats = {name for name in grids if _pools_floats(tensors[name], grids)}
    for name, grid in grids.items():
        _insert(build, tensors[name], grid, targets, stay=name in after_floats)


def _chosen(
    graph: gs.Graph,
    ranges: ActivationRanges,
    targets: Collection[str],
    logits: str,
    *,
    signed: bool,
) -> dict[str, Activation]:
    """Grids of the tensors to quantize."""
    graph.toposort()
    kept = {logits, *(tensor.name for tensor in graph.outputs)}
    grids: dict[str, Activation] = {}

    def known(tensor: gs.Tensor) -> bool:
        return isinstance(tensor, gs.Variable) and tensor.name in ranges

    def take(tensor: gs.Tensor) -> None:
        if known(tensor) and tensor.name not in kept:
            grids.setdefault(tensor.name, Activation.of_range(*ranges[tensor.name], signed=signed))

    for node in graph.nodes:
        if node.name in targets:
            take(node.inputs[0])
            if node.op == "Conv":
                take(_end(node))
    for node in graph.nodes:
        taken = [tensor for tensor in node.inputs if isinstance(tensor, gs.Variable)]
        quantized = [tensor for tensor in taken if tensor.name in grids]
        if not quantized:
            continue
        if node.op in _JOINING and all(map(known, taken)):
            for tensor in (*taken, _end(node)):
                take(tensor)
        elif (
            node.op in _PASSING
            and not _stays_float(node)
            and known(node.outputs[0])
            and node.outputs[0].name not in kept
        ):
            # the same grid: a maximum needs no other, a mean none that is wider
            grids.setdefault(node.outputs[0].name, grids[taken[0].name])
    return grids


def _end(node: gs.Node) -> gs.Tensor:
    """What a node gives once the activation function behind it is done."""
    output = node.outputs[0]
    if len(output.outputs) == 1 and output.outputs[0].op in _FUSED:
        return output.outputs[0].outputs[0]
    return output


def _take_off_bias(build: Builder, node: gs.Node, label: str) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if isinstance(bias, gs.Constant):
        output, product = node.outputs[0], build.variable(np.float32)
        added = np.float32(node.attrs.pop("beta", 1.0)) * bias.values
        node.inputs.pop()
        node.outputs[0] = product
        build.append("Add", [product, build.stored(label, added)], [output])


def _pools_floats(tensor: gs.Variable, grids: Collection[str]) -> bool:
    producer = tensor.inputs[0] if tensor.inputs else None
    return producer is not None and (
        producer.op == "MaxPool" and producer.inputs[0].name not in grids
    )


def _insert(
    build: Builder,
    tensor: gs.Variable,
    grid: Activation,
    targets: Collection[str],
    *,
    stay: bool,
) -> None:
    """Quantize a tensor for all that take it; ``stay`` says that nothing may move before it."""
    users = list(tensor.outputs)
    scale, zero = build.shared(np.array(grid.scale)), build.shared(np.array(grid.zero_point))
    exact = _unchanged(build, tensor) if stay else tensor
    codes = build.node("QuantizeLinear", exact, scale, zero, dtype=zero.dtype)
    values = build.node("DequantizeLinear", codes, scale, zero, dtype=np.float32)
    kept: gs.Variable | None = None
    for user in users:
        given = values
        if (user.op in WEIGHTED and user.name not in targets) or _stays_float(user):
            kept = kept or _unchanged(build, values)
            given = kept
        user.inputs = [given if item is tensor else item for item in user.inputs]


def _stays_float(node: gs.Node) -> bool:
    """Whether ONNX Runtime's integer kernel would give something else (1.19 to 1.32).

    QLinearAveragePool counts padding otherwise where ``ceil_mode`` takes a window beyond it, and
    has no ``dilations``: a file with them is refused.
    """
    if node.op != "AveragePool":
        return False
    beyond = bool(node.attrs.get("ceil_mode")) and bool(node.attrs.get("count_include_pad"))
    return beyond or any(step != 1 for step in node.attrs.get("dilations", ()))


def _unchanged(build: Builder, tensor: gs.Tensor) -> gs.Variable:
    """The same values, behind an operator that no runtime removes."""
    return build.node("Max", tensor, build.shared(_LOWEST), dtype=np.float32)
