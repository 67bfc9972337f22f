"""A loaded model -> its judged output as a function in dense float32 and evaluation mode."""

import onnx

from onnxsemi.model.densify import densify
from onnxsemi.model.head import judged_output
from onnxsemi.model.training_mode import leave_training_mode
from onnxsemi.model.trim import trim
from onnxsemi.model.widen import widen


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
    widened = widen(model)
    judged = judged_output(model.graph, output)
    return (*widened, *trim(model, judged), *leave_training_mode(model))
