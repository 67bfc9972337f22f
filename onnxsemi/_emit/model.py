"""Rounded plan + classifier -> the compressed ONNX model, at the lowest opset and IR version."""

from collections.abc import Iterator, Mapping

import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from onnxsemi import __about__
from onnxsemi._emit import divided_layers as divided
from onnxsemi._emit.activations import ActivationRanges, integer_nodes, quantize_activations
from onnxsemi._emit.builder import Builder
from onnxsemi._emit.channel_order import Orders
from onnxsemi._emit.coded_sizes import decoding, is_told
from onnxsemi._emit.compaction import slim
from onnxsemi._emit.layout import Parts, groups_of
from onnxsemi._emit.layout.nodes import nodes_apart
from onnxsemi._emit.least_runtime import lowest_runtime
from onnxsemi._emit.profile import FORMS, Form, Profile
from onnxsemi._emit.seal import seal
from onnxsemi._emit.storage.coded import Coded, can_be_signed
from onnxsemi._emit.storage.native import NativeTypes, has_type
from onnxsemi._emit.stored_weights import (
    PLAN,
    StatedSizes,
    Stored,
    emitted_properties,
    read_stored,
)
from onnxsemi._model.bias_input import put_bias
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.opset import raised
from onnxsemi._model.pixels import take_pixels
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme
from onnxsemi._quantizer.rounded_plan import RoundedPlan


def emit(
    classifier: Classifier,
    rounded: RoundedPlan,
    profile: Profile = Profile.QDQ,
    ranges: ActivationRanges | None = None,
) -> onnx.ModelProto:
    """The classifier with every target weight stored in the plan's bits.

    Args:
        classifier: The float model.
        rounded: Codes of every target channel.
        profile: Form of the file.
        ranges: Calibrated ranges of the activations; for profile int8, and only for that.

    Returns:
        A model whose inputs, outputs and everything but target weights are the classifier's.

    Raises:
        ModelError: If onnx cannot raise the model to the opset that the plan needs.
        PlanError: If the profile cannot hold a layer of the plan.
    """
    if profile.quantizes_activations != (ranges is not None):
        raise ValueError(f"profile {profile} with{'' if ranges else 'out'} ranges of activations")
    model = put_together(classifier, rounded, FORMS[profile], ranges)
    take_pixels(model)
    if profile is not Profile.FAKE:
        there = {tensor.name for tensor in classifier.proto.graph.initializer}
        added = {tensor.name for tensor in model.graph.initializer} - there
        dense = FORMS[profile].storage is Coded
        told = set(filter(is_told, added)) if dense else added
        slim(model, keep={classifier.ends.logits, *told}, every_byte=dense)
    own = metadata(rounded, profile, _opset(model)) | emitted_properties(model)
    work = decoding(model, GraphIndex.of(model.graph))
    if work is not None:
        own["onnxsemi.decoding"] = work.to_json()
    _finish(model, {**classifier.properties, **own})
    stored = read_stored(model)
    sizes = StatedSizes(
        source_bytes=classifier.source_bytes,
        float_bytes=4 * classifier.parameters,
        target_weights=rounded.plan.parameters,
        target_bits=_target_bits(rounded, FORMS[profile], stored),
        payload_bytes=stored.payload_bytes,
    )
    model.metadata_props.add(key="onnxsemi.sizes", value=sizes.to_json())
    seal(model, rounded.sha256)
    return model


def _target_bits(rounded: RoundedPlan, form: Form, stored: Stored) -> int:
    """Bits of all target weights: the plan's, or of coded widths what the file holds."""
    if not rounded.coded:
        return rounded.plan.weight_bits
    if form.storage is not Coded:
        return rounded.stored_bits
    return 8 * sum(group.code_bytes for layer in stored.layers for group in layer.groups)


def put_together(
    classifier: Classifier,
    rounded: RoundedPlan,
    form: Form,
    ranges: ActivationRanges | None = None,
) -> onnx.ModelProto:
    """The graph in any combination of storage, layout and tail, with or without activations."""
    graph = gs.import_onnx(raised(classifier.proto, needed_opset(rounded, form)))
    build = Builder(graph)
    signed = rounded.scheme is Scheme.SYMMETRIC
    signed |= form.storage is Coded and can_be_signed(_quantized(rounded))
    storage, orders = form.storage(build, signed=signed), Orders(build)
    parts = Parts(build, storage, form.tail, orders, signed)
    users = {node.name: node for node in graph.nodes}
    for number, site in enumerate(classifier.sites):
        layer, nodes = rounded.layers[site.layer.name], [users[name] for name in site.nodes]
        if layer.bias is not None:
            if len(nodes) != 1:
                raise ValueError(f"layer {site.layer.name!r} has several nodes, each with a bias")
            put_bias(nodes[0].op, nodes[0].inputs, build.stored(f"{number}b", layer.bias))
        if set(layer.bits) != {FLOAT_BITS}:
            form.arrange(parts, str(number), site, groups_of(layer), nodes)
    storage.finish()
    orders.finish()
    if ranges is not None:
        targets = integer_nodes(classifier, rounded.plan)
        logits = classifier.ends.logits
        quantize_activations(build, ranges, targets, logits, signed=form.signed_activations)
    graph.cleanup().toposort()
    model: onnx.ModelProto = gs.export_onnx(graph, do_type_check=False)
    del model.graph.value_info[:]  # of tensors that may go by other names now
    if form.arrange is nodes_apart:
        model.metadata_props.add(key=divided.KEY, value=divided.divided_text(parts.divided))
    return model


def metadata(rounded: RoundedPlan, profile: Profile, opset: int) -> dict[str, str]:
    """What the file says of itself, kept in the model's ``metadata_props``."""
    native = FORMS[profile].storage is NativeTypes
    own_types = {q.bits for q in _quantized(rounded) if native and has_type(q)}
    runtime = lowest_runtime(opset, own_types)
    return {
        "onnxsemi.version": __about__.VERSION,
        "onnxsemi.profile": profile,
        "onnxsemi.scheme": rounded.scheme,
        PLAN: rounded.plan.sha256,
        **({} if runtime is None else {"onnxsemi.lowest_onnxruntime": runtime}),
    }


def needed_opset(rounded: RoundedPlan, form: Form) -> int:
    """The lowest opset that has the operators which the plan's codes need."""
    return max(map(form.storage.opset, _quantized(rounded)), default=1)


def _quantized(rounded: RoundedPlan) -> Iterator[QuantizedChannels]:
    return (found for layer in rounded.layers.values() for found in layer.quantized.values())


def _opset(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if not entry.domain)


def _finish(model: onnx.ModelProto, properties: Mapping[str, str]) -> None:
    """Lowest IR version, no leftovers, metadata (which graphsurgeon drops) written last."""
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    model.producer_name, model.producer_version = "onnxsemi", __about__.VERSION
    helper.set_model_props(model, dict(properties))
