"""The ends of a classifier: its image input, the output that is judged, the logits behind it."""

from dataclasses import dataclass

import onnx
from onnx import TensorProto

from onnxsemi._errors import ModelError
from onnxsemi._head import Head
from onnxsemi._model.index import GraphIndex
from onnxsemi._model.inference import inferred

_FINAL = ("Softmax", "Sigmoid")
# Between one of them and the output only shape and number format may change. (Raising the opset of
# a Softmax below 13 puts a Flatten before it and a Reshape behind it; a float16 model that gives
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
        head: What the scores are.
        sigmoids: How many Sigmoids an image has; None without a final Sigmoid, or if the model does
            not say.
    """

    image: ImageInput
    output: str
    logits: str
    head: Head = Head.SOFTMAX
    sigmoids: int | None = None

    @property
    def note(self) -> str | None:
        """How a final Sigmoid is judged; None without one."""
        if self.head is Head.SOFTMAX:
            return None
        if self.head is Head.ONE_SIGMOID:
            what = "one Sigmoid: two classes, 0 below one half and 1 above"
            return f"output {self.output!r} is {what}"
        count = "" if self.sigmoids is None else f"{self.sigmoids:,} "
        return f"output {self.output!r} is {count}Sigmoids: judged per label"


def find_ends(model: onnx.ModelProto, wanted: str | None) -> Ends:
    """The ends of a classifier.

    Args:
        model: The whole model, as its shapes are asked for.
        wanted: Name of the output that holds the class scores, if there are several.

    Raises:
        ModelError: If there is not one image input, or the output is not clear, or ends in a
            HardSigmoid.
    """
    graph = model.graph
    output = judged_output(graph, wanted)
    last, image = _last_node(graph, output), image_input(graph)
    operator = None if last is None else last.op_type
    if operator == "HardSigmoid":
        raise ModelError(
            f"output {output!r} comes from a HardSigmoid, of which a probability may be 0 or 1 and "
            "the loss infinite: export the model with a Sigmoid in its place"
        )
    logits = str(last.input[0]) if last is not None and operator in _FINAL else output
    if operator != "Sigmoid":
        return Ends(image, output, logits)
    count = _scores(model, logits, output)
    return Ends(image, output, logits, Head.ONE_SIGMOID if count == 1 else Head.SIGMOIDS, count)


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


def _scores(model: onnx.ModelProto, *names: str) -> int | None:
    """Scores of an image in the first of some tensors, [N, K, ...] or [N], that has a known shape.

    None if the model does not say.
    """
    graph = inferred(model)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    found = (shapes[name] for name in names if shapes.get(name))
    counts = (1 if len(sizes) == 1 else sizes[1] for sizes in found)  # 0: of any size
    return next(filter(None, counts), None)


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
