"""A model that takes uint8 pixels, as one of floats that hold them, and back.

All that is measured takes float32 images. The input is made float32 and cast to uint8, where every
value from 0 to 255 is the same; what is written takes uint8 again.
"""

import onnx
from onnx import TensorProto, helper

_CAST = "onnxsemi_pixels"


def take_floats(model: onnx.ModelProto) -> None:
    """Make a uint8 input float32, in place; a model without one stays as it is."""
    graph = model.graph
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            for node in graph.node:
                node.input[:] = [_CAST if name == value.name else name for name in node.input]
            cast = helper.make_node("Cast", [value.name], [_CAST], _CAST, to=TensorProto.UINT8)
            graph.node.insert(0, cast)


def take_pixels(model: onnx.ModelProto) -> None:
    """Undo :func:`take_floats`, in place."""
    graph = model.graph
    casts = [node for node in graph.node if node.name == _CAST]
    for cast in casts:
        (image,) = cast.input
        for value in graph.input:
            if value.name == image:
                value.type.tensor_type.elem_type = TensorProto.UINT8
        for node in graph.node:
            node.input[:] = [image if name == _CAST else name for name in node.input]
        graph.node.remove(cast)
