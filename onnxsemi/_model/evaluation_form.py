"""A loaded model -> its judged output as a function in dense float32 and evaluation mode."""

import onnx

from onnxsemi._model.head import judged_output
from onnxsemi._model.sparse_weights import densify
from onnxsemi._model.to_float32 import to_float32
from onnxsemi._model.training_mode import leave_training_mode
from onnxsemi._model.unused_parts import trim


def make_plain(model: onnx.ModelProto, output: str | None) -> tuple[str, ...]:
    """Change a loaded model in place.

    Args:
        model: A model.
        output: Name of the output that holds the class scores, if there are several.

    Returns:
        What a user should know of it, a sentence each.

    Raises:
        ModelError: If the output is not clear, or something cannot be made plain.
    """
    densify(model)
    widened = to_float32(model)
    judged = judged_output(model.graph, output)
    return (*widened, *trim(model, judged), *leave_training_mode(model))
