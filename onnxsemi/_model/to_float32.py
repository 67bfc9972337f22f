"""float16 or bfloat16 model -> the same model in float32, which holds each of their values exactly.

ONNX Runtime runs a float16 model on the CPU through casts, and has no bfloat16 convolution there;
measuring and quantizing it in float32 is the same function with less rounding. The result takes and
gives float32.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, numpy_helper

_NARROW: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
_TYPE_ATTRIBUTES = ("to", "dtype")


def to_float32(model: onnx.ModelProto) -> tuple[str, ...]:
    """Make every float16 and bfloat16 tensor, input, output and Cast float32, in place.

    Returns:
        What a user should know of it: a sentence, or none if there was nothing to widen.
    """
    found: set[int] = set()
    for tensor in _tensors(model.graph):
        if tensor.data_type in _NARROW:
            found.add(tensor.data_type)
            values = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    ends = [v.type.tensor_type for v in (*model.graph.input, *model.graph.output)]
    narrow = [end for end in ends if end.elem_type in _NARROW]
    for end in narrow:
        found.add(end.elem_type)
        end.elem_type = TensorProto.FLOAT
    if not found:
        return ()
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NARROW:
                attribute.i = TensorProto.FLOAT
    del model.graph.value_info[:]
    names = " and ".join(_NARROW[kind] for kind in sorted(found, reverse=True))
    now = ": input and output are float32 now" if narrow else ""
    return (f"{names} was widened to float32{now}",)


def _tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
