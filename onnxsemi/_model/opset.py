"""Raising a model to a newer opset."""

import onnx
from onnx import version_converter

from onnxsemi._errors import ModelError, one_line
from onnxsemi._model.loader import default_opset


def raised(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model at an opset of at least ``opset``; itself if it is that new already.

    Raises:
        ModelError: If onnx cannot convert it.
    """
    if default_opset(model) >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except (version_converter.ConvertError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"onnx cannot raise the model from opset {default_opset(model)} to {opset}: "
            f"{one_line(error)}; export it at opset {opset}"
        ) from error
