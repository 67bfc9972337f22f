"""A loaded model -> its folded form: constants and BatchNormalization folded, every node named.

The folding is ONNX Runtime's basic-level offline optimisation, which stays inside the standard
operator set. Initializers that are also graph inputs block it (a caller could override them), so
those inputs are removed first.
"""

from itertools import chain, count

import onnx

from onnxsemi._errors import ModelError
from onnxsemi._runtime import sessions as runtime

CONTROL_FLOW = ("If", "Loop", "Scan")
_QUANTIZED = (
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QuantizeLinear",
)
# IR versions below 4 demand that every initializer is an input, which would undo the folding.
_INITIALIZERS_NEED_NO_INPUT = 4


def normalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold a model and name its nodes.

    Raises:
        ModelError: If it is quantized already, uses operators outside the ONNX standard, keeps
            control flow after folding, or ONNX Runtime refuses it.
    """
    _refuse_quantized(model)
    _refuse_foreign(model)
    folded = onnx.load_model_from_string(runtime.fold(_freeze(model).SerializeToString()))
    _refuse_foreign(folded)
    _refuse_control_flow(folded)
    _keep_used_domains(folded)
    _name_nodes(folded)
    del folded.graph.value_info[:]
    return folded


def _freeze(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose initializers are constants, not inputs with a default."""
    frozen = onnx.ModelProto()
    frozen.CopyFrom(model)
    constant = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constant]
    del frozen.graph.input[:]
    frozen.graph.input.extend(inputs)
    frozen.ir_version = max(frozen.ir_version, _INITIALIZERS_NEED_NO_INPUT)
    return frozen


def _refuse_quantized(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"the model is already quantized (node {node.name or node.output[0]!r} is "
                f"{node.op_type}): give the float model it was made from"
            )
    for entry in model.metadata_props:  # profiles whose operators do not show it
        if entry.key == "onnxsemi.profile":
            raise ModelError(
                f"the model is already quantized (by onnxsemi, profile {entry.value}): give the "
                "float model it was made from"
            )


def _refuse_foreign(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ModelError(
                f"node {node.name or node.output[0]!r} is {node.domain}.{node.op_type}, which is "
                "no standard ONNX operator: export the model without runtime-specific optimisation"
            )


def _refuse_control_flow(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in CONTROL_FLOW:
            raise ModelError(
                f"node {node.name or node.output[0]!r} is {node.op_type}: control flow is not "
                "supported; export the model for fixed conditions, for example by tracing"
            )


def _keep_used_domains(model: onnx.ModelProto) -> None:
    """Drop the domains that ONNX Runtime declares on every model that it writes."""
    imports = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Give each unnamed or doubly named node a name of its own: that of its output, if free."""
    taken: set[str] = set()
    nameless: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if not node.name or node.name in taken:
            nameless.append(node)
        else:
            taken.add(node.name)
    for node in nameless:
        output = next(filter(None, node.output))
        numbered = (f"{output}_{number}" for number in count(2))
        node.name = next(name for name in chain([output], numbered) if name not in taken)
        taken.add(node.name)
