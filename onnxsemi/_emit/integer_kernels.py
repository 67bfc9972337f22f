"""Which target nodes ONNX Runtime runs on integer kernels, and why it does not run the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxsemi._emit.activations import why_float
from onnxsemi._model.classifier import Classifier
from onnxsemi._plan.bits import BitPlan
from onnxsemi._runtime.sessions import fused

_KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")


@dataclass(frozen=True)
class Kernels:
    """How the targets of a file with quantized activations run.

    Attributes:
        integer: Target node -> integer kernel, such as QLinearConv.
        floating: Target node -> why it runs in float32.
    """

    integer: Mapping[str, str]
    floating: Mapping[str, str]


def kernels_of(path: Path, classifier: Classifier, plan: BitPlan) -> Kernels:
    """Load a file as a default session does, and look at what became of each target node.

    Args:
        path: A file of profile int8.
        classifier: The model that it was made from.
        plan: Bits of every target channel.

    Raises:
        ModelError: If ONNX Runtime refuses the file.
    """
    graph = onnx.load_model_from_string(fused(path.read_bytes())).graph
    kernels = {node.name: node.op_type for node in graph.node if node.op_type in _KERNELS}
    reasons = why_float(classifier, plan)
    unknown = "ONNX Runtime did not fuse it with the activations around it"
    return Kernels(
        {name: kernels[name] for name in reasons if name in kernels},
        {name: reason or unknown for name, reason in reasons.items() if name not in kernels},
    )
