"""The ends of a classifier: its image input, the output that is judged, the logits behind it."""

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from onnxsemi.errors import ModelError
from onnxsemi.model.index import GraphIndex

_NOT_EXCLUSIVE = ("Sigmoid", "HardSigmoid")
_FINAL = ("Softmax", "Sigmoid")
# Between a final Softmax and the output only shape and number format may change. (Raising the opset
# of a Softmax below 13 puts a Flatten before it and a Reshape behind it; a float16 model that gives
# float32 ends in a Cast.)
_SAME_VALUES = ("Cast", "Identity", "Reshape", "Flatten", "Squeeze")


@dataclass(frozen=True)
class ImageInput:
    """The model's one input.

    Attributes:
        name: Tensor name.
        shape: Batch axis first; None for an axis of any size.
        pixels: Whether it takes uint8 pixels as they are; else float32.
    """

    name: str
    shape: tuple[int | None, ...]
    pixels: bool = False

    @property
    def batch(self) -> int | None:
        """The fixed batch size, or None if any will do."""
        return self.shape[0]


@dataclass(frozen=True)
class Ends:
    """Where a classifier takes images and gives scores.

    Attributes:
        image: The image input.
        output: Name of the output that holds the class scores.
        logits: Name of the tensor before a final Softmax or Sigmoid; the output itself if there is
            none.
    """

    image: ImageInput
    output: str
    logits: str


def find_ends(graph: onnx.GraphProto, wanted: str | None, *, exclusive: bool = True) -> Ends:
    """The ends of a classifier.

    Args:
        graph: Its graph.
        wanted: Name of the output that holds the class scores, if there are several.
        exclusive: Whether classes have to exclude each other; else a final Sigmoid will do.

    Raises:
        ModelError: If there is not one image input, or the output is not clear, or its classes do
            not exclude each other though they have to.
    """
    output = judged_output(graph, wanted)
    if exclusive:
        refuse_sigmoid(graph, output)
    return Ends(image_input(graph), output, logits_tensor(graph, output))


def image_input(graph: onnx.GraphProto) -> ImageInput:
    """The one input of floats or pixels that is not an initializer.

    Raises:
        ModelError: If there is not exactly one, or it is of another type, or has no batch axis.
    """
    constant = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constant]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(
            f"a classifier with one image input is needed; this model's inputs: {names}"
        )
    tensor = inputs[0].type.tensor_type
    pixels = tensor.elem_type == TensorProto.UINT8
    if not pixels and tensor.elem_type != TensorProto.FLOAT:
        kind = _type_name(tensor.elem_type)
        raise ModelError(
            f"input {inputs[0].name!r} is {kind}: export the model with an input of floats, or of "
            "uint8 pixels"
        )
    # some exporters write an axis of any size as -1
    shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    if len(shape) < 2:
        raise ModelError(f"input {inputs[0].name!r} has no batch axis (shape {list(shape)})")
    return ImageInput(inputs[0].name, shape, pixels)


def judged_output(graph: onnx.GraphProto, wanted: str | None) -> str:
    """The output that holds the class scores.

    Raises:
        ModelError: If there are several and ``wanted`` names none of them, or it is not float.
    """
    kinds = {str(value.name): value.type.tensor_type.elem_type for value in graph.output}
    listed = ", ".join(repr(name) for name in kinds)
    if wanted is not None and wanted not in kinds:
        raise ModelError(f"`output` {wanted!r} is not an output of the model; it has {listed}")
    if wanted is None and len(kinds) != 1:
        raise ModelError(f"the model has several outputs: choose one with `output` from {listed}")
    name = wanted or next(iter(kinds))
    if kinds[name] not in (TensorProto.FLOAT, TensorProto.UNDEFINED):
        raise ModelError(
            f"output {name!r} is {_type_name(kinds[name])}: the float scores of the classes are "
            "needed; export the model without an ArgMax or TopK behind them"
        )
    return name


def refuse_sigmoid(graph: onnx.GraphProto, output: str) -> None:
    """Refuse a probability of its own for each class: loss and KL are of classes that sum to 1.

    Raises:
        ModelError: If the output comes from a Sigmoid.
    """
    last = _last_node(graph, output)
    if last is not None and last.op_type in _NOT_EXCLUSIVE:
        raise ModelError(
            f"output {output!r} comes from a {last.op_type}: a probability of its own for each "
            "class, where one label an image is needed; if there is one, export the model without "
            "it (the first answer stays the same); of a single logit z export Concat(0, z); from "
            "Python a metric can judge several labels an image"
        )


def logits_tensor(graph: onnx.GraphProto, output: str) -> str:
    """The input of a final Softmax or Sigmoid, or the output itself if there is none."""
    last = _last_node(graph, output)
    return str(last.input[0]) if last is not None and last.op_type in _FINAL else output


def _last_node(graph: onnx.GraphProto, output: str) -> onnx.NodeProto | None:
    """The node that the values of an output come from; None if they are the model's input."""
    index = GraphIndex.of(graph)
    name = output
    while (position := index.producer.get(name)) is not None:
        node: onnx.NodeProto = graph.node[position]
        if node.op_type not in _SAME_VALUES:
            return node
        name = node.input[0]
    return None


def _type_name(elem_type: int) -> str:
    known = elem_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(elem_type) if known else f"of unknown type {elem_type}"
