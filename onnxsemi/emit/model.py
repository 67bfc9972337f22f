"""Plan + classifier -> the compressed ONNX model, at the lowest opset and IR version that serve."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from onnxsemi import __about__
from onnxsemi.bitwidth import FLOAT_BITS, MAX_BITS
from onnxsemi.emit.builder import Builder
from onnxsemi.emit.qdq import weight_path
from onnxsemi.emit.unpack import OPSET, PLAIN_OPSET
from onnxsemi.model.classifier import Classifier
from onnxsemi.model.opset import raised
from onnxsemi.plan import BitPlan
from onnxsemi.quantizer.affine import Scheme


class Profile(StrEnum):
    """Form of the emitted file."""

    QDQ = "qdq"
    """Bit-packed weights behind DequantizeLinear, float32 arithmetic."""


def emit(classifier: Classifier, plan: BitPlan, scheme: Scheme) -> onnx.ModelProto:
    """The classifier with every target weight stored in the plan's bits.

    Args:
        classifier: The float model.
        plan: Bits of every target channel.
        scheme: The quantizer's scheme.

    Returns:
        A model whose inputs, outputs and everything but target weights are the classifier's.

    Raises:
        ModelError: If onnx cannot raise the model to the opset that the plan needs.
    """
    graph = gs.import_onnx(raised(classifier.proto, needed_opset(plan)))
    build = Builder(graph)
    users = {node.name: node for node in graph.nodes}
    for number, site in enumerate(classifier.sites):
        bits = plan.bits[site.layer.name]
        if set(bits) == {FLOAT_BITS}:
            continue
        weight = weight_path(build, str(number), site, bits, scheme)
        for name in site.nodes:
            users[name].inputs[1] = weight
    graph.cleanup().toposort()
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    return _finished(model, {**classifier.properties, **metadata(plan, scheme)})


def metadata(plan: BitPlan, scheme: Scheme) -> dict[str, str]:
    """What the file says of itself, kept in the model's ``metadata_props``."""
    bits = ";".join(f"{name}={list(values)}" for name, values in plan.bits.items())
    return {
        "onnxsemi.version": __about__.VERSION,
        "onnxsemi.profile": Profile.QDQ,
        "onnxsemi.scheme": scheme,
        "onnxsemi.plan_sha256": hashlib.sha256(bits.encode()).hexdigest(),
    }


def needed_opset(plan: BitPlan) -> int:
    """The lowest opset that has the operators which the plan's bitwidths need."""
    used = {value for bits in plan.bits.values() for value in bits}
    return PLAIN_OPSET if used <= {MAX_BITS, FLOAT_BITS} else OPSET


def _finished(model: onnx.ModelProto, properties: Mapping[str, str]) -> onnx.ModelProto:
    """Lowest IR version, no leftovers, metadata (which graphsurgeon drops) written last."""
    del model.graph.value_info[:]
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    model.producer_name, model.producer_version = "onnxsemi", __about__.VERSION
    helper.set_model_props(model, dict(properties))
    return model
