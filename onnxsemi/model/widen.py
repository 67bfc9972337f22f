"""float16 model -> the same model in float32: every float16 value is a float32 value exactly.

ONNX Runtime runs a float16 model on the CPU through casts; measuring and quantizing it in float32
is the same function with less rounding. The result takes and gives float32.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, numpy_helper


def is_float16(model: onnx.ModelProto) -> bool:
    """Whether the graph holds or exchanges float16 tensors."""
    graph = model.graph
    values = (*graph.input, *graph.output)
    return any(tensor.data_type == TensorProto.FLOAT16 for tensor in _tensors(graph)) or any(
        value.type.tensor_type.elem_type == TensorProto.FLOAT16 for value in values
    )


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float16 tensor, input, output and Cast is float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in _tensors(wide.graph):
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    del wide.graph.value_info[:]
    return wide


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
