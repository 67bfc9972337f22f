"""Layers that a file has as a node for each semilayer, and how it says so.

Names of nodes mean nothing: a model may have layers ``block`` and ``block/8``. So what belongs
together stands in the file's metadata, under ``onnxsemi.divided``, as JSON:

    {"block": {"8": ["block/8"], "4": ["block/4"]}}

Of a layer whose weight several nodes share, each node's part is there, in the order of the nodes.
"""

from collections.abc import Mapping

import msgspec
import onnx

from onnxsemi._errors import ModelError

KEY = "onnxsemi.divided"

Divided = Mapping[str, Mapping[int, list[str]]]
"""Layer -> bitwidth -> names of nodes."""


def divided_text(divided: Divided) -> str:
    """As it stands in the file."""
    return msgspec.json.encode(divided).decode()


def read_divided(model: onnx.ModelProto) -> Divided:
    """Read back what a file of profile nodes says.

    Raises:
        ModelError: If it says nothing, or something else.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), "")
    try:
        return msgspec.json.decode(text, type=dict[str, dict[int, list[str]]])
    except (msgspec.DecodeError, RecursionError):
        raise ModelError(
            f"the metadata of the file do not hold {KEY!r}: they were changed, or an older version "
            "wrote the file: write it anew with 'apply'"
        ) from None
