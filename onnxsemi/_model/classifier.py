"""A classifier that was read: its folded graph, its ends, its target layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxsemi._arrays import Float32Array
from onnxsemi._model.bias_input import give_bias
from onnxsemi._model.float_parts import FloatWeights, left_float
from onnxsemi._model.head import Ends
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.inference import inferred
from onnxsemi._model.targets import Site, Skipped
from onnxsemi._plan.layers import TargetLayer


@dataclass(frozen=True, eq=False)
class Classifier:
    """A normalized model and what was found in it. The proto is never changed.

    Attributes:
        proto: Folded ModelProto at its own opset.
        ends: Its image input, its output and its logits.
        sites: Target layers in graph order.
        skipped: Weighted layers that are no targets, with reasons.
        fingerprint: SHA-256 of the graph as it was loaded.
        source_bytes: Bytes of the file, external data included.
        properties: The file's own ``metadata_props``.
        notes: What reading changed that a user should know, a sentence each.
        facts: What was found of it, by :func:`~onnxsemi._model.fact.fact`.
    """

    proto: onnx.ModelProto
    ends: Ends
    sites: tuple[Site, ...]
    skipped: tuple[Skipped, ...]
    fingerprint: str
    source_bytes: int
    properties: Mapping[str, str]
    notes: tuple[str, ...] = ()
    facts: dict[tuple[object, ...], object] = field(init=False, repr=False, default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What another process is sent: facts are found there again."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"facts": {}}

    @property
    def layers(self) -> tuple[TargetLayer, ...]:
        """The target layers in graph order."""
        return tuple(site.layer for site in self.sites)

    def site(self, layer: str) -> Site:
        """Where a target layer stands."""
        return self._by_name[layer]

    def with_weights(
        self,
        weights: Mapping[str, Float32Array],
        biases: Mapping[str, Float32Array] | None = None,
    ) -> onnx.ModelProto:
        """A copy of the model with other weights, and biases, in some target layers.

        Args:
            weights: Layer name -> float32[O, ...], channels first.
            biases: Layer name -> float32[O], in place of the bias of the layer's only node.

        Raises:
            ValueError: If a layer that is to have a bias has several nodes, or can have none.
        """
        sites = {self.site(name).initializer: self.site(name) for name in weights}
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for tensor in proto.graph.initializer:
            if tensor.name in sites:
                site = sites[tensor.name]
                stored = site.layout.to_stored(weights[site.layer.name])
                tensor.CopyFrom(numpy_helper.from_array(stored, tensor.name))
        nodes = {node.name: node for node in proto.graph.node}
        for layer, bias in (biases or {}).items():
            users = self.site(layer).nodes
            if len(users) != 1:
                raise ValueError(f"layer {layer!r} has several nodes, each with a bias of its own")
            give_bias(proto.graph, nodes[users[0]], bias)
        return proto

    @cached_property
    def index(self) -> GraphIndex:
        """Who makes and who uses each tensor of its graph."""
        return GraphIndex.of(self.proto.graph)

    @cached_property
    def nodes(self) -> Mapping[str, onnx.NodeProto]:
        """The nodes of its graph by name."""
        return {node.name: node for node in self.proto.graph.node}

    def users(self, site: Site) -> list[onnx.NodeProto]:
        """The nodes that take a target layer's weight."""
        return [self.nodes[name] for name in site.nodes]

    @cached_property
    def parameters(self) -> int:
        """Number of float32 values in all initializers."""
        return sum(
            int(numpy_helper.to_array(tensor).size)
            for tensor in self.proto.graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT
        )

    @cached_property
    def left_float(self) -> tuple[FloatWeights, ...]:
        """What stays float32, by layer, largest first; all that is small in one at the end."""
        return left_float(self.index, self.sites, self.skipped)

    @cached_property
    def element_types(self) -> dict[str, np.dtype[Any]]:
        """Element type of every tensor whose type onnx infers."""
        graph = inferred(self.proto)
        return {
            value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.elem_type
        }

    @cached_property
    def _by_name(self) -> dict[str, Site]:
        return {site.layer.name: site for site in self.sites}
