"""Types and shapes that onnx infers."""

import onnx
from onnx import shape_inference

from onnxsemi._errors import ModelError, one_line


def inferred(model: onnx.ModelProto, *, with_values: bool = False) -> onnx.GraphProto:
    """The graph of a copy, with what is known of every tensor in ``value_info``.

    Args:
        model: Left as it is.
        with_values: Follow values of shapes, too.

    Raises:
        ModelError: If types of the graph contradict each other.
    """
    try:
        return shape_inference.infer_shapes(model, data_prop=with_values).graph
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"onnx cannot infer the shapes of the model: {one_line(error)}") from error
